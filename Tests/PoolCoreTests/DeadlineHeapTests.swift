import Testing

@testable import PoolCore

@Suite struct DeadlineHeapTests {
  @Test(arguments: [1, 2, 3, 7, 64]) func aHeapAgreesWithASortedArrayOverRandomSteps(capacity: Int) {
    let base = SlotPointer.allocate(capacity: capacity)
    base.initialize(repeating: Slot(), count: capacity)
    let buffer = UnsafeMutablePointer<SlotPointer>.allocate(capacity: capacity)
    defer {
      base.deallocate()
      buffer.deallocate()
    }
    var heap = DeadlineHeap<Slot>()
    _ = heap.adopt(buffer, capacity: capacity)
    var model: [Int: Instant] = [:]
    for _ in 0..<20_000 {
      let index = Int.random(in: 0..<capacity)
      if model[index] == nil {
        let due = Instant.random(in: 0..<40)
        let isIn = heap.insert(base + index, due: due)
        #expect(isIn)
        model[index] = due
      } else {
        heap.remove(base + index)
        model[index] = nil
      }
      let (count, nextDue) = (heap.count, heap.nextDue)
      #expect(count == model.count && nextDue == model.values.min() ?? .never)
      #expect((0..<capacity).allSatisfy { (base[$0].heapIndex >= 0) == (model[$0] != nil) })
    }
    var last = Instant.min
    while let first = heap.first {
      #expect(first.pointee.due >= last)
      last = first.pointee.due
      heap.remove(first)
    }
  }

  @Test func aFullHeapTakesNothing() {
    let base = SlotPointer.allocate(capacity: 2)
    base.initialize(repeating: Slot(), count: 2)
    let buffer = UnsafeMutablePointer<SlotPointer>.allocate(capacity: 1)
    defer {
      base.deallocate()
      buffer.deallocate()
    }
    var heap = DeadlineHeap<Slot>()
    _ = heap.adopt(buffer, capacity: 1)
    let answers = [heap.insert(base, due: 1), heap.insert(base, due: 2), heap.insert(base + 1, due: 2)]
    #expect(answers == [true, false, false])
    #expect(base[1].heapIndex == -1)
    heap.remove(base + 1)
    let count = heap.count
    #expect(count == 1)
  }

  @Test func aLargerBufferKeepsTheOrder() {
    let base = SlotPointer.allocate(capacity: 8)
    base.initialize(repeating: Slot(), count: 8)
    let small = UnsafeMutablePointer<SlotPointer>.allocate(capacity: 4)
    let large = UnsafeMutablePointer<SlotPointer>.allocate(capacity: 8)
    defer {
      base.deallocate()
      small.deallocate()
      large.deallocate()
    }
    var heap = DeadlineHeap<Slot>()
    let none = heap.adopt(small, capacity: 4)
    #expect(none == nil)
    for index in 0..<4 { heap.insert(base + index, due: Instant(10 - index)) }
    let old = heap.adopt(large, capacity: 8)
    #expect(old == small)
    for index in 4..<8 { heap.insert(base + index, due: Instant(10 - index)) }
    let first = heap.first
    #expect(first == base + 7)
  }
}
