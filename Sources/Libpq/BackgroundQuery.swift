import CLibpq
import CPoolShims

/// A query whose rows do not matter, step by step and never waiting: a rollback, a reset, a ping.
///
/// `start`, then `step` each time the socket is ready, until it succeeds or fails; then `finish`. After a failure the
/// connection is fit only to be finished.
public struct BackgroundQuery {
  public enum Step: Equatable {
    case wantsRead
    /// The socket may become readable first: `step` also then.
    case wantsWrite
    case succeeded
    /// The message says why.
    case failed
  }

  /// Nanoseconds of a processor and bytes, for reading the answer: an ordinary one takes microseconds and has some hundreds.
  /// One without an end would fill the memory of the host, and libpq's way through it takes the time of all pools.
  private static var workLimit: Int64 { 100_000_000 }
  private static var sizeLimit: Int { 16 << 20 }

  private let connection: Connection
  private var work: Int64 = 0
  private var size = 0
  private var isFlushed = false
  private var hasFailed = false

  public init(_ connection: Connection) { self.connection = connection }

  /// Sends the SQL, which is copied.
  public mutating func start(_ sql: UnsafePointer<CChar>, message: inout Message) -> Step {
    let libpq = pool_libpq_table().pointee
    let pointer = connection.pointer
    guard libpq.setNonblocking(pointer, 1) == 0, libpq.sendQuery(pointer, sql) == 1 else { return fail(&message) }
    return flush(&message) ?? .wantsRead
  }

  public mutating func start(_ sql: StaticString, message: inout Message) -> Step {
    start(cString(sql), message: &message)
  }

  /// Goes as far as possible without waiting.
  public mutating func step(message: inout Message) -> Step {
    guard isFlushed else { return goOn(&message) }
    size &+= Int(pool_pending(connection.socket))
    let before = pool_clock_work()
    let step = goOn(&message)
    work &+= pool_clock_work() &- before
    guard step == .wantsRead, work > Self.workLimit || size > Self.sizeLimit else { return step }
    message.append("the answer has no end")
    return .failed
  }

  private mutating func goOn(_ message: inout Message) -> Step {
    let libpq = pool_libpq_table().pointee
    let pointer = connection.pointer
    // OpenSSL may hold input back that no longer makes the socket readable: ask until the answer is whole, or a few
    // times for nothing.
    var rounds = connection.isUsingTLS ? 8 : 1
    repeat {
      guard libpq.consumeInput(pointer) == 1 else { return fail(&message) }
      rounds &-= 1
    } while rounds > 0 && libpq.isBusy(pointer) != 0
    if let pending = flush(&message) { return pending }
    while libpq.isBusy(pointer) == 0 {
      guard let result = libpq.getResult(pointer) else {
        return hasFailed || !connection.isOpen ? fail(&message) : .succeeded
      }
      let status = libpq.resultStatus(result)
      libpq.clear(result)
      switch status {
      case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: break
      case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
        message.append("the query began a COPY")
        return .failed
      default:
        if !hasFailed { message.appendCleaned(cString: connection.errorMessage) }
        hasFailed = true
      }
    }
    return .wantsRead
  }

  /// Back to blocking mode, after success: then nothing is left to be sent, or this would wait.
  public func finish() -> Bool {
    isFlushed && !hasFailed && pool_libpq_table().pointee.setNonblocking(connection.pointer, 0) == 0
  }

  /// Nil when all is sent.
  private mutating func flush(_ message: inout Message) -> Step? {
    guard !isFlushed else { return nil }
    switch pool_libpq_table().pointee.flush(connection.pointer) {
    case 0:
      isFlushed = true
      return nil
    case 1: return .wantsWrite
    default: return fail(&message)
    }
  }

  private mutating func fail(_ message: inout Message) -> Step {
    hasFailed = true
    if message.isEmpty { message.appendCleaned(cString: connection.errorMessage) }
    if message.isEmpty { message.append("the connection failed") }
    return .failed
  }
}
