import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

// The C functions, in the header's order. `Signatures.swift` ties each to its declaration there.

@_cdecl("pool_options_init")
public func poolOptionsInit(_ options: UnsafeMutablePointer<pool_options_t>?, _ size: Int) -> Int32 {
  guard let options, size >= Options.firstSize else {
    return Failure.set(POOL_EINVAL, "pool_options_init: options is NULL, or size is not that of a pool_options_t")
  }
  var defaults = Options.defaults
  defaults.size = size
  memset(options, 0, size)
  withUnsafeBytes(of: &defaults) { own in
    UnsafeMutableRawPointer(options).copyMemory(
      from: own.baseAddress.unsafelyUnwrapped, byteCount: Swift.min(own.count, size))
  }
  return POOL_OK
}

@_cdecl("pool_create")
public func poolCreate(
  _ conninfo: UnsafePointer<CChar>?, _ options: UnsafePointer<pool_options_t>?
) -> OpaquePointer? {
  withoutCancellation { PoolLife.create(conninfo, options) }
}

@_cdecl("pool_get")
public func poolGet(_ pool: OpaquePointer?, _ timeout: Int32) -> UnsafeMutableRawPointer? {
  guard let record = Registry.recordOrVoid(pool) else { return getSlowly(pool, timeout) }
  let seat = record.pointee.idleStack.pop()
  guard seat != 0 else { return getIdle(pool, timeout, record) }
  let session = Seats.session(record, seat)
  guard timeout >= POOL_TIMEOUT_INFINITE, let loan = Loan(popped: session, by: token(pool)) else {
    return getAnother(pool, timeout, session)
  }
  return UnsafeMutableRawPointer(bitPattern: loan.session.pointee.handle)
}

/// One that the state machine has.
@inline(never)
private func getIdle(_ pool: OpaquePointer?, _ timeout: Int32, _ record: RecordPointer) -> UnsafeMutableRawPointer? {
  // A lock that is taken is left to the slow path too. What comes onto the stack meanwhile may stay there.
  guard record.pointee.isPlain, timeout >= POOL_TIMEOUT_INFINITE, record.pointee.lock.tryLock() else {
    return getSlowly(pool, timeout)
  }
  let now = process.pointee.coarseNow.load(ordering: .relaxed)
  // `isTry`: a plain pool pings nothing.
  guard record.holds(token(pool)), let slot = record.pointee.core.tryAcquire(now: now, isTry: true) else {
    record.pointee.lock.unlock()
    return getSlowly(pool, timeout)
  }
  let session = Session.of(slot)
  let handle = session.pointee.handle
  session.pointee.lent.store(handle, ordering: .relaxed)
  if !record.pointee.isHosted { session.prepareLoan() }
  record.pointee.lock.unlock()
  return UnsafeMutableRawPointer(bitPattern: handle)
}

/// The one from the stack is not to be lent, or not by this pool: the state machine deals with it.
@inline(never)
private func getAnother(
  _ pool: OpaquePointer?, _ timeout: Int32, _ session: SessionPointer
) -> UnsafeMutableRawPointer? {
  Returning.giveBack(session)
  return getSlowly(pool, timeout)
}

@inline(never)
private func getSlowly(_ pool: OpaquePointer?, _ timeout: Int32) -> UnsafeMutableRawPointer? {
  withoutCancellation {
    guard let record = open(pool) else { return nil }
    return Borrowing(record, token(pool), timeout: timeout)?.run()
  }
}

@_cdecl("pool_put")
public func poolPut(_ pool: OpaquePointer?, _ connection: UnsafeMutableRawPointer?) -> Int32 {
  guard let connection, let record = Registry.record(pool) else { return putSlowly(pool, connection) }
  guard let session = ConnectionTable.takeFirst(record, UInt(bitPattern: connection)) else {
    return putElse(pool, connection, record)
  }
  return Returning.putTaken(record, session, connection)
}

/// A token of a hosted pool, or a connection that is not the first in its bucket, or not lent.
@inline(never)
private func putElse(_ pool: OpaquePointer?, _ connection: UnsafeMutableRawPointer, _ record: RecordPointer) -> Int32 {
  if record.pointee.isHosted { return Hosting.put(record, HostedToken(connection)) }
  guard let session = ConnectionTable.takeFurther(record, UInt(bitPattern: connection)) else {
    return putSlowly(pool, connection)
  }
  return Returning.putTaken(record, session, connection)
}

@inline(never)
private func putSlowly(_ pool: OpaquePointer?, _ connection: UnsafeMutableRawPointer?) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let connection else { return Failure.set(POOL_EINVAL, "conn is NULL") }
  return Returning.putSlowly(record, connection, isDiscard: false)
}

@_cdecl("pool_close")
public func poolClose(_ pool: OpaquePointer?) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  return PoolLife.close(record, token(pool))
}

@_cdecl("pool_get_start")
public func poolGetStart(
  _ pool: OpaquePointer?, _ timeout: Int32, _ ticket: UnsafeMutablePointer<pool_ticket_t>?
) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let ticket else { return Failure.set(POOL_EINVAL, "ticket is NULL") }
  return Tickets.start(record, token(pool), timeout, ticket)
}

@_cdecl("pool_get_wait")
public func poolGetWait(
  _ pool: OpaquePointer?, _ ticket: pool_ticket_t, _ wait: Int32
) -> UnsafeMutableRawPointer? {
  withoutCancellation {
    guard let record = open(pool) else { return nil }
    return Tickets.wait(record, token(pool), ticket, wait)
  }
}

@_cdecl("pool_get_cancel")
public func poolGetCancel(_ pool: OpaquePointer?, _ ticket: pool_ticket_t) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  return Tickets.cancel(record, token(pool), ticket)
}

@_cdecl("pool_discard")
public func poolDiscard(_ pool: OpaquePointer?, _ connection: UnsafeMutableRawPointer?) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let connection else { return Failure.set(POOL_EINVAL, "conn is NULL") }
  return Returning.putSlowly(record, connection, isDiscard: true)
}

@_cdecl("pool_report")
public func poolReport(
  _ pool: OpaquePointer?, _ connection: UnsafeMutableRawPointer?, _ sqlState: UnsafePointer<CChar>?
) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let connection else { return Failure.set(POOL_EINVAL, "conn is NULL") }
  return Reporting.report(record, connection, sqlState)
}

@_cdecl("pool_wait")
public func poolWait(_ pool: OpaquePointer?, _ timeout: Int32) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  return PoolWait(record, token(pool), timeout: timeout)?.untilFilled() ?? pool_errcode()
}

@_cdecl("pool_resize")
public func poolResize(_ pool: OpaquePointer?, _ minSize: Int32, _ maxSize: Int32) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  return PoolLife.resize(record, token(pool), minSize, maxSize)
}

@_cdecl("pool_pause")
public func poolPause(_ pool: OpaquePointer?) -> Int32 {
  change(pool) { $0.pointee.core.pause() }
}

@_cdecl("pool_resume")
public func poolResume(_ pool: OpaquePointer?) -> Int32 {
  change(pool) { $0.pointee.core.resume(now: Clock.now) }
}

@_cdecl("pool_drain")
public func poolDrain(_ pool: OpaquePointer?, _ timeout: Int32) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let wait = PoolWait(record, token(pool), timeout: timeout) else { return pool_errcode() }
  let code = change(pool) { $0.pointee.core.drain() }
  return code == POOL_OK ? wait.untilEmpty() : code
}

@_cdecl("pool_reconnect")
public func poolReconnect(_ pool: OpaquePointer?) -> Int32 {
  change(pool) {
    $0.pointee.core.reconnect(now: Clock.now)
    $0.setAllApart()
    $0.pointee.loginTurns.doubt()
  }
}

@_cdecl("pool_create_hosted")
public func poolCreateHosted(_ options: UnsafePointer<pool_options_t>?) -> OpaquePointer? {
  withoutCancellation { PoolLife.createHosted(options) }
}

@_cdecl("pool_adopt")
public func poolAdopt(_ pool: OpaquePointer?, _ token: UnsafeMutableRawPointer?, _ descriptor: Int32) -> Int32 {
  withoutCancellation {
    guard let record = open(pool) else { return pool_errcode() }
    guard let token else { return Failure.set(POOL_EINVAL, "token is NULL") }
    return Hosting.adopt(record, HostedToken(token), descriptor)
  }
}

@_cdecl("pool_fail")
public func poolFail(
  _ pool: OpaquePointer?, _ token: UnsafeMutableRawPointer?, _ sqlState: UnsafePointer<CChar>?,
  _ message: UnsafePointer<CChar>?
) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let token else { return Failure.set(POOL_EINVAL, "token is NULL") }
  return Hosting.fail(record, HostedToken(token), sqlState, message)
}

@_cdecl("pool_collect")
public func poolCollect(
  _ pool: OpaquePointer?, _ tokens: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ count: Int32, _ timeout: Int32
) -> Int32 {
  withoutCancellation { collect(pool, tokens, count, timeout) }
}

private func collect(
  _ pool: OpaquePointer?, _ tokens: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ count: Int32, _ timeout: Int32
) -> Int32 {
  guard pool != nil else { return Collecting.fromAny(timeout) }
  guard let record = open(pool) else { return pool_errcode() }
  guard let tokens, count > 0 else {
    return Failure.set(POOL_EINVAL, "tokens is NULL, or n is not above 0")
  }
  return Collecting.from(record, token(pool), UnsafeMutableBufferPointer(start: tokens, count: Int(count)), timeout)
}

@_cdecl("pool_stats")
public func poolStats(_ pool: OpaquePointer?, _ stats: UnsafeMutablePointer<pool_stats_t>?) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  guard let stats else { return Failure.set(POOL_EINVAL, "stats is NULL") }
  return PoolStatistics.read(record, token(pool), stats)
}

@_cdecl("pool_errcode")
public func poolErrcode() -> Int32 { pool_error_slot_read().pointee.code }

@_cdecl("pool_errmsg")
public func poolErrmsg() -> UnsafePointer<CChar>? {
  UnsafeRawPointer(pool_error_slot_read()).advanced(by: pool_error_message_offset()).assumingMemoryBound(to: CChar.self)
}

@_cdecl("pool_strerror")
public func poolStrerror(_ code: Int32) -> UnsafePointer<CChar>? { ErrorText.of(code) }

@_cdecl("pool_version")
public func poolVersion() -> UnsafePointer<CChar>? { ErrorText.constant("0.1.0") }

// MARK: What several share

@inline(__always)
private func token(_ pool: OpaquePointer?) -> UInt64 { UInt64(UInt(bitPattern: pool)) }

/// The record of a pool, or nil with the error set.
private func open(_ pool: OpaquePointer?) -> RecordPointer? {
  // The first use in a forked child opens descriptors and starts a thread.
  switch withoutCancellation({ Registry.find(pool) }) {
  case .found(let record): return record
  case .failed(POOL_EINVAL):
    Failure.set(POOL_EINVAL, pool == nil ? "pool is NULL" : "not a pool")
    return nil
  case .failed(POOL_ECLOSED):
    Failure.set(POOL_ECLOSED)
    return nil
  case .failed:
    // Set where it happened.
    return nil
  }
}

/// A change of the whole pool, under its lock.
private func change(_ pool: OpaquePointer?, _ body: (RecordPointer) -> Void) -> Int32 {
  guard let record = open(pool) else { return pool_errcode() }
  record.enter()
  guard record.holds(token(pool)), !record.pointee.core.isClosed else {
    record.leave()
    return Failure.set(POOL_ECLOSED)
  }
  body(record)
  record.unlockAndWake()
  record.notifyChanges()
  Upkeep.signal(record)
  return POOL_OK
}
