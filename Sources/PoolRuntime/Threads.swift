import CPoolShims

/// The one place where threads are started.
public enum Threads {
  /// Starts a detached thread with all signals blocked: handlers of the host never run in it. Its stack has 512 KiB;
  /// as much as the host's own threads get if it calls functions of the host, which may need that.
  /// 0, or an errno value.
  public static func start(
    _ body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?, _ argument: UnsafeMutableRawPointer?,
    callsHost: Bool = false
  ) -> Int32 {
    pool_thread_start(body, argument, callsHost)
  }
}
