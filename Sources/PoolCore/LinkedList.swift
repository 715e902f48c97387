/// A node of a `LinkedList`. It stands in at most one list at a time.
public protocol Linked: ~Copyable {
  var next: UnsafeMutablePointer<Self>? { get set }
  var previous: UnsafeMutablePointer<Self>? { get set }
}

/// A doubly linked list through the nodes themselves: no memory of its own, every operation O(1).
public struct LinkedList<Node: Linked & ~Copyable>: ~Copyable {
  public typealias Element = UnsafeMutablePointer<Node>

  public private(set) var first: Element?
  public private(set) var last: Element?
  public private(set) var count = 0

  public init() {}

  public var isEmpty: Bool { count == 0 }

  public mutating func prepend(_ node: Element) {
    node.pointee.previous = nil
    node.pointee.next = first
    if let first { first.pointee.previous = node } else { last = node }
    first = node
    count &+= 1
  }

  public mutating func append(_ node: Element) {
    node.pointee.next = nil
    node.pointee.previous = last
    if let last { last.pointee.next = node } else { first = node }
    last = node
    count &+= 1
  }

  public mutating func insert(_ node: Element, before other: Element) {
    guard let earlier = other.pointee.previous else { return prepend(node) }
    node.pointee.previous = earlier
    node.pointee.next = other
    earlier.pointee.next = node
    other.pointee.previous = node
    count &+= 1
  }

  public mutating func remove(_ node: Element) {
    let (earlier, later) = (node.pointee.previous, node.pointee.next)
    if let earlier { earlier.pointee.next = later } else { first = later }
    if let later { later.pointee.previous = earlier } else { last = earlier }
    node.pointee.next = nil
    node.pointee.previous = nil
    count &-= 1
  }

  public mutating func popFirst() -> Element? {
    guard let node = first else { return nil }
    removeFirst(node)
    return node
  }

  /// `remove` of the node that is `first`, in fewer steps.
  @inline(__always)
  mutating func removeFirst(_ node: Element) {
    let later = node.pointee.next
    first = later
    if let later { later.pointee.previous = nil } else { last = nil }
    node.pointee.next = nil
    count &-= 1
  }

  /// Forgets all nodes without touching them.
  public mutating func removeAll() {
    first = nil
    last = nil
    count = 0
  }
}
