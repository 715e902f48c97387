import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// `pool_collect`: the tokens of idle objects that the host is to close.
///
/// No arrival is missed: one who waits takes the value of `process.collectable` before looking; whoever makes a slot
/// stale advances it afterwards, under the pool's lock.
enum Collecting {
  typealias Tokens = UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>

  static func from(_ record: RecordPointer, _ token: UInt64, _ tokens: Tokens, _ timeout: Int32) -> Int32 {
    guard record.pointee.isHosted else {
      return Failure.set(POOL_EINVAL, "the pool makes its connections itself: it is not from pool_create_hosted")
    }
    if timeout != 0, pool_callback_get() == token { return Failure.set(POOL_EDEADLOCK) }
    return wait(timeout) { fetch(record, token, tokens) }
  }

  /// Waits until any hosted pool has tokens.
  static func fromAny(_ timeout: Int32) -> Int32 {
    wait(timeout) { hasAny ? 1 : 0 }
  }

  /// Lets those who wait look again: a pool was closed.
  static func wake() {
    process.pointee.collectable.advance()
    process.pointee.collectable.wake()
  }

  /// `look`: more than 0 = done, 0 = nothing yet, less = an error, which is set.
  private static func wait(_ timeout: Int32, _ look: () -> Int32) -> Int32 {
    guard timeout >= POOL_TIMEOUT_INFINITE else {
      return Failure.set(POOL_EINVAL, "timeout_ms is below -2; give milliseconds, 0 or POOL_TIMEOUT_INFINITE")
    }
    let deadline = Deadline.after(timeout, from: Clock.now)
    var isOver = timeout == 0
    while true {
      let seen = process.pointee.collectable.value
      let found = look()
      if found != 0 || isOver { return found }
      isOver = process.pointee.collectable.park(seen: seen, until: deadline) == .timedOut
    }
  }

  private static func fetch(_ record: RecordPointer, _ token: UInt64, _ tokens: Tokens) -> Int32 {
    record.enter()
    guard record.holds(token) else {
      record.leave()
      return Failure.set(POOL_ECLOSED)
    }
    var count = 0
    while count < Swift.min(tokens.count, 64), let task = nextTask(record) {
      tokens[count] = task
      count += 1
    }
    let isClosed = record.pointee.core.isClosed
    record.leave()
    return count == 0 && isClosed ? Failure.set(POOL_ECLOSED) : Int32(truncatingIfNeeded: count)
  }

  /// An object to close, or else a slot to open a session for. Under the lock.
  private static func nextTask(_ record: RecordPointer) -> UnsafeMutableRawPointer? {
    if let slot = record.pointee.core.takeStale() {
      let session = Session.of(slot)
      session.pointee.lent.store(session.pointee.handle, ordering: .relaxed)
      return UnsafeMutableRawPointer(bitPattern: session.pointee.handle)
    }
    guard let slot = record.pointee.core.takeOffer() else { return nil }
    let loan = Loan(Session.of(slot), isChecked: true)
    loan.begin()
    return loan.hand()
  }

  private static var hasAny: Bool {
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    var isFound = false
    Registry.visit { record in
      // Another record's flag may change meanwhile: then `collectable` advances.
      guard !isFound, record.pointee.isHosted else { return }
      record.enter()
      isFound = Token.isPlausible(record.pointee.token.load(ordering: .relaxed)) && record.pointee.core.hasCollectable
      record.leave()
    }
    return isFound
  }
}
