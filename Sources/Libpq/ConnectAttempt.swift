import CLibpq
import CPoolShims

/// What an attempt to connect asks and tells while it goes on.
public protocol ConnectHooks {
  /// Nanoseconds of a monotonic clock.
  func now() -> Int64
  /// The connection's socket is another one now, maybe under the same number; -1: it has none.
  mutating func socketChanged(_ fd: Int32)
  /// A server has accepted the TCP or Unix connection. Once.
  mutating func reachedServer()
  /// Before each call of libpq that may touch the network or TLS. False: the process is exiting, libpq must not be
  /// touched again.
  mutating func enterLibpq() -> Bool
  mutating func leaveLibpq()
  /// Before names are looked up. False: the process is exiting.
  mutating func enterResolver() -> Bool
  mutating func leaveResolver()
  /// The server has asked for a login: blocks until this attempt may answer.
  mutating func awaitLoginTurn(until deadline: Int64) -> LoginTurn
  /// Asked at least every 100 ms (but for a resolver that hangs). True: the connection is no longer wanted.
  mutating func shouldStop() -> Bool
}

extension ConnectHooks {
  public mutating func enterResolver() -> Bool { true }
  public mutating func leaveResolver() {}
  public mutating func awaitLoginTurn(until deadline: Int64) -> LoginTurn { .granted }
}

public enum LoginTurn {
  case granted, timedOut, stopped
}

public enum ConnectResult {
  /// A PGconn *, connected and idle.
  case open(OpaquePointer)
  /// The message says why.
  case failed(FailureKind)
  case outOfMemory
  /// The hooks asked to stop; nothing is left.
  case stopped
  /// The process is exiting: whatever there is was left as it is.
  case abandoned
}

/// One attempt to connect, blocking, on a thread of its own.
///
/// Name lookup blocks for as long as the resolver does. From then on each target (each address of each host) has
/// `perTargetTimeout`; libpq goes on to the next by itself when one refuses, and a target that stays silent, in TCP,
/// TLS or authentication, ends the attempt and sets the mark: the next attempt starts behind it. What cannot be
/// bounded is the arithmetic of one step of libpq, such as the iterations of SCRAM that a server asks for.
public enum ConnectAttempt {
  /// A success elsewhere leaves the mark: for how long the silent target is passed over is the caller's business.
  /// Notices of the server go to `noticeProcessor`, from the first on: libpq's own prints them.
  public static func run<Hooks: ConnectHooks>(
    _ parameters: ConnectParameters, mark: inout TargetMark, perTargetTimeout: Int64,
    noticeProcessor: PQnoticeProcessor?, noticeContext: UnsafeMutableRawPointer?, hooks: inout Hooks,
    message: inout Message
  ) -> ConnectResult {
    if hooks.shouldStop() { return .stopped }
    message.clear()
    guard hooks.enterResolver() else { return .abandoned }
    let resolution = Targets.resolve(parameters, startingBehind: mark, &message)
    hooks.leaveResolver()
    let targets: Targets
    switch resolution {
    case .success(let resolved): targets = resolved
    case .failed: return .failed(.transient)
    case .outOfMemory: return .outOfMemory
    }
    defer { targets.free() }
    if hooks.shouldStop() { return .stopped }
    let libpq = pool_libpq_table().pointee
    guard hooks.enterLibpq() else { return .abandoned }
    let started = libpq.connectStartParams(targets.keywords, targets.values, targets.expandsFirstName ? 1 : 0)
    wipeFreedCopies(of: parameters.value(for: "password"))
    wipeFreedCopies(of: parameters.value(for: "sslpassword"))
    guard let connection = started else {
      hooks.leaveLibpq()
      return .outOfMemory
    }
    _ = libpq.setNoticeProcessor(connection, noticeProcessor, noticeContext)
    // The SQLSTATE of a failed attempt is in its message or nowhere.
    _ = libpq.setErrorVerbosity(connection, PQERRORS_VERBOSE)
    var attempt = Attempt(connection, targets, perTargetTimeout)
    // Inside: a fork meets no socket that it has not been told of.
    attempt.noteProgress(&hooks)
    hooks.leaveLibpq()
    let end = attempt.poll(&hooks)
    return attempt.finish(end, parameters, &mark, &hooks, &message)
  }
}

/// The last instant there is, rather than one beyond it.
private func after(_ instant: Int64, _ span: Int64) -> Int64 {
  let (sum, isBeyond) = instant.addingReportingOverflow(span)
  return isBeyond ? Int64.max : sum
}

private struct Attempt {
  enum End {
    case connected, refused, timedOut, stopped, abandoned
    case noPoll(Int32)
  }

  private let connection: OpaquePointer
  private let targets: Targets
  private let timeout: Int64
  private var target = TargetMark()
  private var deadline: Int64 = 0
  private var fd: Int32 = -1
  private var inode: UInt64 = 0
  private var hasReachedServer = false
  private var hasLoginTurn = false

  init(_ connection: OpaquePointer, _ targets: Targets, _ timeout: Int64) {
    self.connection = connection
    self.targets = targets
    self.timeout = timeout
  }

  mutating func poll<Hooks: ConnectHooks>(_ hooks: inout Hooks) -> End {
    let libpq = pool_libpq_table().pointee
    var step = libpq.status(connection) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING
    while true {
      if step == PGRES_POLLING_OK { return .connected }
      if step == PGRES_POLLING_FAILED { return .refused }
      if let end = wait(step == PGRES_POLLING_READING ? POLLIN : POLLOUT, &hooks) { return end }
      if let end = awaitLoginTurn(&hooks) { return end }
      guard hooks.enterLibpq() else { return .abandoned }
      step = libpq.connectPoll(connection)
      noteProgress(&hooks)
      hooks.leaveLibpq()
    }
  }

  /// Nil when the attempt may go on.
  private mutating func awaitLoginTurn<Hooks: ConnectHooks>(_ hooks: inout Hooks) -> End? {
    if hasLoginTurn || pool_libpq_table().pointee.status(connection) != CONNECTION_AWAITING_RESPONSE { return nil }
    let began = hooks.now()
    switch hooks.awaitLoginTurn(until: deadline) {
    case .granted:
      hasLoginTurn = true
      // The target has its time for the login: it was others that took the wait.
      deadline = after(deadline, hooks.now() &- began)
      return nil
    case .timedOut: return .timedOut
    case .stopped: return .stopped
    }
  }

  /// Nil when the socket is ready. A socket that is always ready is no way around the deadline.
  private func wait<Hooks: ConnectHooks>(_ events: Int32, _ hooks: inout Hooks) -> End? {
    while true {
      if hooks.shouldStop() { return .stopped }
      let (left, _) = deadline.subtractingReportingOverflow(hooks.now())
      guard left > 0 else { return .timedOut }
      let slice = left > 100_000_000 ? 100 : Int32(truncatingIfNeeded: (left &+ 999_999) / 1_000_000)
      var entry = pollfd(fd: fd, events: Int16(truncatingIfNeeded: events), revents: 0)
      let ready = CPoolShims.poll(&entry, 1, slice)
      if ready > 0 { return nil }
      if ready < 0, pool_errno() != EINTR { return .noPoll(pool_errno()) }
    }
  }

  mutating func noteProgress<Hooks: ConnectHooks>(_ hooks: inout Hooks) {
    let libpq = pool_libpq_table().pointee
    noteSocket(libpq.socket(connection), &hooks)
    let status = libpq.status(connection)
    if !hasReachedServer, status != CONNECTION_BAD, status != CONNECTION_STARTED, status != CONNECTION_NEEDED {
      hasReachedServer = true
      hooks.reachedServer()
    }
    let current = targets.mark(
      host: libpq.host(connection), address: libpq.hostaddr(connection), port: libpq.port(connection))
    if current != target {
      target = current
      deadline = after(hooks.now(), timeout)
    }
  }

  /// libpq closes a socket and opens the next in one step, mostly under the same number.
  private mutating func noteSocket<Hooks: ConnectHooks>(_ descriptor: Int32, _ hooks: inout Hooks) {
    var device: UInt64 = 0
    var current: UInt64 = 0
    if descriptor >= 0 { _ = pool_identity(descriptor, &device, &current) }
    guard descriptor != fd || current != inode else { return }
    fd = descriptor
    inode = current
    hooks.socketChanged(fd)
  }

  /// Turns the end into the result; a connection that is not open is finished.
  func finish<Hooks: ConnectHooks>(
    _ end: End, _ parameters: ConnectParameters, _ mark: inout TargetMark, _ hooks: inout Hooks,
    _ message: inout Message
  ) -> ConnectResult {
    let result = outcome(end, parameters, &mark, &message)
    switch result {
    case .open, .abandoned: return result
    case .failed, .stopped, .outOfMemory:
      if fd >= 0 { hooks.socketChanged(-1) }
      guard hooks.enterLibpq() else { return .abandoned }
      Connection(connection).finishWithoutBlocking()
      hooks.leaveLibpq()
      return result
    }
  }

  private func outcome(
    _ end: End, _ parameters: ConnectParameters, _ mark: inout TargetMark, _ message: inout Message
  ) -> ConnectResult {
    let libpq = pool_libpq_table().pointee
    switch end {
    case .connected:
      _ = libpq.setErrorVerbosity(connection, PQERRORS_DEFAULT)
      // The silent one has found its voice.
      if mark == target { mark = TargetMark() }
      return .open(connection)
    case .refused:
      guard let error = libpq.errorMessage(connection) else { return .outOfMemory }
      if isOutOfMemory(error) { return .outOfMemory }
      message.appendCleanedVerbose(cString: error)
      if message.isEmpty { message.append("connection failed") }
      // libpq itself gives up when it is asked for a password and has none: the one lasting failure without SQLSTATE.
      let needsPassword = libpq.connectionNeedsPassword(connection) != 0
      if needsPassword { message.appendPasswordFile(parameters) }
      let kind = needsPassword ? .permanent : FailureKind(verboseMessage: UnsafeBufferPointer(cString: error))
      // libpq has come round to the silent one, or a host refused the login, behind which it tries no other: next time all
      // have their turn. A host that is full is one that works.
      if kind != .tooManyConnections { mark = TargetMark() }
      return .failed(kind)
    case .timedOut:
      mark = target
      message.appendTimeout(connection)
      return .failed(.transient)
    case .noPoll(let error):
      message.append("poll() failed: errno ")
      message.append(Int(error))
      return .failed(.transient)
    case .stopped: return .stopped
    case .abandoned: return .abandoned
    }
  }
}

extension Message {
  /// As libpq's `PQconnectdb` words it: what became of the targets before, then this one's time is up. libpq begins
  /// the sentence about a target with the first step towards it.
  fileprivate mutating func appendTimeout(_ connection: OpaquePointer) {
    let libpq = pool_libpq_table().pointee
    appendCleanedVerbose(cString: libpq.errorMessage(connection))
    if count == 0 || cString[count &- 1] != CChar(UInt8(ascii: ":")) {
      if count > 0 { append("; ") }
      appendTarget(connection)
    }
    append(" timeout expired")
  }

  private mutating func appendTarget(_ connection: OpaquePointer) {
    let libpq = pool_libpq_table().pointee
    let host = UnsafeBufferPointer<UInt8>(optional: libpq.host(connection))
    let address = UnsafeBufferPointer<UInt8>(optional: libpq.hostaddr(connection))
    append(isUnixSocket(host) ? "connection to server on socket \"" : "connection to server at \"")
    appendCleaned(cString: libpq.host(connection))
    append("\"")
    if address.count > 0, !address.isEqual(to: host) {
      append(" (")
      appendCleaned(cString: libpq.hostaddr(connection))
      append(")")
    }
    append(", port ")
    appendCleaned(cString: libpq.port(connection))
    append(" failed:")
  }
}
