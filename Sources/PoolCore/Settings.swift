public enum CheckMode: Int32, Sendable { case none, watch, socket, ping }
public enum ResetMode: Int32, Sendable { case none, rollback, discardAll, query }
public enum QueueMode: Int32, Sendable { case lifo, fifo }

/// What the core must know of the options; already checked by the caller.
public struct Settings {
  public var minSize = 0
  public var maxSize = 10
  /// 0 = no limit.
  public var maxWaiting = 0
  /// Attempts under way at once; 0 = `maxSize`.
  public var connectConcurrency = 0
  public var connectTimeout: Nanoseconds = Instant.milliseconds(10_000)
  /// `.never` = no lifetime.
  public var maxLifetime: Nanoseconds = Instant.milliseconds(1_800_000)
  public var lifetimeJitterPercent = 20
  /// `.never` = idle connections stay.
  public var idleTimeout: Nanoseconds = Instant.milliseconds(600_000)
  public var check = CheckMode.watch
  public var checkAfterIdle: Nanoseconds = Instant.milliseconds(500)
  public var checkTimeout: Nanoseconds = Instant.milliseconds(5000)
  public var reset = ResetMode.rollback
  public var queueMode = QueueMode.lifo
  /// The host makes the connections.
  public var isHosted = false
  /// Of a hosted pool: threads of the host's open in the background what is wanted; callers get open ones only.
  public var hasWorkers = false
  /// A caller that is granted a fresh slot opens.
  var opensOnGrant: Bool { isHosted && !hasWorkers }
  /// The time of use is what `sampleUse` sees, not measured loan by loan: the state machine does not see each of them.
  public var samplesUse = false
  /// Of the pool's random numbers (jitter).
  public var seed: UInt64 = 1

  public init() {}
}

/// Spans that are the pool's own and not options.
public enum Span {
  /// How long an expired idle connection may still be lent while its replacement is being opened.
  public static var expiryGrace: Nanoseconds { Instant.milliseconds(100) }
  /// A session that ends sooner after the last success was no use to anybody.
  public static var infancy: Nanoseconds { Instant.milliseconds(1000) }
  /// How long one has to live before others are opened, once several did not last.
  public static var trial: Nanoseconds { Instant.milliseconds(100) }
  /// How long a closed session counts while its server has not closed its end.
  public static var linger: Nanoseconds { Instant.milliseconds(1000) }
  /// After this a reset or check is no longer counted as a connection about to come free.
  public static var soon: Nanoseconds { Instant.milliseconds(100) }
  /// How often the time of use is sampled at most, and how much one sample counts for at most.
  public static var sample: Nanoseconds { Instant.milliseconds(100) }
  public static var longestSample: Nanoseconds { Instant.milliseconds(200) }
  /// How much longer than `connectTimeout` an attempt may take to reach a server before it is given up.
  public static var giveUpMargin: Nanoseconds { Instant.milliseconds(250) }
  /// How long a ticket whose connection was there at once may wait to be collected, whatever its deadline.
  public static var collection: Nanoseconds { Instant.milliseconds(1000) }
  /// How long a ticket that ended uncollected still tells why.
  public static var afterlife: Nanoseconds { Instant.milliseconds(60_000) }
}

/// Attempts that have not reached a server, stuck ones included: the bound of a pool.
public var unreachedLimit: Int { 16 }
