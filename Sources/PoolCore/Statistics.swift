/// Counters of the core: they only grow.
public struct Counters {
  public var gets: UInt64 = 0
  public var waits: UInt64 = 0
  public var timeouts: UInt64 = 0
  public var cancels: UInt64 = 0
  public var rejected: UInt64 = 0
  public var opened: UInt64 = 0
  public var connectFailures: UInt64 = 0
  public var lost: UInt64 = 0
  public var expired: UInt64 = 0
  public var idleClosed: UInt64 = 0
  public var discarded: UInt64 = 0
  public var resets: UInt64 = 0
  public var resetFailures: UInt64 = 0
  public var checks: UInt64 = 0
  public var checkFailures: UInt64 = 0
  public var internalErrors: UInt64 = 0
  public var waitTime: Nanoseconds = 0
  public var waitMax: Nanoseconds = 0
  public var useTime: Nanoseconds = 0
  public var connectTime: Nanoseconds = 0

  public init() {}
}

/// How many slots are in which state; `waiting` counts tickets.
public struct Gauges {
  public var total = 0
  public var idle = 0
  public var inUse = 0
  public var opening = 0
  public var background = 0
  public var closing = 0
  public var waiting = 0
  public var stuck = 0
}
