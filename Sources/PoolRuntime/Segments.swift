import CPoolShims
import Synchronization

/// A table that grows by segments and never moves or frees one: a reader without a lock never touches freed memory, and
/// the address of an element is its own for the life of the process. Segment k has 16·2^k elements.
///
/// Elements are looked up by any thread; the table is grown under its owner's lock.
public struct Segments<Element: ~Copyable>: ~Copyable {
  private static var levels: Int { 20 }
  private static var firstBits: Int { 4 }

  /// The address of `levels` words, each the address of a segment or 0.
  private let directory = Atomic<UInt>(0)
  private let size = Atomic<Int>(0)

  /// Elements that exist. Any thread.
  public var count: Int { size.load(ordering: .acquiring) }

  public init() {}

  public var limit: Int { (1 << (Self.levels + Self.firstBits)) - (1 << Self.firstBits) }

  /// The element at `index`, nil if it was never made. Any thread.
  @inline(__always)
  public func element(_ index: Int) -> UnsafeMutablePointer<Element>? {
    guard index >= 0, index < limit, let directory = words else { return nil }
    let position = index &+ (1 << Self.firstBits)
    let level = Int.bitWidth &- 1 &- position.leadingZeroBitCount &- Self.firstBits
    let offset = position &- (1 << (level &+ Self.firstBits))
    let segment = directory[level].load(ordering: .acquiring)
    guard let base = UnsafeMutablePointer<Element>(bitPattern: segment) else { return nil }
    return base + offset
  }

  /// How many elements the next segment has.
  public var nextSegmentCount: Int { count + (1 << Self.firstBits) }

  /// Adds a segment whose elements `make` initialises; false when there is no memory. `make` gets each element's
  /// memory and index. Under the owner's lock; what it allocates it allocates before, see `prepare`.
  public func add(
    _ segment: UnsafeMutablePointer<Element>, make: (UnsafeMutablePointer<Element>, Int) -> Void
  ) -> Bool {
    guard count < limit, let words else { return false }
    let first = count
    let added = nextSegmentCount
    for offset in 0..<added { make(segment + offset, first + offset) }
    let level = Int.bitWidth - 1 - (first + (1 << Self.firstBits)).leadingZeroBitCount - Self.firstBits
    words[level].store(UInt(bitPattern: segment), ordering: .releasing)
    size.store(first + added, ordering: .releasing)
    return true
  }

  /// Makes the directory, once; false when there is no memory. Under the owner's lock.
  public func prepare() -> Bool {
    if words != nil { return true }
    guard let memory = Memory.allocate(Atomic<UInt>.self, count: Self.levels) else { return false }
    for level in 0..<Self.levels { (memory + level).initialize(to: Atomic<UInt>(0)) }
    directory.store(UInt(bitPattern: memory), ordering: .releasing)
    return true
  }

  @inline(__always)
  private var words: UnsafeMutablePointer<Atomic<UInt>>? {
    UnsafeMutablePointer<Atomic<UInt>>(bitPattern: directory.load(ordering: .acquiring))
  }
}
