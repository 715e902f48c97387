import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
#endif

/// A stack of idle slots in front of the state machine, in one atomic word: `pool_get` and `pool_put` of an ordinary
/// connection are one compare-and-exchange each and take no lock.
///
/// To the state machine what lies here is lent: callers pass it among themselves. Whoever takes the pool's lock shuts the
/// stack first and hands its content to the state machine (`shut`), which so knows all that is idle; the stack is opened
/// again, empty, when the lock is let go, unless the state machine wants to see every put (`PoolCore.isOrdinary`).
///
/// - Ownership: a seat is in the word, or with one caller, or with the state machine. It leaves the word by the exchange
///   that removes it, so one caller has it; it enters by its owner's.
/// - No wake-up is lost: one who waits has shut the stack under the lock before it joins the queue, and it stays shut while
///   anybody waits. A put before the shutting is in what was handed over; a put after it finds the stack shut, and takes
///   the lock.
/// - Pause, close and the limits hold at once: the same word says whether the stack is open and what lies on it.
/// - Memory: a push releases what its caller wrote, a pop acquires it.
///
/// After Treiber, "Systems Programming: Coping with Parallelism", 1986, with the list in the head itself.
public struct IdleStack: ~Copyable {
  private let word = Atomic<UInt64>(IdleStackWord.shut.bits)

  public init() {}

  /// Takes the seat on top; 0 when there is none or the stack is shut.
  @inline(__always)
  public func pop() -> UInt8 {
    var seen = word.load(ordering: .relaxed)
    while true {
      let content = IdleStackWord(bits: seen)
      if content.top == 0 { return 0 }
      let (done, _) = word.compareExchange(
        expected: seen, desired: content.popped.bits, successOrdering: .acquiring, failureOrdering: .relaxed)
      if done { return content.top }
      seen = standBack()
    }
  }

  /// Puts its caller's seat on top; false when the stack is full or shut.
  @inline(__always)
  public func push(_ seat: UInt8) -> Bool {
    var seen = word.load(ordering: .relaxed)
    while true {
      let content = IdleStackWord(bits: seen)
      guard content.hasRoom else { return false }
      let (done, _) = word.compareExchange(
        expected: seen, desired: content.pushing(seat).bits, successOrdering: .releasing, failureOrdering: .relaxed)
      if done { return true }
      seen = standBack()
    }
  }

  /// Another processor was faster: it may go on for a moment, with the word in its cache, instead of both taking it from each
  /// other at every step. What the word is then.
  @inline(__always)
  private func standBack() -> UInt64 {
    for _ in 0..<Self.turns { pool_cpu_relax() }
    return word.load(ordering: .relaxed)
  }

  private static var turns: Int { 64 }

  /// As `push`, and makes room on a full stack: the seat that lay lowest is its caller's then. nil when the stack is shut;
  /// 0 when there was room.
  public func pushDisplacing(_ seat: UInt8) -> UInt8? {
    var seen = word.load(ordering: .relaxed)
    while true {
      let content = IdleStackWord(bits: seen)
      if content.isShut { return nil }
      let displaced = content.hasRoom ? 0 : content.bottom
      let kept = content.hasRoom ? content : content.withoutBottom
      let (done, found) = word.compareExchange(
        expected: seen, desired: kept.pushing(seat).bits, successOrdering: .acquiringAndReleasing,
        failureOrdering: .relaxed)
      if done { return displaced }
      seen = found
    }
  }

  /// Shuts it and takes what lay on it. Under the pool's lock.
  @inline(__always)
  public func shut() -> IdleStackWord {
    if IdleStackWord(bits: word.load(ordering: .relaxed)).isShut { return .empty }
    return IdleStackWord(bits: word.exchange(IdleStackWord.shut.bits, ordering: .acquiring))
  }

  /// Opens it, empty. It is shut. Under the pool's lock.
  @inline(__always)
  public func open() { word.store(IdleStackWord.empty.bits, ordering: .releasing) }

  public var isShut: Bool { IdleStackWord(bits: word.load(ordering: .relaxed)).isShut }
}
