import CPoolShims

/// The epoll set of the upkeep thread, and the pipe by which it is woken.
///
/// A pipe, not an eventfd: it has an inode of its own, so it can be told whether its numbers are still ours. A host that
/// closes all descriptors it does not know (closefrom) takes the set and the pipe away together.
public struct Poller {
  public private(set) var set: Int32 = -1
  private var source = Descriptor()
  private var signal = Descriptor()

  public static var wakeToken: UInt64 { .max }

  public init() {}

  /// 0, or an errno value.
  public mutating func open() -> Int32 {
    set = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard set >= 0 else { return pool_errno() }
    var ends: (Int32, Int32) = (-1, -1)
    let error = pool_pipe_create(&ends.0, &ends.1)
    source = Descriptor(number: ends.0)
    signal = Descriptor(number: ends.1)
    let failure = error != 0 ? error : control(EPOLL_CTL_ADD, source.number, EPOLLIN.rawValue, Self.wakeToken)
    if failure != 0 { close() }
    return failure
  }

  public mutating func close() {
    if set >= 0 { _ = CPoolShims.close(set) }
    source.close()
    signal.close()
    forget()
  }

  /// The host has closed the set, or the pipe, and the set's number may be one of its own.
  public mutating func abandon() {
    source.close()
    signal.close()
    forget()
  }

  /// In a forked child: the set is the parent's and is not touched.
  public mutating func forget() {
    set = -1
    source = Descriptor()
    signal = Descriptor()
  }

  /// The descriptors are still ours.
  public var isOurs: Bool { source.isOurs && signal.isOurs }

  /// Watches for the end of the peer, edge-triggered: traffic of the borrower never wakes the upkeep thread.
  /// EBADF when the host has closed our descriptors, and the set's number may be one of its own.
  public func watch(_ descriptor: Int32, token: UInt64) -> Int32 {
    guard isOurs else { return EBADF }
    return control(EPOLL_CTL_ADD, descriptor, Self.end | EPOLLET.rawValue, token)
  }

  /// Back to watching for the end; an end that came meanwhile is reported again.
  public func rewatch(_ descriptor: Int32, token: UInt64) -> Int32 {
    control(EPOLL_CTL_MOD, descriptor, Self.end | EPOLLET.rawValue, token)
  }

  /// Watches for input, and for room to write if `writing`.
  public func listen(_ descriptor: Int32, writing: Bool, token: UInt64) -> Int32 {
    control(EPOLL_CTL_MOD, descriptor, Self.end | EPOLLIN.rawValue | (writing ? EPOLLOUT.rawValue : 0), token)
  }

  public func ignore(_ descriptor: Int32) {
    _ = control(EPOLL_CTL_DEL, descriptor, 0, 0)
  }

  /// Makes `wait` return. Any thread; not a cancellation point. Nothing is written when the number has become the
  /// host's.
  public func wake() {
    if signal.isOurs { pool_pipe_signal(signal.number) }
  }

  /// Waits for events; fills `events` and returns how many, or a negative errno value. Swallows the wake-up.
  public func wait(
    _ events: UnsafeMutablePointer<epoll_event>, capacity: Int32, milliseconds: Int32
  ) -> Int32 {
    let count = epoll_wait(set, events, capacity, milliseconds)
    return count >= 0 ? count : -pool_errno()
  }

  public func clearWake() {
    if source.isOurs { pool_pipe_clear(source.number) }
  }

  /// Whether the event says that the peer is gone.
  public static func isEnd(_ events: UInt32) -> Bool {
    events & (end | EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
  }

  private static var end: UInt32 { EPOLLRDHUP.rawValue }

  private func control(_ operation: Int32, _ descriptor: Int32, _ events: UInt32, _ token: UInt64) -> Int32 {
    pool_epoll_control(set, operation, descriptor, events, token) == 0 ? 0 : pool_errno()
  }
}
