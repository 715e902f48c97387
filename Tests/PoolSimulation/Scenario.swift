#if SWIFT_PACKAGE
  import PoolCore
#endif

/// What one run is like: the pool's settings and the character of the world around it.
struct Scenario {
  var settings = Settings()
  /// How late the upkeep thread may come.
  var lateness: Nanoseconds
  /// The mean time between two things that callers and faults do.
  var pace: Nanoseconds
  var hold: Nanoseconds
  /// How often things go wrong, in thousandths.
  var faults: Int
  /// Get and put are given a coarse time, as in the runtime's fast path.
  var isCoarse: Bool
  var maxWaiters: Int
  var usesTickets: Bool
  /// To connect takes long.
  var isSlow: Bool
  var events: Int
  /// Gets and puts go past the core where they may.
  var usesStack = false

  init(random: inout Random) {
    settings.maxSize = random.chance(permille: 60) ? 40 : 1 + random.below(6)
    settings.minSize = random.chance(permille: 500) ? 0 : random.below(settings.maxSize + 1)
    settings.maxWaiting = random.pick([0, 0, 0, 3])
    settings.connectConcurrency = random.pick([0, 0, 1, 3])
    settings.connectTimeout = random.pick([ms(50), ms(500), ms(3000)])
    settings.maxLifetime = random.pick([.never, ms(400), ms(3000), ms(20_000)])
    settings.lifetimeJitterPercent = random.pick([0, 20, 20, 100])
    settings.idleTimeout = random.pick([.never, ms(300), ms(2000), ms(30_000)])
    settings.check = random.pick([.none, .watch, .ping, .ping])
    settings.checkAfterIdle = random.pick([0, ms(5), ms(500)])
    settings.checkTimeout = random.pick([ms(40), ms(300), ms(2000)])
    settings.reset = random.pick([.none, .rollback, .rollback, .discardAll, .query])
    settings.queueMode = random.pick([.lifo, .fifo])
    settings.seed = random.next()
    lateness = random.pick([0, us(200), ms(3), ms(60)])
    pace = random.pick([us(20), us(500), ms(5), ms(60)])
    hold = random.pick([us(100), ms(2), ms(30), ms(400)])
    faults = random.pick([0, 10, 10, 40, 150])
    isCoarse = random.chance(permille: 300)
    maxWaiters = random.pick([0, 2, 6, 6, 30, 30])
    usesTickets = random.chance(permille: 700)
    isSlow = random.chance(permille: 200)
    events = 300 + random.below(6000)
    if random.chance(permille: 400) {
      beHosted(&random)
    } else if random.chance(permille: 500) {
      useStack(&random)
    }
  }
}

extension Scenario {
  /// The options with which the runtime has the stack, though not only the resets; and not often more callers than
  /// connections, which shut it.
  private mutating func useStack(_ random: inout Random) {
    usesStack = true
    settings.check = random.pick([.none, .watch])
    settings.queueMode = .lifo
    settings.samplesUse = true
    settings.maxSize = 2 + random.below(12)
    settings.minSize = random.below(settings.maxSize + 1)
    maxWaiters = random.pick([0, 1, 2, 6])
    hold = random.pick([us(100), ms(2), ms(30)])
  }

  private mutating func beHosted(_ random: inout Random) {
    settings.isHosted = true
    settings.hasWorkers = random.chance(permille: 350)
    settings.check = random.pick([.none, .watch, .watch, .socket])
    settings.reset = random.pick([.none, .rollback])
  }
}

/// How the server, or the way to it, treats attempts to connect.
enum ServerMode {
  case well, slow, refusing, full, wrongPassword, silent, mixed
}
