import Testing

@testable import PoolCore

@Suite struct LinkedListTests {
  private func numbers(_ list: borrowing LinkedList<Slot>, _ base: SlotPointer) -> [Int] {
    var (all, node) = ([Int](), list.first)
    while let current = node {
      all.append(current - base)
      node = current.pointee.next
    }
    return all
  }

  private func backwards(_ list: borrowing LinkedList<Slot>, _ base: SlotPointer) -> [Int] {
    var (all, node) = ([Int](), list.last)
    while let current = node {
      all.append(current - base)
      node = current.pointee.previous
    }
    return all
  }

  @Test func aListAgreesWithAnArrayOverRandomSteps() {
    let base = SlotPointer.allocate(capacity: 12)
    base.initialize(repeating: Slot(), count: 12)
    defer { base.deallocate() }
    var random = SystemRandomNumberGenerator()
    var list = LinkedList<Slot>()
    var model: [Int] = []
    for _ in 0..<20_000 {
      let absent = (0..<12).filter { !model.contains($0) }
      switch Int.random(in: 0..<6, using: &random) {
      case 0:
        if let new = absent.randomElement() {
          list.append(base + new)
          model.append(new)
        }
      case 1:
        if let new = absent.randomElement() {
          list.prepend(base + new)
          model.insert(new, at: 0)
        }
      case 2:
        if let new = absent.randomElement(), let place = model.indices.randomElement() {
          list.insert(base + new, before: base + model[place])
          model.insert(new, at: place)
        }
      case 3, 4:
        if let place = model.indices.randomElement() { list.remove(base + model.remove(at: place)) }
      default:
        let first = list.popFirst().map { $0 - base }
        #expect(first == (model.isEmpty ? nil : model.removeFirst()))
      }
      let (forth, back, count) = (numbers(list, base), backwards(list, base), list.count)
      #expect(forth == model && back == model.reversed() && count == model.count)
    }
  }

  @Test func aRemovedNodePointsNowhere() {
    let base = SlotPointer.allocate(capacity: 3)
    base.initialize(repeating: Slot(), count: 3)
    defer { base.deallocate() }
    var list = LinkedList<Slot>()
    for index in 0..<3 { list.append(base + index) }
    list.remove(base + 1)
    #expect(base[1].next == nil && base[1].previous == nil)
    #expect(base[0].next == base + 2 && base[2].previous == base)
  }
}
