import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// One login at a time until one has succeeded: a wrong password is then one failed login at the server, not one for
/// each connection that the pool wants, and locks no account. The others have their TCP connection, TLS and the server's
/// question by then, and only wait with the answer.
///
/// Guarded by the pool's lock. No turn is lost: whoever waits takes the `ParkingSpot`'s value under the lock, and it is
/// advanced under the lock at each change; a holder that was given up is passed over.
struct LoginTurns {
  /// The attempt that tries, with its number.
  private var holder: SessionPointer?
  private var number: UInt32 = 0
  private var isProven = false
  /// Refused logins so far.
  private(set) var refusals: UInt32 = 0

  enum Answer {
    case go, wait
    /// A login that began no later was refused.
    case stop
  }

  /// `seen`: the refusals when the attempt began.
  mutating func ask(_ attempt: ConnectorAttempt, seen: UInt32) -> Answer {
    if refusals != seen { return .stop }
    if isProven { return .go }
    if let holder, holder != attempt.session, ConnectorAttempt(holder, number).isCurrent { return .wait }
    holder = attempt.session
    number = attempt.number
    return .go
  }

  mutating func succeeded(_ attempt: ConnectorAttempt) {
    isProven = true
    leave(attempt)
  }

  mutating func failed(_ attempt: ConnectorAttempt, isRefused: Bool) {
    if isRefused {
      isProven = false
      refusals &+= 1
    }
    leave(attempt)
  }

  /// What has been proven may hold no longer. (When sessions are lost the pool opens one alone in any case.)
  mutating func doubt() { isProven = false }

  private mutating func leave(_ attempt: ConnectorAttempt) {
    if holder == attempt.session, number == attempt.number { holder = nil }
  }
}
