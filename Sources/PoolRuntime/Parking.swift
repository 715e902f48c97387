import CPoolShims
import Synchronization

/// How a wait ended; the caller looks again at what it waits for in every case.
public enum Wait: Sendable {
  case woken
  case timedOut
  /// A signal handler ran.
  case interrupted
}

/// A futex word that threads park on. It counts: every event stores a new value, so a thread that looked at the state,
/// then parks with the value it saw before looking, cannot miss the event between the two.
public struct ParkingSpot: ~Copyable {
  private let word = Atomic<UInt32>(0)

  public init() {}

  public var value: UInt32 { word.load(ordering: .acquiring) }

  public func set(_ value: UInt32) { word.store(value, ordering: .releasing) }

  public func advance() { word.wrappingAdd(1, ordering: .releasing) }

  /// Sleeps while the word is `seen`, until `deadline` (monotonic ns, `Int64.max` = none).
  public func park(seen: UInt32, until deadline: Int64) -> Wait {
    // `.max` as an instant too: a wait without any is started again behind a handler with SA_RESTART, unseen by us.
    let result = withFutex { pool_futex_wait($0, seen, Swift.max(deadline, 0)) }
    switch result {
    case ETIMEDOUT: return .timedOut
    case EINTR: return .interrupted
    default: return .woken
    }
  }

  public func wake(_ count: Int32 = .max) {
    withFutex { pool_futex_wake($0, count) }
  }

  private func withFutex<Result>(_ body: (UnsafeMutablePointer<UInt32>) -> Result) -> Result {
    withUnsafePointer(to: word) {
      body(UnsafeMutableRawPointer(mutating: $0).assumingMemoryBound(to: UInt32.self))
    }
  }
}
