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
    let session = ConnectionTable.session(record, address)
    let isForked = record.pointee.forkedLoans?.contains(address) ?? false
    let isClosed = record.pointee.core.isClosed
    record.pointee.lock.unlock()
    guard let session else {
      if isForked { return Failure.set(POOL_EFORKED) }
      return Failure.set(isClosed ? POOL_ECLOSED : POOL_EFOREIGN)
    }
    guard take(session, address) else { return Failure.set(POOL_ENOTLEASED) }
    end(session, isDiscard ? .discarded : condition(session, Connection(OpaquePointer(connection))))
    return POOL_OK
  }

  @inline(__always)
  private static func take(_ session: SessionPointer, _ address: UInt) -> Bool {
    session.pointee.lent.compareExchange(
      expected: address, desired: 0, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed
    ).exchanged
  }

  /// What libpq knows of the connection, without a system call. After a PQreset of the borrower's it is another session:
  /// not configured and not watched, so it is replaced.
  @inline(__always)
  private static func condition(_ session: SessionPointer, _ connection: Connection) -> Condition {
    // `open && idle` is 0 in each of libpq's enums.
    let oddities = connection.rawStatus | connection.rawTransactionStatus | connection.rawModes
    let isSame =
      connection.socket == session.pointee.socketNumber && connection.backendPID == session.pointee.backendPID
    if oddities == 0, isSame { return .idle }
    return isSame ? unclean(connection) : .broken
  }

  @inline(never)
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
    let now =
      record.pointee.options.given.exact_times == 0
      ? process.pointee.coarseNow.load(ordering: .relaxed) : Clock.now
    record.pointee.lock.lock()
    record.pointee.core.release(session.slotPointer, condition, now: now)
    if record.pointee.core.isQuiet { return record.pointee.lock.unlock() }
    record.unlockAndSignal()
  }
}
