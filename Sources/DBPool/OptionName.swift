/// The options by name, as they stand in the conninfo behind `pool_`. In the struct durations end in `_ms`.
enum OptionName: UInt8 {
  case name, resetQuery
  case minSize, maxSize, maxWaiting
  case acquireTimeout, connectTimeout, connectConcurrency
  case maxLifetime, lifetimeJitterPercent, idleTimeout
  case check, checkAfterIdle, checkTimeout
  case reset, queueMode, leakThreshold, exactTimes
  /// The last ones only in the struct.
  case backgroundOpen, reserved

  var text: StaticString {
    switch self {
    case .name: "name"
    case .resetQuery: "reset_query"
    case .minSize: "min_size"
    case .maxSize: "max_size"
    case .maxWaiting: "max_waiting"
    case .acquireTimeout: "acquire_timeout"
    case .connectTimeout: "connect_timeout"
    case .connectConcurrency: "connect_concurrency"
    case .maxLifetime: "max_lifetime"
    case .lifetimeJitterPercent: "lifetime_jitter_percent"
    case .idleTimeout: "idle_timeout"
    case .check: "check"
    case .checkAfterIdle: "check_after_idle"
    case .checkTimeout: "check_timeout"
    case .reset: "reset"
    case .queueMode: "queue_mode"
    case .leakThreshold: "leak_threshold"
    case .exactTimes: "exact_times"
    case .backgroundOpen: "background_open"
    case .reserved: "reserved"
    }
  }

  var isDuration: Bool {
    switch self {
    case .acquireTimeout, .connectTimeout, .maxLifetime, .idleTimeout, .checkAfterIdle, .checkTimeout, .leakThreshold:
      true
    case .name, .resetQuery, .minSize, .maxSize, .maxWaiting, .connectConcurrency, .lifetimeJitterPercent, .check,
      .reset,
      .queueMode, .exactTimes, .backgroundOpen, .reserved:
      false
    }
  }

  /// nil for what may not stand in a conninfo.
  init?(key: UnsafeBufferPointer<UInt8>) {
    for number in 0..<OptionName.backgroundOpen.rawValue {
      if let name = OptionName(rawValue: number), key == name.text {
        self = name
        return
      }
    }
    return nil
  }
}

/// A set of options.
struct OptionNames {
  private var bits: UInt32 = 0

  mutating func insert(_ name: OptionName) { bits |= 1 << UInt32(name.rawValue) }

  func contains(_ name: OptionName) -> Bool { bits & 1 << UInt32(name.rawValue) != 0 }
}
