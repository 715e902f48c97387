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
  /// The loan has ended by `take`.
  @inline(__always)
  static func putTaken(
    _ record: RecordPointer, _ session: SessionPointer, _ connection: UnsafeMutableRawPointer
  ) -> Int32 {
    if isOrdinary(session, Connection(OpaquePointer(connection))), record.pointee.idleStack.push(session.pointee.seat) {
      return POOL_OK
    }
    return putApart(session, connection)
  }

  /// As `putTaken`, with the lock.
  @inline(never)
  private static func putApart(_ session: SessionPointer, _ connection: UnsafeMutableRawPointer) -> Int32 {
    end(session, condition(session, Connection(OpaquePointer(connection))))
  }

  @inline(never)
  static func putSlowly(_ record: RecordPointer, _ connection: UnsafeMutableRawPointer, isDiscard: Bool) -> Int32 {
    if record.pointee.isHosted {
      let token = HostedToken(connection)
      return isDiscard ? Hosting.discard(record, token) : Hosting.put(record, token)
    }
    let address = UInt(bitPattern: connection)
    record.enter()
    guard let session = ConnectionTable.session(record, address) else { return refuse(record, address) }
    record.leave()
    guard session.take(address) else { return notLeased(record) }
    return end(session, isDiscard ? .discarded : condition(session, Connection(OpaquePointer(connection))))
  }

  /// Of a connection that the pool has and nobody borrows.
  static func notLeased(_ record: RecordPointer) -> Int32 {
    record.enter()
    let isClosed = record.pointee.core.isClosed
    record.leave()
    return Failure.set(isClosed ? POOL_ECLOSED : POOL_ENOTLEASED)
  }

  /// Why an address is no connection of the pool's. Under the lock; lets go of it.
  static func refuse(_ record: RecordPointer, _ address: UInt) -> Int32 {
    let isForked = record.pointee.forkedLoans?.contains(address) ?? false
    let isClosed = record.pointee.core.isClosed
    let isFinished = !isForked && !isClosed && SessionEvents.wasFinished(record, address)
    record.leave()
    if isFinished {
      return Failure.set(POOL_ENOTLEASED, "the connection is no more: its borrower has called PQfinish on it")
    }
    return Failure.set(isForked ? POOL_EFORKED : isClosed ? POOL_ECLOSED : POOL_EFOREIGN)
  }

  /// What libpq knows of the connection, without a system call: open, idle, in no unusual mode, and still the session that
  /// the pool made. PQtransactionStatus tells idle only of a connection whose PQstatus is CONNECTION_OK.
  @inline(__always)
  private static func isOrdinary(_ session: SessionPointer, _ connection: Connection) -> Bool {
    connection.rawTransactionStatus == 0 && !connection.isPipelining && !connection.isNonblocking
      && connection.socket == session.pointee.expectedSocket.load(ordering: .relaxed)
      && connection.backendPID == session.pointee.backendPID
  }

  /// After a PQreset of the borrower's it is another session and not configured, so it is replaced; so is one that an error
  /// has shown to be unfit (`SessionEvents`).
  private static func condition(_ session: SessionPointer, _ connection: Connection) -> Condition {
    isOrdinary(session, connection) ? .idle : unusual(session, connection)
  }

  private static func unusual(_ session: SessionPointer, _ connection: Connection) -> Condition {
    let expected = session.pointee.expectedSocket.load(ordering: .relaxed)
    guard expected != Session.unfit, connection.socket == session.pointee.socketNumber,
      connection.backendPID == session.pointee.backendPID
    else { return .broken }
    if expected == Session.doubted {
      if connection.isReadOnly { return .broken }
      // Ordinary again from its next loan on.
      session.pointee.expectedSocket.store(Session.apart, ordering: .relaxed)
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

  @inline(never)
  private static func end(_ session: SessionPointer, _ condition: Condition) -> Int32 {
    let record = session.pointee.record
    let now = record.loanClock
    if mustForgetBorrower(record, condition) {
      forgetBorrower(session)
    } else if displace(session, now: now) {
      return POOL_OK
    }
    let isLost = condition == .broken && session.pointee.connection.map { !Connection($0).isOpen } ?? false
    record.enter()
    // Before the watch has seen it: those who wait do not all try at once then.
    if isLost { record.pointee.core.lost(session.slotPointer, now: now) }
    record.pointee.core.release(session.slotPointer, condition, now: now)
    if record.pointee.core.isQuiet {
      record.leave()
    } else {
      record.unlockAndSignal()
    }
    return POOL_OK
  }

  /// Others than its next borrower will use the connection, or finish it.
  private static func mustForgetBorrower(_ record: RecordPointer, _ condition: Condition) -> Bool {
    condition != .idle || record.pointee.options.given.reset >= POOL_RESET_DISCARD_ALL
      || record.pointee.isStopping.load(ordering: .relaxed)
  }

  /// What a borrower has libpq call and write to may be gone when the loan is over.
  private static func forgetBorrower(_ session: SessionPointer) {
    // Gone when the borrower has called PQfinish on it meanwhile.
    guard let pointer = session.pointee.connection else { return }
    Connection(pointer).forgetUser(
      keeping: session.pointee.noticeHooks, noticeReceiver: session.pointee.noticeReceiver,
      noticeProcessor: { Log.notice($0, $1) }, noticeContext: session.pointee.record)
  }

  /// The idle stack was full: the session that lay lowest goes to the state machine instead. Holds the lock and leaves the
  /// stack open: to the state machine what lies there is lent. False when it is shut.
  private static func displace(_ session: SessionPointer, now: Instant) -> Bool {
    let record = session.pointee.record
    guard !record.pointee.idleStack.isShut, session.pointee.expectedSocket.load(ordering: .relaxed) >= 0 else {
      return false
    }
    record.pointee.lock.lock()
    guard let displaced = record.pointee.idleStack.pushDisplacing(session.pointee.seat) else {
      record.pointee.lock.unlock()
      return false
    }
    if displaced != 0 {
      record.pointee.core.release(Seats.session(record, displaced).slotPointer, .idle, now: now)
    }
    let isQuiet = record.pointee.core.isQuiet
    record.pointee.lock.unlock()
    if !isQuiet { Upkeep.signal(record) }
    return true
  }

  /// What was popped from the idle stack and is not lent.
  static func giveBack(_ session: SessionPointer) {
    let record = session.pointee.record
    record.enter()
    record.pointee.core.release(session.slotPointer, .idle, now: record.loanClock)
    record.unlockAndSignal()
  }
}

extension RecordPointer {
  /// No connection that is lent now may go to the idle stack. Under the lock.
  func setAllApart() {
    for index in 0..<pointee.sessions.count { pointee.sessions.element(index)?.setApart() }
  }
}
