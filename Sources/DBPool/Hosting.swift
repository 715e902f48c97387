import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// What the host of a hosted pool tells: opened, failed, put back, closed.
///
/// A token is in force while its session's `lent` holds it; that is looked at and changed under the pool's lock. While
/// `pool_adopt` works outside the lock, `lent` holds no token at all: another call with the same one is refused.
enum Hosting {
  // MARK: Opening

  static func adopt(_ record: RecordPointer, _ token: HostedToken, _ descriptor: Int32) -> Int32 {
    guard record.pointee.isHosted else { return notHosted() }
    guard pool_is_socket(descriptor) else { return Failure.set(POOL_EINVAL, "fd is not an open socket") }
    record.enter()
    let session: SessionPointer
    switch find(record, token) {
    case .found(let found): session = found
    case .refused(let code): return refuse(record, code)
    }
    guard session.pointee.slot.state == .opening else {
      record.leave()
      return Failure.set(POOL_EINVAL, "the token was not granted as POOL_FRESH, or was adopted before")
    }
    // Under the lock, though system calls: a fork finds the duplicate in the session, or none.
    let copy = Descriptor(duplicating: descriptor)
    let error = pool_errno()
    guard copy.isOpen else {
      record.leave()
      return Failure.system(error, "cannot duplicate the descriptor")
    }
    let old = session.pointee.descriptor
    session.pointee.descriptor = copy
    session.pointee.socketNumber = descriptor
    session.pointee.watchSerial &+= 1
    session.pointee.lent.store(0, ordering: .relaxed)
    let watchToken = session.pointee.watchToken
    record.leave()
    Watch.release(old)
    let failed = process.pointee.poller.watch(copy.number, token: watchToken)
    let code = finishAdoption(record, session, token, failed)
    if code == POOL_OK { lookAgain(session, copy, watchToken) }
    return code
  }

  private static func finishAdoption(
    _ record: RecordPointer, _ session: SessionPointer, _ token: HostedToken, _ failed: Int32
  ) -> Int32 {
    record.enter()
    let isClosed = record.pointee.core.isClosed
    let isLoan = !record.pointee.core.settings.hasWorkers
    if isClosed { record.pointee.core.freshAbandoned(session.slotPointer) }
    if isClosed || (!isLoan && failed == 0) {
      session.pointee.handle = HostedToken.next(token.handle)
    } else {
      session.pointee.lent.store(token.handle, ordering: .relaxed)
    }
    guard failed == 0, !isClosed else {
      let copy = takeDescriptor(session)
      record.unlockAndSignal()
      Watch.release(copy)
      return isClosed ? Failure.set(POOL_ECLOSED) : Failure.system(failed, "cannot watch the descriptor")
    }
    record.pointee.lastError.clear()
    record.pointee.core.adopted(session.slotPointer, now: Clock.now)
    if isLoan { stamp(record, session) }
    record.unlockAndSignal()
    // It has a lifetime now, which only the upkeep thread sees.
    Upkeep.signal(record)
    record.notifyChanges()
    return POOL_OK
  }

  /// The watch tells the end of a session once, and perhaps did before the core knew the session.
  private static func lookAgain(_ session: SessionPointer, _ descriptor: Descriptor, _ watchToken: UInt64) {
    let record = session.pointee.record
    let isWatched = record.pointee.options.given.check != POOL_CHECK_NONE
    guard isWatched, Readiness.of(descriptor.number) == .gone else { return }
    record.enter()
    if session.pointee.watchToken == watchToken { record.pointee.core.lost(session.slotPointer, now: Clock.now) }
    record.unlockAndSignal()
  }

  static func fail(
    _ record: RecordPointer, _ token: HostedToken, _ sqlState: UnsafePointer<CChar>?,
    _ message: UnsafePointer<CChar>?
  ) -> Int32 {
    guard record.pointee.isHosted else { return notHosted() }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: FixedText.capacity) { buffer in
      guard let start = buffer.baseAddress else { return Failure.set(POOL_EINTERNAL) }
      var cause = Message(start, capacity: FixedText.capacity)
      cause.appendCleaned(cString: message)
      record.enter()
      let session: SessionPointer
      switch find(record, token) {
      case .found(let found): session = found
      case .refused(let code): return refuse(record, code)
      }
      guard session.pointee.slot.state == .opening else {
        record.leave()
        return Failure.set(POOL_EINVAL, "the token was not granted as POOL_FRESH, or was adopted before")
      }
      if start[0] != 0 { record.pointee.lastError.set(cause.cString) }
      end(record, session, token) { $0.freshFailed(session.slotPointer, kind(sqlState), now: Clock.now) }
      Log.write(record, POOL_LOG_WARNING) {
        $0.append("cannot connect: ")
        $0.append(cString: cause.cString)
      }
      return POOL_OK
    }
  }

  // MARK: Giving back

  static func put(_ record: RecordPointer, _ token: HostedToken) -> Int32 {
    record.enter()
    let session: SessionPointer
    switch find(record, token) {
    case .found(let found): session = found
    case .refused(let code): return refuse(record, code)
    }
    switch session.pointee.slot.state {
    case .leased: break
    case .opening:
      record.leave()
      return Failure.set(
        POOL_EINVAL, "the token was granted as POOL_FRESH: pool_adopt it first, or pool_discard it")
    case .empty, .idle, .resetting, .checking, .retiring, .closing, .stale, .ending:
      return refuse(record, POOL_ENOTLEASED)
    }
    // Before the core may lend the slot to somebody else.
    session.pointee.lent.store(0, ordering: .relaxed)
    session.pointee.isDoubtful = false
    session.pointee.handle = HostedToken.next(token.handle)
    let isKept = record.pointee.core.releaseHosted(session.slotPointer, now: record.loanClock)
    if !isKept {
      session.pointee.handle = token.handle
      session.pointee.lent.store(token.handle, ordering: .relaxed)
    }
    let answer = (isKept ? 0 : POOL_CLOSE) | (record.pointee.core.hasCollectable ? POOL_COLLECT : 0)
    if isKept, record.pointee.core.isQuiet {
      record.leave()
    } else {
      record.unlockAndSignal()
    }
    return answer
  }

  static func discard(_ record: RecordPointer, _ token: HostedToken) -> Int32 {
    record.enter()
    let session: SessionPointer
    switch find(record, token) {
    case .found(let found): session = found
    case .refused(let code): return refuse(record, code)
    }
    let slot = session.slotPointer
    switch session.pointee.slot.state {
    case .opening where session.pointee.slot.isOccupied:
      end(record, session, token) { $0.freshVacated(slot, now: Clock.now) }
    case .opening: end(record, session, token) { $0.freshFailed(slot, .transient, now: Clock.now) }
    case .leased: end(record, session, token) { $0.discardHosted(slot, now: record.loanClock) }
    case .ending: end(record, session, token) { $0.confirmed(slot) }
    case .empty, .idle, .resetting, .checking, .retiring, .closing, .stale: return refuse(record, POOL_ENOTLEASED)
    }
    return POOL_OK
  }

  static func report(_ record: RecordPointer, _ token: HostedToken, _ fate: SessionFate) -> Int32 {
    record.enter()
    let session: SessionPointer
    switch find(record, token) {
    case .found(let found): session = found
    case .refused(let code): return refuse(record, code)
    }
    let slot = session.slotPointer
    switch session.pointee.slot.state {
    case .leased: break
    case .opening:
      record.leave()
      return Failure.set(
        POOL_EINVAL, "the token was granted as POOL_FRESH: pool_adopt it first, or pool_fail")
    case .empty, .idle, .resetting, .checking, .retiring, .closing, .stale, .ending:
      return refuse(record, POOL_ENOTLEASED)
    }
    switch fate {
    case .stays: break
    case .isReadOnly: record.pointee.core.spoiled(slot)
    case .ends: record.pointee.core.lost(slot, now: Clock.now)
    }
    let isLeaving = record.pointee.core.isLeaving(slot)
    record.leave()
    return isLeaving ? POOL_CLOSE : POOL_OK
  }

  // MARK: Tokens

  /// Gives all slots their first tokens. Under the lock.
  static func number(_ record: RecordPointer) {
    for index in 0..<record.pointee.sessions.count {
      if let session = record.pointee.sessions.element(index) { number(session) }
    }
  }

  static func number(_ session: SessionPointer) {
    session.pointee.handle = HostedToken.make(
      slot: session.pointee.index, generation: UInt32(truncatingIfNeeded: pool_random()))
  }

  /// In a forked child, before its slots start over: tokens up to now are the parent's, and those to come go on from
  /// there. Under the lock.
  static func noteForked(_ record: RecordPointer) {
    for index in 0..<record.pointee.sessions.count {
      guard let session = record.pointee.sessions.element(index) else { return }
      session.pointee.forkedHandle = session.pointee.handle
    }
  }

  static func numberOn(_ record: RecordPointer) {
    for index in 0..<record.pointee.sessions.count {
      guard let session = record.pointee.sessions.element(index) else { return }
      session.pointee.handle = HostedToken.next(session.pointee.forkedHandle)
    }
  }

  /// In a new pool nothing was lent before a fork. Under the lock.
  static func forgetForked(_ record: RecordPointer) {
    for index in 0..<record.pointee.sessions.count {
      record.pointee.sessions.element(index)?.pointee.forkedHandle = 0
    }
  }

  private enum Lookup {
    case found(SessionPointer)
    case refused(Int32)
  }

  /// The session of a token in force. Under the lock.
  private static func find(_ record: RecordPointer, _ token: HostedToken) -> Lookup {
    guard token.handle != 0, let session = record.pointee.sessions.element(token.slot) else {
      return .refused(POOL_EFOREIGN)
    }
    if session.pointee.lent.load(ordering: .relaxed) == token.handle { return .found(session) }
    if token.isEarlier(than: session.pointee.forkedHandle) { return .refused(POOL_EFORKED) }
    return .refused(token.isEarlier(than: session.pointee.handle) ? POOL_ENOTLEASED : POOL_EFOREIGN)
  }

  /// Under the lock; lets go of it.
  private static func refuse(_ record: RecordPointer, _ code: Int32) -> Int32 {
    let isClosed = record.pointee.core.isClosed
    record.leave()
    return Failure.set(isClosed && code != POOL_EFORKED ? POOL_ECLOSED : code)
  }

  // MARK: Small steps

  /// The token's last word: it is void from here on. Under the lock; lets go of it.
  private static func end(
    _ record: RecordPointer, _ session: SessionPointer, _ token: HostedToken, _ event: (inout PoolCore) -> Void
  ) {
    session.pointee.lent.store(0, ordering: .relaxed)
    session.pointee.isDoubtful = false
    session.pointee.handle = HostedToken.next(token.handle)
    event(&record.pointee.core)
    // A session that ends keeps it, to see the server's end.
    let old = session.pointee.slot.state == .closing ? Descriptor() : takeDescriptor(session)
    record.unlockAndSignal()
    record.notifyChanges()
    Watch.release(old)
  }

  /// Under the lock.
  private static func takeDescriptor(_ session: SessionPointer) -> Descriptor {
    let descriptor = session.pointee.descriptor
    session.pointee.descriptor = Descriptor()
    session.pointee.socketNumber = -1
    session.pointee.watchSerial &+= 1
    return descriptor
  }

  /// When the loan began, by the clock of its end. Under the lock.
  private static func stamp(_ record: RecordPointer, _ session: SessionPointer) {
    record.pointee.core.stamp(session.slotPointer, now: record.loanClock)
  }

  private static func kind(_ sqlState: UnsafePointer<CChar>?) -> ConnectFailure {
    guard let sqlState else { return .transient }
    let length = strnlen(sqlState, 6)
    let bytes = UnsafeBufferPointer(
      start: UnsafeRawPointer(sqlState).assumingMemoryBound(to: UInt8.self), count: length)
    switch FailureKind(sqlState: bytes) {
    case .permanent: return .permanent
    case .tooManyConnections: return .tooManyConnections
    case .transient: return .transient
    }
  }

  private static func notHosted() -> Int32 {
    Failure.set(POOL_EINVAL, "the pool makes its connections itself: it is not from pool_create_hosted")
  }
}
