/// What a `DeadlineHeap` orders: a node that knows when it is due and where it stands.
public protocol Due: ~Copyable {
  var due: Instant { get set }
  /// Its place in the heap, -1 when it is in none.
  var heapIndex: Int32 { get set }
}

/// A binary heap of nodes by deadline, in a buffer handed to it. Insert and remove cost O(log n), the next deadline
/// nothing. It never grows by itself: the owner sees to `capacity` before it inserts.
public struct DeadlineHeap<Node: Due & ~Copyable>: ~Copyable {
  public typealias Element = UnsafeMutablePointer<Node>

  private var entries: UnsafeMutablePointer<Element>?
  public private(set) var capacity = 0
  public private(set) var count = 0

  public init() {}

  /// Moves into a larger buffer and returns the old one for the owner to free.
  public mutating func adopt(_ buffer: UnsafeMutablePointer<Element>, capacity: Int) -> UnsafeMutablePointer<Element>? {
    let old = entries
    if let old { buffer.update(from: old, count: count) }
    entries = buffer
    self.capacity = capacity
    return old
  }

  public var first: Element? {
    guard count > 0, let entries else { return nil }
    return entries[0]
  }

  /// When the first is due; `.never` if there is none.
  public var nextDue: Instant { first?.pointee.due ?? .never }

  /// False, and nothing done, when the buffer is full.
  @discardableResult
  public mutating func insert(_ node: Element, due: Instant) -> Bool {
    guard count < capacity, node.pointee.heapIndex < 0 else { return false }
    node.pointee.due = due
    count += 1
    siftUp(node, from: count - 1)
    return true
  }

  /// Takes the node out; nothing happens if it is not in.
  public mutating func remove(_ node: Element) {
    let index = Int(node.pointee.heapIndex)
    guard index >= 0, index < count, let entries else { return }
    node.pointee.heapIndex = -1
    count -= 1
    guard index < count else { return }
    let last = entries[count]
    if index > 0, last.pointee.due < entries[(index - 1) / 2].pointee.due {
      siftUp(last, from: index)
    } else {
      siftDown(last, from: index)
    }
  }

  /// Forgets all nodes without touching them.
  public mutating func removeAll() { count = 0 }

  private func place(_ node: Element, at index: Int) {
    entries?[index] = node
    node.pointee.heapIndex = Int32(truncatingIfNeeded: index)
  }

  private func siftUp(_ node: Element, from start: Int) {
    guard let entries else { return }
    var index = start
    while index > 0 {
      let parent = (index - 1) / 2
      guard node.pointee.due < entries[parent].pointee.due else { break }
      place(entries[parent], at: index)
      index = parent
    }
    place(node, at: index)
  }

  private func siftDown(_ node: Element, from start: Int) {
    guard let entries else { return }
    var index = start
    while true {
      var child = 2 * index + 1
      guard child < count else { break }
      if child + 1 < count, entries[child + 1].pointee.due < entries[child].pointee.due { child += 1 }
      guard entries[child].pointee.due < node.pointee.due else { break }
      place(entries[child], at: index)
      index = child
    }
    place(node, at: index)
  }
}
