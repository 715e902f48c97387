/// Why an attempt to connect failed, as far as the next attempt is concerned.
public enum ConnectFailure: UInt8, Sendable {
  /// May pass: refused, restarting, timed out.
  case transient
  /// The server has no session left.
  case tooManyConnections
  /// Will not go away: wrong password, no such database.
  case permanent
}

/// When and how many attempts to connect may be under way.
///
/// While nothing is known of the server one attempt feels its way; once it has reached the server the window is open.
/// A failure shuts the window to one probe after a delay (100 ms, doubling to 800 ms: the first success comes within a
/// second of the server's return, its connect included; jittered so that processes spread out). A success doubles the
/// window (slow start, as TCP). A lost session makes the server suspect: one attempt first.
///
/// A login is no success where the session then ends at once, of no use to anybody (a proxy without a server behind
/// it, a timeout of 1 ms): from the third such end on, each counts as a failed attempt, and what opens meanwhile is
/// alone until one session has lived for a moment.
struct ConnectHealth {
  private(set) var window = 1
  private var isUntried = true
  private(set) var retryAt: Instant = 0
  private var delay: Nanoseconds = 0
  /// The last attempt failed, and none succeeded since.
  private(set) var lastFailure: ConnectFailure?
  /// Of the last success.
  private var openedAt: Instant = 0
  /// Sessions in a row that ended unused within a second of the last success. What was opened together counts once.
  private var shortLived = 0
  private var isEndCounted = true
  /// Sessions do not last.
  var isOnProbation: Bool { shortLived >= 3 }

  mutating func reached(limit: Int) {
    guard isUntried else { return }
    isUntried = false
    window = limit
  }

  mutating func succeeded(limit: Int, now: Instant) {
    let age = now &- openedAt
    if isOnProbation {
      // One more such end, and it is on probation again.
      if !isEndCounted, age >= Span.trial { shortLived = 2 }
    } else if age >= Span.infancy {
      shortLived = 0
    }
    isUntried = false
    lastFailure = nil
    openedAt = now
    isEndCounted = false
    retryAt = isOnProbation ? now.after(Span.trial) : 0
    if shortLived == 0 { delay = 0 }
    if !isOnProbation { window = Swift.min(limit, window &* 2) }
  }

  mutating func failed(_ failure: ConnectFailure, now: Instant, random: UInt64) {
    isUntried = false
    lastFailure = failure
    window = 1
    switch failure {
    case .transient: pause(now: now, random: random)
    case .tooManyConnections:
      delay = Instant.milliseconds(1000)
      retryAt = now.after(delay)
    case .permanent:
      delay = Instant.milliseconds(1000)
      retryAt = now.after(Instant.milliseconds(5000))
    }
  }

  private mutating func pause(now: Instant, random: UInt64) {
    let doubled = Swift.min(delay &* 2, Instant.milliseconds(800))
    delay = Swift.max(doubled, Instant.milliseconds(100))
    let tenth = delay / 10
    retryAt = now.after(delay - Int64(truncatingIfNeeded: random % UInt64(tenth + 1)))
  }

  /// A session was ended by the server or the network.
  mutating func sessionEnded(wasOfUse: Bool, now: Instant, random: UInt64) {
    isUntried = false
    window = 1
    guard !isEndCounted else { return }
    isEndCounted = true
    guard !wasOfUse, now &- openedAt < Span.infancy else {
      shortLived = 0
      return
    }
    shortLived = Swift.min(shortLived &+ 1, 3)
    guard isOnProbation else { return }
    lastFailure = .transient
    pause(now: now, random: random)
  }

  /// The next attempt may start at once, with what it connects to changed.
  mutating func forgive() {
    self = ConnectHealth()
  }
}
