#if SWIFT_PACKAGE
  import PoolCore
#endif

/// The rule for attempts to connect, as a user would put it: one at a time while nothing is known of the server, one
/// probe after a pause while it fails, and slow start when it is back. Sessions that end within a second of the last
/// success, unused, are failures from the third in a row on; then one at a time has to live for 100 ms.
struct ExpectedHealth {
  private(set) var window = 1
  private(set) var hasFailed = false
  /// No attempt may begin before.
  private(set) var earliest: Instant = 0
  /// From here on nothing holds an attempt back.
  private(set) var latest: Instant = 0
  private var isUntried = true
  private var pause: Nanoseconds = 0
  private var lastSuccess: Instant = 0
  private var isLastSuccessLost = true
  private var lostInARow = 0
  private var isDistrusted: Bool { lostInARow == 3 }

  mutating func reached(limit: Int) {
    if isUntried { window = limit }
    isUntried = false
  }

  mutating func succeeded(limit: Int, now: Instant) {
    let since = now - lastSuccess
    if isDistrusted, !isLastSuccessLost, since >= ms(100) {
      lostInARow = 2
    } else if !isDistrusted, since >= ms(1000) {
      lostInARow = 0
    }
    (isUntried, hasFailed, isLastSuccessLost, lastSuccess) = (false, false, false, now)
    if lostInARow == 0 { pause = 0 }
    let next = isDistrusted ? now + ms(100) : 0
    (earliest, latest) = (next, next)
    if !isDistrusted { window = Swift.min(limit, 2 * window) }
  }

  mutating func failed(_ failure: ConnectFailure, now: Instant) {
    isUntried = false
    hasFailed = true
    window = 1
    switch failure {
    case .transient: wait(now)
    case .tooManyConnections:
      pause = ms(1000)
      (earliest, latest) = (now + pause, now + pause)
    case .permanent:
      pause = ms(1000)
      (earliest, latest) = (now + ms(5000), now + ms(5000))
    }
  }

  private mutating func wait(_ now: Instant) {
    pause = Swift.max(ms(100), Swift.min(2 * pause, ms(800)))
    (earliest, latest) = (now + pause - pause / 10, now + pause)
  }

  mutating func sessionEnded(_ session: Session?, now: Instant) {
    isUntried = false
    window = 1
    if isLastSuccessLost { return }
    isLastSuccessLost = true
    let isUseless = session?.hasServed == false && now - lastSuccess < ms(1000)
    lostInARow = isUseless ? Swift.min(3, lostInARow + 1) : 0
    if !isDistrusted { return }
    hasFailed = true
    wait(now)
  }
}
