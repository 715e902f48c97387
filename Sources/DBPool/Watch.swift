import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// The watch over the sockets of sessions. Upkeep thread only, but for its beginning (`ConnectorAttempt`).
enum Watch {
  /// An event of the poller.
  static func handle(_ token: UInt64, _ events: UInt32) {
    guard let record = process.pointee.records.element(Int(token >> 42)),
      let session = record.pointee.sessions.element(Int((token >> 24) & 0x3FFFF))
    else { return }
    record.enter()
    guard session.pointee.watchToken == token else { return record.leave() }
    let isEnd = Poller.isEnd(events)
    switch session.pointee.slot.state {
    case .closing:
      // Before our own close is done the connection is still there; afterwards the watch tells again.
      let isBegun = session.pointee.slot.isStarted && session.pointee.connection == nil
      record.leave()
      if isBegun, isDrained(session) { closed(session) }
    case .resetting, .checking:
      record.leave()
      Background.step(session)
    case .idle, .leased, .opening, .retiring, .stale, .ending:
      if isEnd, record.pointee.options.given.check != POOL_CHECK_NONE {
        record.pointee.core.lost(session.slotPointer, now: Clock.now)
        session.setApart()
      }
      record.unlockAndWake()
      Upkeep.signal(record)
    case .empty:
      record.leave()
    }
  }

  /// Drops what the server still sends; true when it has closed its end.
  private static func isDrained(_ session: SessionPointer) -> Bool {
    for _ in 0..<64 {
      let count = pool_drop_received(session.pointee.descriptor.number)
      if count == 0 { return true }
      if count < 0 { return pool_errno() != EAGAIN && pool_errno() != EINTR }
    }
    return false
  }

  private static func closed(_ session: SessionPointer) {
    let record = session.pointee.record
    end(session)
    record.enter()
    record.pointee.core.closed(session.slotPointer)
    record.unlockAndWake()
    Upkeep.signal(record)
  }

  /// A host's libpq that has dropped a session without a goodbye (the server wrote nonsense) has closed its descriptor,
  /// and ours alone keeps the connection: the server would never end it. So ours says that nothing more will come.
  static func hurry(_ record: RecordPointer, since: Instant) {
    var index = 0
    while let session = nextAwaited(record, &index, since) {
      // Only this thread closes the descriptor, so it is the same without the lock.
      if session.pointee.descriptor.isOurs { _ = shutdown(session.pointee.descriptor.number, Int32(SHUT_WR)) }
    }
  }

  private static func nextAwaited(_ record: RecordPointer, _ index: inout Int, _ since: Instant) -> SessionPointer? {
    record.enter()
    defer { record.leave() }
    while index < record.pointee.sessions.count, let session = record.pointee.sessions.element(index) {
      index += 1
      let slot = session.slotPointer
      if slot.pointee.state == .closing, slot.pointee.isStarted, slot.pointee.since <= since { return session }
    }
    return nil
  }

  /// Lets go of our descriptor.
  static func end(_ session: SessionPointer) {
    let descriptor = session.pointee.descriptor
    session.pointee.record.enter()
    session.pointee.descriptor = Descriptor()
    session.pointee.watchSerial &+= 1
    session.pointee.record.leave()
    release(descriptor)
  }

  /// Ends the watch on a descriptor that no session has any more, and closes it. Without the lock.
  static func release(_ descriptor: Descriptor) {
    var descriptor = descriptor
    if descriptor.isOurs { process.pointee.poller.ignore(descriptor.number) }
    descriptor.close()
  }

  /// The borrower's PQreset, which did not come to its end, gave the connection another socket: watch that one.
  static func move(_ session: SessionPointer, to socket: Int32) {
    end(session)
    let descriptor = Descriptor(duplicating: socket)
    session.pointee.record.enter()
    session.pointee.descriptor = descriptor
    session.pointee.socketNumber = socket
    let token = session.pointee.watchToken
    session.pointee.record.leave()
    if descriptor.isOpen { _ = process.pointee.poller.watch(descriptor.number, token: token) }
  }

  /// The set was lost: what still has a descriptor of ours is watched again, the rest counts as lost.
  static func renew(_ record: RecordPointer) {
    for index in 0..<record.pointee.sessions.count {
      guard let session = record.pointee.sessions.element(index) else { continue }
      let descriptor = session.pointee.descriptor
      if descriptor.isOurs {
        _ = process.pointee.poller.watch(descriptor.number, token: session.pointee.watchToken)
      } else if session.pointee.connection != nil || descriptor.isOpen {
        record.enter()
        record.pointee.core.lost(session.slotPointer, now: Clock.now)
        session.setApart()
        record.unlockAndWake()
      }
    }
    Upkeep.signal(record)
  }
}
