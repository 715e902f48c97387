import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// Resets and pings: queries that the upkeep thread runs on connections nobody has, without ever waiting.
enum Background {
  /// Sends the first query of a slot that has become `.resetting` or `.checking`.
  static func start(_ session: SessionPointer) {
    guard let pointer = session.pointee.connection else { return end(session, succeeded: false) }
    if session.pointee.slot.state == .checking {
      send(session, .ping)
    } else if Connection(pointer).transactionStatus != .idle {
      send(session, .rollback)
    } else {
      send(session, .reset)
    }
  }

  /// The socket is ready.
  static func step(_ session: SessionPointer) {
    guard session.pointee.stage != .none else { return }
    // Somebody has called PQfinish on a connection that was not lent.
    guard session.pointee.connection != nil else { return end(session, succeeded: false) }
    withMessage { message in
      guard let step = session.pointee.query?.step(message: &message) else { return }
      proceed(session, step, message)
    }
  }

  private static func send(_ session: SessionPointer, _ stage: BackgroundStage) {
    guard let pointer = session.pointee.connection else { return end(session, succeeded: false) }
    session.pointee.stage = stage
    if stage == .reset { session.pointee.resetBegan = Clock.now }
    var query = BackgroundQuery(Connection(pointer))
    withMessage { message in
      let options = session.pointee.record.pointee.options
      let step: BackgroundQuery.Step
      switch stage {
      case .rollback: step = query.start("ROLLBACK", message: &message)
      case .reset where options.given.reset == POOL_RESET_QUERY:
        guard let sql = options.resetQuery else { return end(session, succeeded: false) }
        step = query.start(sql, message: &message)
      case .reset: step = query.start("DISCARD ALL", message: &message)
      case .ping, .settle, .none: step = query.start("", message: &message)
      }
      session.pointee.query = query
      proceed(session, step, message)
    }
  }

  private static func proceed(_ session: SessionPointer, _ step: BackgroundQuery.Step, _ message: Message) {
    switch step {
    case .wantsRead, .wantsWrite:
      let error = process.pointee.poller.listen(
        session.pointee.descriptor.number, writing: step == .wantsWrite, token: session.pointee.watchToken)
      if error != 0 { end(session, succeeded: false) }
    case .failed:
      reportFailure(session, message)
      end(session, succeeded: false)
    case .succeeded:
      next(session)
    }
  }

  /// A query has succeeded: on to the next stage, or done.
  private static func next(_ session: SessionPointer) {
    let record = session.pointee.record
    guard let pointer = session.pointee.connection, session.pointee.query?.finish() == true else {
      return end(session, succeeded: false)
    }
    let connection = Connection(pointer)
    if session.pointee.stage == .rollback, record.pointee.options.given.reset >= POOL_RESET_DISCARD_ALL {
      return send(session, .reset)
    }
    if session.pointee.stage == .reset, mayHaveLeftCancel(session) { return send(session, .settle) }
    if session.pointee.stage == .reset || session.pointee.stage == .settle {
      connection.restoreClientState()
    }
    let error = process.pointee.poller.rewatch(
      session.pointee.descriptor.number, token: session.pointee.watchToken)
    let isFit = connection.isOpen && connection.transactionStatus == .idle && session.isOnTarget(connection)
    end(session, succeeded: error == 0 && isFit)
  }

  /// PostgreSQL keeps a cancel by a statement_timeout that ran out during DISCARD ALL, which has just taken that timeout
  /// away, and the next borrower's first query would fail of it. No timeout is shorter than a millisecond.
  private static func mayHaveLeftCancel(_ session: SessionPointer) -> Bool {
    Clock.now &- session.pointee.resetBegan >= .milliseconds(1)
  }

  /// Tells the core how it went.
  static func end(_ session: SessionPointer, succeeded: Bool, isOverrun: Bool = false) {
    let record = session.pointee.record
    session.pointee.stage = .none
    record.enter()
    record.pointee.core.backgroundEnded(session.slotPointer, succeeded: succeeded, now: Clock.now)
    record.unlockAndSignal()
    record.notifyChanges()
    if isOverrun {
      Log.write(record, POOL_LOG_WARNING) {
        $0.append("a reset or ping took longer than check_timeout_ms; the connection is closed")
      }
    }
  }

  private static func reportFailure(_ session: SessionPointer, _ message: Message) {
    let stage = session.pointee.stage
    Log.write(session.pointee.record, POOL_LOG_WARNING) {
      $0.append(stage == .ping ? "a ping failed: " : "a reset failed: ")
      $0.append(cString: message.cString)
    }
  }

  private static func withMessage(_ body: (inout Message) -> Void) {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 384) { buffer in
      guard let start = buffer.baseAddress else { return }
      var message = Message(start, capacity: 384)
      body(&message)
    }
  }
}
