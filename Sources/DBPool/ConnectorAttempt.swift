import CDBPool
import CLibpq
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// One attempt to open a connection for a slot, on a connector thread.
struct ConnectorAttempt {
  let session: SessionPointer
  let number: UInt32
  let record: RecordPointer

  init(_ session: SessionPointer, _ number: UInt32) {
    self.session = session
    self.number = number
    record = session.pointee.record
  }

  func run() {
    record.enter()
    guard isCurrent else { return endJob() }
    record.pointee.core.attemptStarted(session.slotPointer, now: Clock.now)
    record.leave()
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { buffer in
      guard let start = buffer.baseAddress else { return }
      var message = Message(start, capacity: 1024)
      let outcome = open(&message)
      report(outcome, message)
    }
  }

  private enum Outcome {
    case opened
    case failed(ConnectFailure)
    /// For no fault of the server.
    case dropped
    case exiting
  }

  private func open(_ message: inout Message) -> Outcome {
    guard let provider = record.pointee.options.given.conninfo_provider else {
      guard let parameters = record.pointee.parameters else { return .dropped }
      return connect(parameters, &message)
    }
    guard let buffer = Memory.allocate(CChar.self, count: Int(POOL_CONNINFO_LIMIT)) else {
      message.append("out of memory")
      return .failed(.transient)
    }
    buffer[0] = 0
    defer {
      explicit_bzero(buffer, Int(POOL_CONNINFO_LIMIT))
      Memory.free(buffer)
    }
    guard let code = call({ provider(record.pointee.options.given.context, buffer, Int(POOL_CONNINFO_LIMIT)) }) else {
      return .exiting
    }
    guard code == 0 else {
      message.append("conninfo_provider returned ")
      message.append(Int(code))
      return .failed(.transient)
    }
    guard memchr(buffer, 0, Int(POOL_CONNINFO_LIMIT)) != nil else {
      message.append("conninfo_provider wrote no NUL within its 65536 bytes")
      return .failed(.transient)
    }
    return connect(providedBy: buffer, &message)
  }

  private func connect(providedBy conninfo: UnsafePointer<CChar>, _ message: inout Message) -> Outcome {
    guard LibpqGate.enter() else { return .exiting }
    let expansion = ConnectParameters.expand(
      conninfo: conninfo, fallbackApplicationName: record.pointee.options.name, message: &message)
    LibpqGate.leave()
    switch expansion {
    case .success(let parameters):
      defer { parameters.free() }
      return connect(parameters, &message)
    case .invalid:
      return .failed(.transient)
    case .outOfMemory:
      message.append("out of memory")
      return .failed(.transient)
    }
  }

  private func connect(_ parameters: ConnectParameters, _ message: inout Message) -> Outcome {
    record.enter()
    var mark = record.pointee.silentTarget.mark(now: Clock.now)
    let refusals = record.pointee.loginTurns.refusals
    record.leave()
    var hooks = AttemptHooks(attempt: self, refusals: refusals)
    let result = ConnectAttempt.run(
      parameters, mark: &mark, perTargetTimeout: record.pointee.core.settings.connectTimeout,
      noticeProcessor: { Log.notice($0, $1) }, noticeContext: record, hooks: &hooks, message: &message)
    record.enter()
    record.pointee.silentTarget.update(mark, now: Clock.now)
    if isCurrent, case .open = result {
      record.pointee.loginTurns.succeeded(self)
      record.pointee.loginEnds.advance()
    }
    record.leave()
    record.pointee.loginEnds.wake()
    switch result {
    case .open(let connection): return accept(Connection(connection), parameters.sessionTarget, &message)
    case .failed(.permanent): return .failed(.permanent)
    case .failed(.tooManyConnections): return .failed(.tooManyConnections)
    case .failed(.transient): return .failed(.transient)
    case .outOfMemory:
      message.append("out of memory")
      return .failed(.transient)
    case .stopped: return .dropped
    case .abandoned: return .exiting
    }
  }

  // MARK: A new connection

  /// Watches and configures it, and hands it to the core.
  private func accept(_ connection: Connection, _ target: SessionTarget, _ message: inout Message) -> Outcome {
    guard SessionEvents.register(connection, session) else {
      message.append("out of memory")
      return drop(connection, .failed(.transient))
    }
    if let error = watch(connection) {
      message.append("cannot watch the new connection: ")
      message.append(systemError: error)
      return drop(connection, .failed(.transient))
    }
    session.pointee.noticeReceiver = connection.noticeReceiver
    if let configure = record.pointee.options.given.configure {
      let context = record.pointee.options.given.context
      session.pointee.configuring = connection.pointer
      session.pointee.trespass = .none
      guard let code = call({ configure(context, UnsafeMutableRawPointer(connection.pointer)) }) else {
        return .exiting
      }
      session.pointee.configuring = nil
      if session.pointee.trespass == .finish {
        message.append("configure called PQfinish on the connection")
        waitForEnd()
        unwatch()
        return .failed(.transient)
      }
      if let problem = problem(connection, code, &message) { return drop(connection, problem) }
    } else if connection.transactionStatus != .idle {
      message.append("the new session is not idle")
      return drop(connection, .failed(.transient))
    }
    record.enter()
    guard isCurrent else {
      record.leave()
      return drop(connection, .dropped)
    }
    session.pointee.connection = connection.pointer
    session.pointee.handle = UInt(bitPattern: connection.pointer)
    session.pointee.backendPID = connection.backendPID
    let isOnTarget = target.isMet(by: connection) == true
    session.pointee.target = isOnTarget || target.wantsReadOnly ? target : .any
    session.pointee.expectedSocket.store(
      isOnTarget ? Session.unusual : session.pointee.socketNumber, ordering: .relaxed)
    session.classify()
    session.pointee.finished = 0
    session.pointee.noticeHooks = connection.noticeHooks
    session.pointee.attemptSocket = Descriptor()
    session.pointee.lent.store(0, ordering: .relaxed)
    ConnectionTable.insert(session)
    session.pointee.isListed = true
    record.pointee.lastError.clear()
    record.pointee.core.opened(session.slotPointer, now: Clock.now)
    record.unlockAndWake()
    return .opened
  }

  private func problem(_ connection: Connection, _ code: Int32, _ message: inout Message) -> Outcome? {
    if code != 0 {
      message.append("configure returned ")
      message.append(Int(code))
    } else if !connection.isOpen {
      message.append("the connection was lost in configure: ")
      message.appendCleaned(cString: connection.errorMessage)
    } else if session.pointee.trespass == .reset {
      message.append("configure called PQreset on the connection")
    } else if connection.transactionStatus != .idle || connection.isPipelining || connection.isNonblocking {
      message.append("configure left the connection busy, in a transaction or in non-blocking mode")
    } else {
      return nil
    }
    return .failed(.transient)
  }

  /// 0 descriptors left, or too many watches: an errno value.
  private func watch(_ connection: Connection) -> Int32? {
    let descriptor = Descriptor(duplicating: connection.socket)
    guard descriptor.isOpen else { return pool_errno() }
    record.enter()
    session.pointee.descriptor = descriptor
    session.pointee.socketNumber = connection.socket
    session.pointee.watchSerial &+= 1
    let token = session.pointee.watchToken
    record.leave()
    let error = process.pointee.poller.watch(descriptor.number, token: token)
    if error != 0 { unwatch() }
    return error == 0 ? nil : error
  }

  private func unwatch() {
    record.enter()
    var descriptor = session.pointee.descriptor
    session.pointee.descriptor = Descriptor()
    session.pointee.watchSerial &+= 1
    record.leave()
    descriptor.close()
  }

  private func drop(_ connection: Connection, _ outcome: Outcome) -> Outcome {
    guard LibpqGate.enter() else { return .exiting }
    connection.finishWithoutBlocking()
    LibpqGate.leave()
    waitForEnd()
    unwatch()
    return outcome
  }

  /// A session counts until the server has closed its end: here on the connector thread, which may wait.
  private func waitForEnd() {
    let descriptor = session.pointee.descriptor
    guard descriptor.isOpen else { return }
    var entry = pollfd(fd: descriptor.number, events: pool_poll_end(), revents: 0)
    let deadline = Clock.now.after(Span.linger)
    while CPoolShims.poll(&entry, 1, 50) <= 0, Clock.now < deadline {}
  }

  // MARK: The end

  private func report(_ outcome: Outcome, _ message: Message) {
    switch outcome {
    case .exiting: LibpqGate.park()
    case .opened: return finish()
    case .dropped, .failed: break
    }
    record.enter()
    session.pointee.attemptSocket = isCurrent ? Descriptor() : session.pointee.attemptSocket
    guard isCurrent else {
      // Given up meanwhile; what it found out is old.
      record.pointee.core.stuckReturned()
      Connectors.discount(record, by: -1)
      return endJob()
    }
    if case .failed(let failure) = outcome {
      record.pointee.lastError.set(message.cString)
      record.pointee.core.openFailed(session.slotPointer, failure, now: Clock.now)
      record.pointee.loginTurns.failed(self, isRefused: failure == .permanent)
    } else {
      record.pointee.core.openAbandoned(session.slotPointer)
      record.pointee.loginTurns.failed(self, isRefused: false)
    }
    record.pointee.loginEnds.advance()
    record.unlockAndWake()
    record.pointee.loginEnds.wake()
    if case .failed = outcome {
      Log.write(record, POOL_LOG_WARNING) {
        $0.append("cannot connect: ")
        $0.append(cString: message.cString)
      }
    }
    finish()
  }

  private func finish() {
    record.enter()
    endJob()
  }

  /// Under the lock; lets go of it.
  private func endJob() {
    record.pointee.jobs -= 1
    record.unlockAndWake()
    record.notifyChanges()
    Upkeep.signal(record)
  }

  // MARK: Small steps

  /// Under the lock: the slot still waits for this very attempt.
  var isCurrent: Bool {
    session.pointee.slot.attempt == number && session.pointee.slot.state == .opening
  }

  /// Calls the host; nil when the process is exiting.
  private func call(_ body: () -> Int32) -> Int32? {
    var code: Int32 = 0
    return HostCall.run(record.pointee.token.load(ordering: .relaxed), { code = body() }) ? code : nil
  }
}

/// What the attempt tells while libpq connects.
struct AttemptHooks: ConnectHooks {
  let attempt: ConnectorAttempt
  /// Refused logins of the pool when the attempt began.
  let refusals: UInt32

  func now() -> Int64 { Clock.now }

  mutating func socketChanged(_ fd: Int32) {
    let descriptor = Descriptor(number: fd)
    let record = attempt.record
    record.enter()
    if attempt.isCurrent { attempt.session.pointee.attemptSocket = descriptor }
    record.leave()
  }

  mutating func reachedServer() {
    let record = attempt.record
    record.enter()
    if attempt.isCurrent { record.pointee.core.attemptReached(attempt.session.slotPointer) }
    record.leave()
    Upkeep.signal(record)
  }

  mutating func awaitLoginTurn(until deadline: Int64) -> LoginTurn {
    let record = attempt.record
    while true {
      record.enter()
      let answer = record.pointee.loginTurns.ask(attempt, seen: refusals)
      let seen = record.pointee.loginEnds.value
      record.leave()
      if shouldStop() || answer == .stop { return .stopped }
      if answer == .go { return .granted }
      let now = Clock.now
      if now >= deadline { return .timedOut }
      _ = record.pointee.loginEnds.park(seen: seen, until: Swift.min(deadline, now.after(.milliseconds(100))))
    }
  }

  mutating func enterLibpq() -> Bool { LibpqGate.enter() }

  mutating func leaveLibpq() { LibpqGate.leave() }

  mutating func enterResolver() -> Bool { LibpqGate.enterResolver() }

  mutating func leaveResolver() { LibpqGate.leaveResolver() }

  mutating func shouldStop() -> Bool {
    let record = attempt.record
    if record.pointee.isStopping.load(ordering: .relaxed) { return true }
    record.enter()
    defer { record.leave() }
    return !attempt.isCurrent || record.pointee.core.isDrained
  }
}
