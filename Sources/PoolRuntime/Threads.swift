import CPoolShims

/// The one place where threads are started.
public enum Threads {
  /// Starts a detached thread of 512 KiB stack with all signals blocked: handlers of the host never run in it.
  /// 0, or an errno value.
  public static func start(
    _ body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?, _ argument: UnsafeMutableRawPointer?
  ) -> Int32 {
    pool_thread_start(body, argument)
  }
}
