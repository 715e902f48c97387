import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolRuntime
#endif

/// The options that stand in the conninfo, with the prefix `pool_`.
struct OptionKeys {
  typealias Bytes = UnsafeBufferPointer<UInt8>

  private enum Kind {
    case number, duration, acquireTimeout, text
    case check, reset, queueMode, flag
  }

  /// Sets the option `key` (without its prefix). 0, or a code whose message is set and names the key.
  static func apply(_ key: Bytes, _ value: Bytes, to options: inout Options) -> Int32 {
    guard let name = OptionName(key: key) else {
      return Failure.set(POOL_EINVAL) {
        $0.append("unknown option \"pool_")
        $0.appendShort(key)
        $0.append("\" in the conninfo")
      }
    }
    var updated = options.given
    let code = set(name, value, &updated, &options)
    if code == POOL_OK {
      options.given = updated
      options.inConninfo.insert(name)
    }
    return code
  }

  private static func set(
    _ name: OptionName, _ value: Bytes, _ given: inout pool_options_t, _ options: inout Options
  ) -> Int32 {
    switch name {
    case .name: copy(value, into: &options.name)
    case .resetQuery: copy(value, into: &options.resetQuery)
    case .minSize: read(name, value, .number, &given.min_size)
    case .maxSize: read(name, value, .number, &given.max_size)
    case .maxWaiting: read(name, value, .number, &given.max_waiting)
    case .acquireTimeout: read(name, value, .acquireTimeout, &given.acquire_timeout_ms)
    case .connectTimeout: read(name, value, .duration, &given.connect_timeout_ms)
    case .connectConcurrency: read(name, value, .number, &given.connect_concurrency)
    case .maxLifetime: read(name, value, .duration, &given.max_lifetime_ms)
    case .lifetimeJitterPercent: read(name, value, .number, &given.lifetime_jitter_percent)
    case .idleTimeout: read(name, value, .duration, &given.idle_timeout_ms)
    case .check: read(name, value, .check, &given.check)
    case .checkAfterIdle: read(name, value, .duration, &given.check_after_idle_ms)
    case .checkTimeout: read(name, value, .duration, &given.check_timeout_ms)
    case .reset: read(name, value, .reset, &given.reset)
    case .queueMode: read(name, value, .queueMode, &given.queue_mode)
    case .leakThreshold: read(name, value, .duration, &given.leak_threshold_ms)
    case .exactTimes: read(name, value, .flag, &given.exact_times)
    case .backgroundOpen, .reserved: POOL_EINVAL  // Not found by `OptionName(key:)`.
    }
  }

  private static func copy(_ value: Bytes, into text: inout UnsafeMutablePointer<CChar>?) -> Int32 {
    guard let memory = Memory.allocate(CChar.self, count: value.count + 1) else { return Failure.set(POOL_ENOMEM) }
    if let start = value.baseAddress { memcpy(memory, start, value.count) }
    memory[value.count] = 0
    Memory.free(text)
    text = memory
    return POOL_OK
  }

  private static func read(_ name: OptionName, _ value: Bytes, _ kind: Kind, _ result: inout Int32) -> Int32 {
    let number: Int32?
    let expected: StaticString
    switch kind {
    case .number:
      (number, expected) = (wholeNumber(value), "a whole number")
    case .duration:
      (number, expected) = (milliseconds(value), "a duration up to 24 days, such as 500ms, 30s, 10m, 2h")
    case .acquireTimeout:
      let infinite = value == "infinite" || value == "-1" || value == "-2"
      number = infinite ? POOL_TIMEOUT_INFINITE : milliseconds(value)
      expected = "a duration such as 500ms, 30s, 10m, or -1 for no limit"
    case .check: (number, expected) = (checkMode(value), "none, watch, socket or ping")
    case .reset: (number, expected) = (resetMode(value), "none, rollback, discard_all or query")
    case .queueMode: (number, expected) = (value == "lifo" ? 0 : value == "fifo" ? 1 : nil, "lifo or fifo")
    case .flag: (number, expected) = (flag(value), "0 or 1")
    case .text: (number, expected) = (nil, "text")
    }
    guard let number else {
      return Failure.set(POOL_EINVAL) {
        $0.append("pool_")
        $0.append(name.text)
        $0.append(" is \"")
        $0.appendShort(value)
        $0.append("\"; it must be ")
        $0.append(expected)
      }
    }
    result = number
    return POOL_OK
  }

  private static func checkMode(_ value: Bytes) -> Int32? {
    if value == "none" { return POOL_CHECK_NONE }
    if value == "watch" { return POOL_CHECK_WATCH }
    if value == "socket" { return POOL_CHECK_SOCKET }
    return value == "ping" ? POOL_CHECK_PING : nil
  }

  private static func resetMode(_ value: Bytes) -> Int32? {
    if value == "none" { return POOL_RESET_NONE }
    if value == "rollback" { return POOL_RESET_ROLLBACK }
    if value == "discard_all" { return POOL_RESET_DISCARD_ALL }
    return value == "query" ? POOL_RESET_QUERY : nil
  }

  private static func flag(_ value: Bytes) -> Int32? {
    if value == "1" || value == "true" || value == "on" || value == "yes" { return 1 }
    return value == "0" || value == "false" || value == "off" || value == "no" ? 0 : nil
  }

  /// Decimal digits, with a sign; nil for anything else and for what does not fit an `int`.
  private static func wholeNumber(_ text: Bytes) -> Int32? {
    let isNegative = text.first == 0x2D
    guard let magnitude = digits(isNegative ? Bytes(rebasing: text[1...]) : text) else { return nil }
    return Int32(exactly: isNegative ? -magnitude : magnitude)
  }

  private static func digits(_ text: Bytes) -> Int64? {
    guard !text.isEmpty, text.count <= 12 else { return nil }
    var value: Int64 = 0
    for byte in text {
      guard byte >= 0x30, byte <= 0x39 else { return nil }
      value = value * 10 + Int64(byte - 0x30)
    }
    return value
  }

  /// A number with a unit, in milliseconds (microseconds round up); nil for anything else.
  private static func milliseconds(_ text: Bytes) -> Int32? {
    var end = 0
    while end < text.count, (0x30...0x39).contains(text[end]) { end += 1 }
    guard let number = digits(Bytes(rebasing: text[..<end])) else { return nil }
    let unit = Bytes(rebasing: text[end...])
    if unit == "us" { return Int32(exactly: (number + 999) / 1000) }
    let factor: Int64
    if unit.isEmpty || unit == "ms" {
      factor = 1
    } else if unit == "s" {
      factor = 1000
    } else if unit == "m" || unit == "min" {
      factor = 60_000
    } else if unit == "h" {
      factor = 3_600_000
    } else if unit == "d" {
      factor = 86_400_000
    } else {
      return nil
    }
    let (product, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow ? nil : Int32(exactly: product)
  }
}

extension UnsafeBufferPointer<UInt8> {
  static func == (bytes: Self, text: StaticString) -> Bool {
    guard bytes.count == text.utf8CodeUnitCount else { return false }
    for index in 0..<bytes.count where bytes[index] != text.utf8Start[index] { return false }
    return true
  }
}

extension Message {
  /// What the caller gave, as far as it may be a value of ours: behind a wrong separator a password may follow.
  fileprivate mutating func appendShort(_ bytes: UnsafeBufferPointer<UInt8>) {
    var end = 0
    while end < Swift.min(bytes.count, 100), isPlain(bytes[end]) { end += 1 }
    if let start = bytes.baseAddress { appendCleaned(bytes: start, count: end) }
    if end < bytes.count { append("...") }
  }

  private func isPlain(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
    case UInt8(ascii: "0")...UInt8(ascii: "9"): true
    case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: " "): true
    default: false
    }
  }
}
