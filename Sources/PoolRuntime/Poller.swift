import CPoolShims

/// The epoll set of the upkeep thread, and the event by which it is woken.
public struct Poller {
  public private(set) var set: Int32 = -1
  private var event: Int32 = -1

  public static var wakeToken: UInt64 { .max }

  public init() {}

  /// 0, or an errno value.
  public mutating func open() -> Int32 {
    set = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard set >= 0 else { return pool_errno() }
    event = pool_event_create()
    guard event >= 0, control(EPOLL_CTL_ADD, event, EPOLLIN.rawValue, Self.wakeToken) == 0 else {
      let error = pool_errno()
      close()
      return error
    }
    return 0
  }

  public mutating func close() {
    if set >= 0 { _ = CPoolShims.close(set) }
    if event >= 0 { _ = CPoolShims.close(event) }
    forget()
  }

  /// In a forked child: the set is the parent's and is not touched.
  public mutating func forget() {
    set = -1
    event = -1
  }

  /// Watches for the end of the peer, edge-triggered: traffic of the borrower never wakes the upkeep thread.
  public func watch(_ descriptor: Int32, token: UInt64) -> Int32 {
    control(EPOLL_CTL_ADD, descriptor, Self.end | EPOLLET.rawValue, token)
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

  /// Makes `wait` return. Any thread; not a cancellation point.
  public func wake() { pool_event_signal(event) }

  /// Waits for events; fills `events` and returns how many, or a negative errno value. Swallows the wake-up.
  public func wait(
    _ events: UnsafeMutablePointer<epoll_event>, capacity: Int32, milliseconds: Int32
  ) -> Int32 {
    let count = epoll_wait(set, events, capacity, milliseconds)
    return count >= 0 ? count : -pool_errno()
  }

  public func clearWake() { pool_event_clear(event) }

  /// Whether the event says that the peer is gone.
  public static func isEnd(_ events: UInt32) -> Bool {
    events & (end | EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
  }

  private static var end: UInt32 { EPOLLRDHUP.rawValue }

  private func control(_ operation: Int32, _ descriptor: Int32, _ events: UInt32, _ token: UInt64) -> Int32 {
    pool_epoll_control(set, operation, descriptor, events, token) == 0 ? 0 : pool_errno()
  }
}
