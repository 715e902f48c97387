import CLibpq
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// What libpq tells of a connection while it is lent: errors of the server, PQreset, PQfinish.
///
/// Called by libpq in whatever thread uses the connection, and for every result: nothing here waits, and an ordinary
/// result takes no lock. In a forked child the connections of before the fork are the parent's: nothing is done there.
enum SessionEvents {
  /// For a new connection. False: out of memory.
  static func register(_ connection: Connection, _ session: SessionPointer) -> Bool {
    connection.register({ SessionEvents.handle($0, $1, $2) }, name: "dbpool", context: session)
  }

  /// Never 0: libpq would take that for a failure of the query.
  private static func handle(
    _ event: PGEventId, _ details: UnsafeMutableRawPointer?, _ context: UnsafeMutableRawPointer?
  ) -> Int32 {
    guard let details, let session = context?.assumingMemoryBound(to: Session.self) else { return 1 }
    switch event {
    case PGEVT_RESULTCREATE:
      let created = details.assumingMemoryBound(to: PGEventResultCreate.self).pointee
      if let result = created.result, let pointer = created.conn { look(session, pointer, at: result) }
    case PGEVT_CONNRESET:
      let reset = details.assumingMemoryBound(to: PGEventConnReset.self).pointee
      if let pointer = reset.conn, !isParents(session) { replaced(session, pointer) }
    case PGEVT_CONNDESTROY:
      let destroyed = details.assumingMemoryBound(to: PGEventConnDestroy.self).pointee
      if let pointer = destroyed.conn, !isParents(session) { finished(session, pointer) }
    default: break
    }
    return 1
  }

  /// The pool was not used yet in this forked child, so its sessions are those of the parent.
  private static func isParents(_ session: SessionPointer) -> Bool {
    session.pointee.record.pointee.token.load(ordering: .relaxed) & Token.forkedBit != 0
  }

  /// A result. Of the pool's own queries, on a connection that is not lent, the pool sees the failure itself.
  @inline(__always)
  private static func look(_ session: SessionPointer, _ pointer: OpaquePointer, at result: OpaquePointer) {
    let fate = SessionFate(result: result)
    if fate != .stays { judge(session, Connection(pointer), fate) }
  }

  @inline(never)
  private static func judge(_ session: SessionPointer, _ connection: Connection, _ fate: SessionFate) {
    guard session.pointee.lent.load(ordering: .relaxed) == UInt(bitPattern: connection.pointer), !isParents(session)
    else { return }
    switch fate {
    case .stays: return
    case .isReadOnly:
      guard !session.pointee.target.wantsReadOnly else { return }
      // Either the borrower's own READ ONLY transaction, or the server tells of its change only behind the error.
      guard connection.isReadOnly else {
        let expected = session.pointee.expectedSocket.load(ordering: .relaxed)
        if expected == session.pointee.socketNumber || expected == Session.apart {
          session.pointee.expectedSocket.store(Session.doubted, ordering: .relaxed)
        }
        return
      }
    case .ends: break
    }
    session.pointee.expectedSocket.store(Session.unfit, ordering: .relaxed)
  }

  /// Somebody else than the pool has ended the connection of this address. Under the lock.
  static func wasFinished(_ record: RecordPointer, _ address: UInt) -> Bool {
    for index in 0..<record.pointee.sessions.count {
      if record.pointee.sessions.element(index)?.pointee.finished == address { return true }
    }
    return false
  }

  // MARK: PQreset

  /// It is another session now: not configured, so `pool_put` replaces it. Until then it is watched, and counts, and is
  /// kept from forked children, as the one before.
  private static func replaced(_ session: SessionPointer, _ pointer: OpaquePointer) {
    session.pointee.expectedSocket.store(Session.unfit, ordering: .relaxed)
    let record = session.pointee.record
    let socket = Connection(pointer).socket
    record.enter()
    guard session.pointee.lent.load(ordering: .relaxed) == UInt(bitPattern: pointer) else {
      if session.pointee.configuring == pointer { session.pointee.trespass = .reset }
      return record.leave()
    }
    // Under the lock, though system calls: a fork finds the duplicate in the session, or none.
    let copy = Descriptor(duplicating: socket)
    let old = session.pointee.descriptor
    session.pointee.descriptor = copy
    session.pointee.attemptSocket = copy.isOpen ? Descriptor() : Descriptor(number: socket)
    session.pointee.socketNumber = socket
    session.pointee.watchSerial &+= 1
    let token = session.pointee.watchToken
    record.leave()
    Watch.release(old)
    if copy.isOpen { _ = process.pointee.poller.watch(copy.number, token: token) }
  }

  // MARK: PQfinish

  /// Somebody else than the pool ends the connection: its memory is gone when this returns. If it is lent the loan ends
  /// here; if not, it is the worst of misuses, and at least nobody is lent it any more.
  private static func finished(_ session: SessionPointer, _ pointer: OpaquePointer) {
    let record = session.pointee.record
    let address = UInt(bitPattern: pointer)
    let wasLent = session.pointee.lent.compareExchange(
      expected: address, desired: 0, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed
    ).exchanged
    record.enter()
    guard session.pointee.connection == pointer else {
      // The pool's own PQfinish, or that of `configure`.
      if session.pointee.configuring == pointer { session.pointee.trespass = .finish }
      return record.leave()
    }
    if session.pointee.isListed {
      ConnectionTable.remove(session)
      session.pointee.isListed = false
    }
    session.pointee.connection = nil
    session.pointee.finished = address
    if wasLent {
      record.pointee.core.release(session.slotPointer, .broken, now: record.loanClock)
    } else {
      record.pointee.core.lost(session.slotPointer, now: Clock.now)
      session.setApart()
    }
    record.unlockAndSignal()
    record.notifyChanges()
  }
}
