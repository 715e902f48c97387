import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// A task of the core with what is needed to perform it. Upkeep thread only.
///
/// Made under the pool's lock, performed without it. From the task until the core is told its outcome nobody else uses
/// the session's connection: it is in none of the states in which it can be lent.
struct Work {
  private enum Kind {
    case open(attempt: UInt32)
    case startQuery
    case stopQuery
    case close
    case forget
    case gaveUp
    case nothing
  }

  private let kind: Kind
  private let session: SessionPointer
  private let record: RecordPointer

  /// nil for `.none`.
  init?(_ task: Task) {
    let slot: SlotPointer
    switch task {
    case .none: return nil
    case .open(let opening): (kind, slot) = (.open(attempt: opening.pointee.attempt), opening)
    case .reset(let dirty): (kind, slot) = (.startQuery, dirty)
    case .check(let doubtful): (kind, slot) = (.startQuery, doubtful)
    case .close(let closing): (kind, slot) = (.close, closing)
    case .forget(let silent): (kind, slot) = (.forget, silent)
    case .overrun(let slow): (kind, slot) = (.stopQuery, slow)
    case .gaveUp(let stuck): (kind, slot) = (.gaveUp, stuck)
    case .outlived(let lent): (kind, slot) = (.nothing, lent)
    }
    session = Session.of(slot)
    if case .nothing = kind { session.setApart() }
    record = session.pointee.record
    if case .open = kind { record.pointee.jobs += 1 }
    if case .close = kind, session.pointee.isListed {
      ConnectionTable.remove(session)
      session.pointee.isListed = false
    }
  }

  func perform() {
    switch kind {
    case .open(let attempt): open(attempt)
    case .startQuery: Background.start(session)
    case .stopQuery: Background.end(session, succeeded: false, isOverrun: true)
    case .close: close()
    case .forget: forget()
    case .gaveUp: reportGivenUp()
    case .nothing: break
    }
  }

  private func open(_ attempt: UInt32) {
    let job = session.jobPointer
    job.pointee.kind = .attempt
    job.pointee.record = record
    job.pointee.session = session
    job.pointee.attempt = attempt
    let error = Connectors.submit(job)
    guard error != 0 else { return }
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      guard let start = buffer.baseAddress else { return }
      var message = Message(start, capacity: 256)
      message.append("cannot start a connector thread: ")
      message.append(systemError: error)
      record.enter()
      record.pointee.jobs -= 1
      record.pointee.lastError.set(message.cString)
      record.pointee.core.openFailed(session.slotPointer, .transient, now: Clock.now)
      record.unlockAndWake()
      Log.write(record, POOL_LOG_WARNING) { $0.append(cString: message.cString) }
    }
  }

  /// Ends the session on our side. It counts until the server has closed its end, which the watch on our duplicate
  /// of the descriptor will tell. What the server is still sending is read and dropped, or it would not come to the end.
  private func close() {
    if record.pointee.isHosted { return awaitEnd() }
    guard let pointer = session.pointee.connection else {
      // Its borrower has finished it. Should libpq's goodbye not have got through, our duplicate ends the session.
      if session.pointee.descriptor.isOurs { _ = shutdown(session.pointee.descriptor.number, Int32(SHUT_WR)) }
      return awaitEnd()
    }
    session.pointee.connection = nil
    let connection = Connection(pointer)
    let socket = connection.socket
    if socket < 0 {
      // libpq has let go of it; our duplicate still holds the session open.
      if session.pointee.descriptor.isOurs { _ = shutdown(session.pointee.descriptor.number, Int32(SHUT_WR)) }
    } else if !session.pointee.descriptor.describes(socket) {
      // The number is the host's now: PQfinish would speak into its file and close it. The connection's memory is the
      // price.
      if isTheSame(connection) { return forget() }
      Watch.move(session, to: socket)
    }
    connection.finishWithoutBlocking()
    awaitEnd()
  }

  /// Our side is closed: listens for the server's.
  private func awaitEnd() {
    let descriptor = session.pointee.descriptor
    guard descriptor.isOurs,
      process.pointee.poller.listen(descriptor.number, writing: false, token: session.pointee.watchToken) == 0
    else { return forget() }
  }

  /// Not another session by a PQreset of the borrower's.
  private func isTheSame(_ connection: Connection) -> Bool {
    connection.socket == session.pointee.socketNumber && connection.backendPID == session.pointee.backendPID
  }

  private func forget() {
    Watch.end(session)
    record.enter()
    record.pointee.core.closed(session.slotPointer)
    record.unlockAndWake()
  }

  private func reportGivenUp() {
    Connectors.discount(record, by: 1)
    record.enter()
    record.pointee.lastError.set(
      "no answer from the resolver or the conninfo_provider within the connect timeout")
    record.leave()
    Log.write(record, POOL_LOG_WARNING) {
      $0.append("an attempt to connect hangs in the resolver or in conninfo_provider and was given up")
    }
  }
}
