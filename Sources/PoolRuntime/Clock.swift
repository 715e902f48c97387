import CPoolShims

/// The one place where the clock is read.
public enum Clock {
  /// Nanoseconds of the monotonic clock.
  public static var now: Int64 { pool_clock_now() }

  /// The instant `milliseconds` from now; never wraps around.
  public static func after(milliseconds: Int32) -> Int64 {
    now &+ Int64(milliseconds) &* 1_000_000
  }
}
