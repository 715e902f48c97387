import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// The options in force: defaults, then the struct, then the keys of the conninfo.
struct Options {
  /// What `pool_options_t` says, its pointers replaced by our copies.
  var given = Options.defaults
  /// The struct sets the connect timeout.
  private var hasOwnConnectTimeout = false
  /// Those that the conninfo has set.
  var inConninfo = OptionNames()
  /// Owned copies; nil when they are not set.
  var name: UnsafeMutablePointer<CChar>?
  var resetQuery: UnsafeMutablePointer<CChar>?

  /// The connect timeout was set, so the conninfo's `connect_timeout` does not count.
  var hasConnectTimeout: Bool { hasOwnConnectTimeout || inConninfo.contains(.connectTimeout) }

  /// The struct's size in the first release, up to `reserved`.
  static var firstSize: Int { 136 }
  /// Of the members before `min_size`, all of them pointers or `size_t`.
  static var pointersSize: Int { 64 }

  static var defaults: pool_options_t {
    var options = pool_options_t()
    options.size = MemoryLayout<pool_options_t>.size
    options.max_size = 10
    options.acquire_timeout_ms = 30_000
    options.connect_timeout_ms = 10_000
    options.max_lifetime_ms = 1_800_000
    options.lifetime_jitter_percent = 20
    options.idle_timeout_ms = 600_000
    options.check = POOL_CHECK_WATCH
    options.check_after_idle_ms = 500
    options.check_timeout_ms = 5000
    options.reset = POOL_RESET_ROLLBACK
    return options
  }

  func free() {
    Memory.free(name)
    Memory.free(resetQuery)
  }

  /// Takes over a caller's struct, of whatever size. 0, or a code whose message is set.
  mutating func apply(_ options: UnsafePointer<pool_options_t>) -> Int32 {
    let size = options.pointee.size
    let known = MemoryLayout<pool_options_t>.size
    guard isPlausible(Int(clamping: size)) else {
      return Failure.set(POOL_EINVAL) {
        $0.append("options: size ")
        $0.append(Int(clamping: size))
        $0.append(" is not that of a pool_options_t; use POOL_OPTIONS_INIT or pool_options_init")
      }
    }
    if size > known, !isZero(UnsafeRawPointer(options) + known, Int(size) - known) {
      return Failure.set(
        POOL_EINVAL, "options: the struct sets an option that this version of the library does not have")
    }
    withUnsafeMutableBytes(of: &given) { own in
      own.copyMemory(from: UnsafeRawBufferPointer(start: options, count: Swift.min(Int(size), known)))
    }
    given.size = known
    hasOwnConnectTimeout = given.connect_timeout_ms != Options.defaults.connect_timeout_ms
    return copyTexts()
  }

  /// A struct that ends between two members: pointers up to `min_size`, numbers from there on. One shorter than ours
  /// keeps the defaults in the members that it lacks.
  private func isPlausible(_ size: Int) -> Bool {
    size >= MemoryLayout<Int>.size && size % (size < Options.pointersSize ? 8 : 4) == 0 && size <= 65_536
  }

  private mutating func copyTexts() -> Int32 {
    if let text = given.name {
      name = Memory.copy(text)
      if name == nil { return Failure.set(POOL_ENOMEM) }
    }
    if let text = given.reset_query {
      resetQuery = Memory.copy(text)
      if resetQuery == nil { return Failure.set(POOL_ENOMEM) }
    }
    given.name = nil
    given.reset_query = nil
    return POOL_OK
  }

  private func isZero(_ start: UnsafeRawPointer, _ count: Int) -> Bool {
    for offset in 0..<count where start.load(fromByteOffset: offset, as: UInt8.self) != 0 { return false }
    return true
  }

  /// Whether the options make sense together. 0, or POOL_EINVAL with a message that names the option.
  func validate() -> Int32 {
    let numbers: Int32 =
      check(.minSize, given.min_size, 0, POOL_MAX_SIZE_LIMIT)
      | check(.maxSize, given.max_size, 1, POOL_MAX_SIZE_LIMIT)
      | check(.maxWaiting, given.max_waiting, 0, .max)
      | check(.acquireTimeout, given.acquire_timeout_ms, POOL_TIMEOUT_INFINITE, .max)
      | check(.connectTimeout, given.connect_timeout_ms, 1, .max)
      | check(.connectConcurrency, given.connect_concurrency, 0, POOL_MAX_SIZE_LIMIT)
      | check(.maxLifetime, given.max_lifetime_ms, 0, .max)
      | check(.lifetimeJitterPercent, given.lifetime_jitter_percent, 0, 100)
      | check(.idleTimeout, given.idle_timeout_ms, 0, .max)
      | check(.check, given.check, POOL_CHECK_NONE, POOL_CHECK_PING)
      | check(.checkAfterIdle, given.check_after_idle_ms, 0, .max)
      | check(.checkTimeout, given.check_timeout_ms, 1, .max)
      | check(.reset, given.reset, POOL_RESET_NONE, POOL_RESET_QUERY)
      | check(.queueMode, given.queue_mode, POOL_LIFO, POOL_FIFO)
      | check(.leakThreshold, given.leak_threshold_ms, 0, .max)
      | check(.exactTimes, given.exact_times, 0, 1)
      | check(.backgroundOpen, given.background_open, 0, 1)
      | check(.reserved, given.reserved, 0, 0)
    return numbers != 0 ? POOL_EINVAL : validateRelations()
  }

  private func validateRelations() -> Int32 {
    if given.acquire_timeout_ms == POOL_TIMEOUT_DEFAULT {
      return Failure.set(
        POOL_EINVAL, "acquire_timeout_ms is -1: give milliseconds, 0 for a try, or POOL_TIMEOUT_INFINITE (-2)")
    }
    if given.min_size > given.max_size {
      return Failure.set(POOL_EINVAL) {
        append(.minSize, &$0)
        $0.append(" is ")
        $0.append(Int(given.min_size))
        $0.append(", more than ")
        append(.maxSize, &$0)
        $0.append(", which is ")
        $0.append(Int(given.max_size))
      }
    }
    let hasQuery = resetQuery.map { $0[0] != 0 } ?? false
    if given.reset == POOL_RESET_QUERY, !hasQuery {
      return Failure.set(POOL_EINVAL) {
        append(.reset, &$0)
        $0.append(" is query, but reset_query is not set")
      }
    }
    if given.reset != POOL_RESET_QUERY, hasQuery {
      return Failure.set(POOL_EINVAL) {
        append(.resetQuery, &$0)
        $0.append(" is set, but reset is not query")
      }
    }
    if let name, strlen(name) > POOL_NAME_LIMIT {
      return Failure.set(POOL_EINVAL) {
        append(.name, &$0)
        $0.append(" is longer than 63 bytes")
      }
    }
    return POOL_OK
  }

  /// As `validate`, for a hosted pool: without what needs the connection itself.
  func validateHosted() -> Int32 {
    let refused: StaticString?
    if given.configure != nil {
      refused = "configure"
    } else if given.conninfo_provider != nil {
      refused = "conninfo_provider"
    } else if resetQuery != nil {
      refused = "reset_query"
    } else if given.reset > POOL_RESET_ROLLBACK {
      refused = "reset"
    } else if given.check == POOL_CHECK_PING {
      refused = "check=ping"
    } else {
      refused = nil
    }
    guard let refused else { return validate() }
    return Failure.set(POOL_EINVAL) {
      $0.append(refused)
      $0.append(" is set: a hosted pool leaves it to the host, which makes the connections")
    }
  }

  /// 0 if `value` is in its range, else POOL_EINVAL with a message that names the option.
  private func check(_ name: OptionName, _ value: Int32, _ least: Int32, _ most: Int32) -> Int32 {
    if value >= least, value <= most { return POOL_OK }
    return Failure.set(POOL_EINVAL) {
      append(name, &$0)
      $0.append(" is ")
      $0.append(Int(value))
      $0.append("; it must be from ")
      $0.append(Int(least))
      $0.append(" to ")
      $0.append(Int(most))
    }
  }

  /// An option as whoever set it has to know it: of the conninfo, or of the struct.
  private func append(_ name: OptionName, _ message: inout Message) {
    let isKey = inConninfo.contains(name)
    if isKey { message.append("pool_") }
    message.append(name.text)
    if !isKey, name.isDuration { message.append("_ms") }
  }

  /// What the core must know.
  var settings: Settings {
    var settings = Settings()
    settings.minSize = Int(given.min_size)
    settings.maxSize = Int(given.max_size)
    settings.maxWaiting = Int(given.max_waiting)
    settings.connectConcurrency = Int(given.connect_concurrency)
    settings.connectTimeout = .milliseconds(Int(given.connect_timeout_ms))
    settings.maxLifetime = orNever(given.max_lifetime_ms)
    settings.lifetimeJitterPercent = Int(given.lifetime_jitter_percent)
    settings.idleTimeout = orNever(given.idle_timeout_ms)
    settings.check = CheckMode(rawValue: given.check) ?? .watch
    settings.checkAfterIdle = .milliseconds(Int(given.check_after_idle_ms))
    settings.checkTimeout = .milliseconds(Int(given.check_timeout_ms))
    settings.reset = ResetMode(rawValue: given.reset) ?? .rollback
    settings.queueMode = QueueMode(rawValue: given.queue_mode) ?? .lifo
    settings.seed = pool_random()
    return settings
  }

  private func orNever(_ milliseconds: Int32) -> Nanoseconds {
    milliseconds == 0 ? .never : .milliseconds(Int(milliseconds))
  }

  /// A get needs nothing but an idle connection: no clock, no look at the socket, no note of who has it.
  var isPlain: Bool {
    given.check <= POOL_CHECK_WATCH && given.exact_times == 0 && given.leak_threshold_ms == 0
  }
}
