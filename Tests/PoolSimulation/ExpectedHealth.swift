#if SWIFT_PACKAGE
  import PoolCore
#endif

/// The rule for attempts to connect, as a user would put it: one at a time while nothing is known of the server, one
/// probe after a pause while it fails, and slow start when it is back.
struct ExpectedHealth {
  private(set) var window = 1
  private(set) var hasFailed = false
  /// No attempt may begin before.
  private(set) var earliest: Instant = 0
  /// From here on nothing holds an attempt back.
  private(set) var latest: Instant = 0
  private var isUntried = true
  private var pause: Nanoseconds = 0

  mutating func reached(limit: Int) {
    if isUntried { window = limit }
    isUntried = false
  }

  mutating func succeeded(limit: Int) {
    isUntried = false
    hasFailed = false
    (earliest, latest, pause) = (0, 0, 0)
    window = Swift.min(limit, 2 * window)
  }

  mutating func failed(_ failure: ConnectFailure, now: Instant) {
    isUntried = false
    hasFailed = true
    window = 1
    switch failure {
    case .transient:
      pause = Swift.max(ms(100), Swift.min(2 * pause, ms(800)))
      (earliest, latest) = (now + pause - pause / 10, now + pause)
    case .tooManyConnections:
      pause = ms(1000)
      (earliest, latest) = (now + pause, now + pause)
    case .permanent:
      pause = ms(1000)
      (earliest, latest) = (now + ms(5000), now + ms(5000))
    }
  }

  mutating func suspect() {
    isUntried = false
    window = 1
  }
}
