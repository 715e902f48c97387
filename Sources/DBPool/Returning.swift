import CDBPool
import CLibpq
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// `pool_put` and `pool_discard`.
///
/// The loan ends with the exchange of `lent` for 0: of several threads that put the same connection one goes on, and
/// only that one touches the connection.
enum Returning {
  @inline(__always)
  static func put(_ record: RecordPointer, _ connection: UnsafeMutableRawPointer) -> Int32 {
    let address = UInt(bitPattern: connection)
    guard let session = ConnectionTable.lentSession(record, address), take(session, address) else {
      return putSlowly(record, connection, isDiscard: false)
    }
    end(session, condition(session, Connection(OpaquePointer(connection))))
    return POOL_OK
  }

  @inline(never)
  static func putSlowly(_ record: RecordPointer, _ connection: UnsafeMutableRawPointer, isDiscard: Bool) -> Int32 {
    if record.pointee.isHosted {
      let token = HostedToken(connection)
      return isDiscard ? Hosting.discard(record, token) : Hosting.put(record, token)
    }
    let address = UInt(bitPattern: connection)
    record.pointee.lock.lock()
    guard let session = ConnectionTable.session(record, address) else { return refuse(record, address) }
    record.pointee.lock.unlock()
    guard take(session, address) else { return notLeased(record) }
    end(session, isDiscard ? .discarded : condition(session, Connection(OpaquePointer(connection))))
    return POOL_OK
  }

  /// Of a connection that the pool has and nobody borrows.
  static func notLeased(_ record: RecordPointer) -> Int32 {
    record.pointee.lock.lock()
    let isClosed = record.pointee.core.isClosed
    record.pointee.lock.unlock()
    return Failure.set(isClosed ? POOL_ECLOSED : POOL_ENOTLEASED)
  }

  /// Why an address is no connection of the pool's. Under the lock; lets go of it.
  static func refuse(_ record: RecordPointer, _ address: UInt) -> Int32 {
    let isForked = record.pointee.forkedLoans?.contains(address) ?? false
    let isClosed = record.pointee.core.isClosed
    let isFinished = !isForked && !isClosed && SessionEvents.wasFinished(record, address)
    record.pointee.lock.unlock()
    if isFinished {
      return Failure.set(POOL_ENOTLEASED, "the connection is no more: its borrower has called PQfinish on it")
    }
    return Failure.set(isForked ? POOL_EFORKED : isClosed ? POOL_ECLOSED : POOL_EFOREIGN)
  }

  @inline(__always)
  private static func take(_ session: SessionPointer, _ address: UInt) -> Bool {
    session.pointee.lent.compareExchange(
      expected: address, desired: 0, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed
    ).exchanged
  }

  /// What libpq knows of the connection, without a system call. After a PQreset of the borrower's it is another session
  /// and not configured, so it is replaced; so is one that an error has shown to be unfit (`SessionEvents`).
  @inline(__always)
  private static func condition(_ session: SessionPointer, _ connection: Connection) -> Condition {
    // `open && idle` is 0 in each of libpq's enums.
    let oddities = connection.rawStatus | connection.rawTransactionStatus | connection.rawModes
    let isSame =
      connection.socket == session.pointee.expectedSocket.load(ordering: .relaxed)
      && connection.backendPID == session.pointee.backendPID
    return oddities == 0 && isSame ? .idle : unusual(session, connection)
  }

  @inline(never)
  private static func unusual(_ session: SessionPointer, _ connection: Connection) -> Condition {
    let expected = session.pointee.expectedSocket.load(ordering: .relaxed)
    guard expected != Session.unfit, connection.socket == session.pointee.socketNumber,
      connection.backendPID == session.pointee.backendPID
    else { return .broken }
    if expected == Session.doubted {
      if connection.isReadOnly { return .broken }
      session.pointee.expectedSocket.store(session.pointee.socketNumber, ordering: .relaxed)
    }
    let condition = unclean(connection)
    // What is reset first is looked at afterwards: the borrower's own SET may be all there is to it.
    guard condition == .idle, session.pointee.record.pointee.options.given.reset < POOL_RESET_DISCARD_ALL else {
      return condition
    }
    return session.isOnTarget(connection) ? .idle : .broken
  }

  private static func unclean(_ connection: Connection) -> Condition {
    guard connection.isOpen, !connection.isPipelining, !connection.isNonblocking else { return .broken }
    switch connection.transactionStatus {
    case .idle: return .idle
    case .inTransaction, .inError: return .inTransaction
    case .active, .unknown: return .broken
    }
  }

  @inline(__always)
  private static func end(_ session: SessionPointer, _ condition: Condition) {
    let record = session.pointee.record
    let now = record.loanClock
    record.pointee.lock.lock()
    record.pointee.core.release(session.slotPointer, condition, now: now)
    if record.pointee.core.isQuiet { return record.pointee.lock.unlock() }
    record.unlockAndSignal()
  }
}
