/// A point on the monotonic clock, in nanoseconds. The core never reads a clock: time is an argument.
public typealias Instant = Int64

/// A span of time, in nanoseconds.
public typealias Nanoseconds = Int64

extension Instant {
  /// Later than everything: "no deadline".
  public static var never: Instant { .max }

  public static func milliseconds(_ count: Int) -> Nanoseconds {
    let (product, overflow) = Int64(count).multipliedReportingOverflow(by: 1_000_000)
    return overflow ? .never : product
  }

  /// The instant `span` later; never wraps around.
  public func after(_ span: Nanoseconds) -> Instant {
    let (sum, overflow) = addingReportingOverflow(span)
    return overflow ? .never : sum
  }
}
