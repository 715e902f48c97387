import CLibpq
import CPoolShims

/// A `PGconn *`. Who holds it and when it ends is the business of others.
public struct Connection {
  public let pointer: OpaquePointer

  @inline(__always)
  public init(_ pointer: OpaquePointer) { self.pointer = pointer }

  public enum TransactionStatus {
    case idle, active, inTransaction, inError, unknown
  }

  /// The corresponding C function is `PQstatus`.
  @inline(__always)
  public var isOpen: Bool { pool_libpq_table().pointee.status(pointer) == CONNECTION_OK }

  /// The corresponding C function is `PQtransactionStatus`.
  @inline(__always)
  public var transactionStatus: TransactionStatus {
    switch pool_libpq_table().pointee.transactionStatus(pointer) {
    case PQTRANS_IDLE: .idle
    case PQTRANS_ACTIVE: .active
    case PQTRANS_INTRANS: .inTransaction
    case PQTRANS_INERROR: .inError
    default: .unknown
    }
  }

  /// The corresponding C function is `PQpipelineStatus`.
  @inline(__always)
  public var isPipelining: Bool { pool_libpq_table().pointee.pipelineStatus(pointer) != PQ_PIPELINE_OFF }

  /// The corresponding C function is `PQisnonblocking`.
  @inline(__always)
  public var isNonblocking: Bool { pool_libpq_table().pointee.isNonblocking(pointer) != 0 }

  /// 0 while idle. The corresponding C function is `PQtransactionStatus`.
  @inline(__always)
  public var rawTransactionStatus: UInt32 { pool_libpq_table().pointee.transactionStatus(pointer).rawValue }

  /// The corresponding C function is `PQsocket`.
  @inline(__always)
  public var socket: Int32 { pool_libpq_table().pointee.socket(pointer) }

  /// The corresponding C function is `PQbackendPID`.
  @inline(__always)
  public var backendPID: Int32 { pool_libpq_table().pointee.backendPID(pointer) }

  /// Valid until the next operation on the connection. The corresponding C function is `PQerrorMessage`.
  public var errorMessage: UnsafePointer<CChar>? { UnsafePointer(pool_libpq_table().pointee.errorMessage(pointer)) }

  /// Nil when the server has not reported it. The corresponding C function is `PQparameterStatus`.
  public func parameterStatus(_ name: StaticString) -> UnsafePointer<CChar>? {
    pool_libpq_table().pointee.parameterStatus(pointer, cString(name))
  }

  /// The corresponding C function is `PQsslInUse`.
  public var isUsingTLS: Bool { pool_libpq_table().pointee.sslInUse(pointer) != 0 }

  /// Reads what has arrived, without waiting. False: the connection is broken, or about to be.
  /// The corresponding C function is `PQconsumeInput`.
  public func consumeInput() -> Bool { pool_libpq_table().pointee.consumeInput(pointer) == 1 }

  /// Has `procedure` called with `context` at what happens to the connection from now on, in the thread that uses it.
  /// False: out of memory. The corresponding C function is `PQregisterEventProc`.
  public func register(_ procedure: PGEventProc?, name: StaticString, context: UnsafeMutableRawPointer) -> Bool {
    pool_libpq_table().pointee.registerEventProc(pointer, procedure, cString(name), context) != 0
  }

  /// Whoever receives notices now; on a new connection that is libpq's default.
  /// The corresponding C function is `PQsetNoticeReceiver`, which with NULL only tells.
  public var noticeReceiver: PQnoticeReceiver? {
    pool_libpq_table().pointee.setNoticeReceiver(pointer, nil, nil)
  }

  /// The corresponding C functions are `PQsetNoticeReceiver` and `PQsetNoticeProcessor`, which with NULL only tell.
  public var noticeHooks: NoticeHooks {
    let libpq = pool_libpq_table().pointee
    return NoticeHooks(
      receiver: unsafeBitCast(libpq.setNoticeReceiver(pointer, nil, nil), to: UInt.self),
      processor: unsafeBitCast(libpq.setNoticeProcessor(pointer, nil, nil), to: UInt.self))
  }

  /// Takes off what a user of the connection has libpq call and write to, but for the hooks that it had before.
  /// `noticeReceiver` is what `noticeReceiver` said on a new connection: libpq has no name for it.
  public func forgetUser(
    keeping hooks: NoticeHooks, noticeReceiver: PQnoticeReceiver?, noticeProcessor: PQnoticeProcessor?,
    noticeContext: UnsafeMutableRawPointer?
  ) {
    let libpq = pool_libpq_table().pointee
    let found = noticeHooks
    if found.receiver != hooks.receiver { _ = libpq.setNoticeReceiver(pointer, noticeReceiver, nil) }
    if found.processor != hooks.processor { _ = libpq.setNoticeProcessor(pointer, noticeProcessor, noticeContext) }
    libpq.untrace(pointer)
  }

  /// With `forgetUser`, makes libpq's side of an idle connection as it was when it was new; the server's side is not touched.
  public func restoreClientState() {
    let libpq = pool_libpq_table().pointee
    _ = libpq.setErrorVerbosity(pointer, PQERRORS_DEFAULT)
    _ = libpq.setErrorContextVisibility(pointer, PQSHOW_CONTEXT_ERRORS)
    dropNotifications()
  }

  /// The corresponding C function is `PQnotifies`.
  public func dropNotifications() {
    let libpq = pool_libpq_table().pointee
    while let notification = libpq.notifies(pointer) { libpq.freemem(notification) }
  }

  /// Ends the connection, never waiting for the peer.
  ///
  /// `PQfinish` says goodbye to the server. On a connection in blocking mode that has something to send to a peer that
  /// does not read, it would wait for ever; and leaving that mode flushes first, and waits too. With the sending side
  /// shut down both fail at once instead, and the server sees the end of the stream. An idle connection has nothing to
  /// send, so the goodbye fits into the socket's buffer.
  /// The corresponding C function is `PQfinish`.
  public func finishWithoutBlocking() {
    if !isOpen || transactionStatus != .idle || isPipelining || isNonblocking {
      let descriptor = socket
      if descriptor >= 0 { _ = shutdown(descriptor, CInt(SHUT_WR)) }
    }
    pool_libpq_table().pointee.finish(pointer)
  }
}

/// The addresses of a connection's notice receiver and processor. libpq does not tell their arguments.
public struct NoticeHooks: Equatable {
  public var receiver: UInt = 0
  public var processor: UInt = 0

  public init() {}

  init(receiver: UInt, processor: UInt) {
    self.receiver = receiver
    self.processor = processor
  }
}
