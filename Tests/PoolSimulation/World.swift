#if SWIFT_PACKAGE
  import PoolCore
#endif

/// Where the world knows a slot to be. The core is never asked: what it answers is compared with this.
enum Place: Equatable {
  case empty
  /// It is being opened: by a connector thread, or by the caller to whom it was granted as fresh.
  case attempt(Int)
  /// The pool's own: idle, waiting for the upkeep thread, or left to be collected.
  case pool
  /// Idle, and the core takes it for lent.
  case stack
  case ticket(Int)
  case caller(Int)
  case resetting
  case checking
  case closing
  /// The host closes its object.
  case ending
}

/// A session as its server and its users know it.
struct Session {
  var id: Int
  var epoch: Int
  var openedAt: Instant
  /// When it was last known to be alive.
  var seenAt: Instant
  var isDead = false
  /// The pool was told that the peer is gone.
  var isKnownLost = false
  /// Put back in good order, and the core was told.
  var hasServed = false
  /// Hosted: the host has closed its object.
  var isClosedByHost = false
  /// Put back broken, or failed a check or reset.
  var isUnfit = false
  /// Put back in a state that the next user must not see.
  var isDirty = false
  /// The upkeep thread has come by since its lifetime was over.
  var isExpirySeen = false
  /// When the core called it expired.
  var expiredAt: Instant?
  /// The core has told that it outlived its lifetime while it was lent.
  var isToldOutlived = false
}

struct Attempt {
  var slot: Int
  var number: UInt32
  var epoch: Int
  var startedAt: Instant?
  var hasReached = false
  var isGivenUp = false
  /// nil: it succeeds.
  var failure: ConnectFailure?
  var isAbandoned = false
  var isLostEarly = false
  /// Hosted: it only closes the object that the slot had.
  var vacates: Session?
}

enum WaiterPhase { case waiting, granted, refused }

struct Waiter {
  var ticket: TicketPointer
  var generation: UInt64
  var isDetached: Bool
  var deadline: Instant
  var queuedAt: Instant
  /// When it ends if nobody collects it: its deadline, later if it was granted at once or waits again after that.
  var heldUntil: Instant
  var phase = WaiterPhase.waiting
  var slot = -1
  var grantedAt: Instant = 0
  var isParked: Bool
  var isCanceled = false
  /// Its owner looks at the connection, without the lock.
  var isBeingChecked = false
  /// It has looked at a connection once: its deadline may have passed meanwhile.
  var hasLooked = false
}

/// What the world has counted, to be compared with the core's counters.
struct Tally {
  /// As the core counted them last.
  var gets: UInt64 = 0
  var puts = 0
  var waits = 0
  var timeouts = 0
  var cancels = 0
  var rejected = 0
  var opened = 0
  var connectFailures = 0
  var discarded = 0
  var resets = 0
  var resetFailures = 0
  var checkFailures = 0
}

/// A virtual runtime with its server, callers and faults around one `PoolCore`. It does what the runtime does, keeps
/// its own books, and compares after every call.
final class World {
  static let slotLimit = 48
  static let ticketLimit = 3000

  let scenario: Scenario
  var random: Random
  /// The core without its lock.
  var state: PoolCore
  var now: Instant = ms(1000)
  var agenda = Agenda()
  var trace = Trace()
  var violation: String?
  var events = 0
  var isCalm = false
  /// Callers keep what they get.
  var isHolding = false

  // Memory that the core works on.
  let slots = UnsafeMutablePointer<Slot>.allocate(capacity: World.slotLimit)
  let tickets = UnsafeMutablePointer<Ticket>.allocate(capacity: World.ticketLimit)
  let expiryBuffer = UnsafeMutablePointer<SlotPointer>.allocate(capacity: World.slotLimit)
  let deadlineBuffer = UnsafeMutablePointer<TicketPointer>.allocate(capacity: World.ticketLimit)
  var word = IdleStackWord.shut
  var slotCount = 0
  var ticketCount = 0

  // The books.
  var place: [Place] = []
  var sessions: [Session?] = []
  var attempts: [Int: Attempt] = [:]
  var waiters: [Int: Waiter] = [:]
  var waiterOfTicket: [Int] = []
  /// Those who wait, in the order in which they are to be served.
  var line: [Int] = []
  /// Detached tickets that were granted and not collected.
  var uncollected: [Int] = []
  var backgroundTurn: [Int] = []
  var backgroundSince: [Instant?] = []
  var closingSince: [Instant] = []
  /// What must not lie on the idle stack.
  var isApart: [Bool] = []
  var stackGets: UInt64 = 0
  /// Hosted: the attempt for which the slot is granted as fresh, begun or not.
  var freshAttempt: [Int?] = []
  /// Hosted: the last session whose object the host closed to open another one.
  var predecessor: [Int?] = []
  /// Hosted: somebody collects what is to be closed, and is on the way.
  var hasCollector = false
  var isCollectorAwake = false
  /// Hosted: a fresh grant was taken back since this was looked at; another one is made in its place.
  var wasTakenBack = false
  var tally = Tally()
  var lastID = 0
  var epoch = 0
  var isPaused = false
  var isDrained = false
  var isClosed = false
  var minSize: Int
  var maxSize: Int
  /// More than `maxSize` only while a shrunk pool loses what is too much.
  var ceiling: Int
  var stuck = 0
  var health = ExpectedHealth()
  var server = ServerMode.well
  var upkeepTurn = 0
  var upkeepAt: Instant = .never
  var upkeepDue: Instant = .never
  var upkeepRunsNow = 0
  var lastUpkeep: Instant = -1
  var duties = Duties()
  /// In this round of the upkeep thread: attempts begun, and whether anything else happened meanwhile.
  var opensInRound = 0
  var isRoundDisturbed = false
  /// A ticket that its owner collected in the same moment in which it was decided.
  var justCollected: TicketPointer?

  init(seed: UInt64) {
    random = Random(seed: seed)
    scenario = Scenario(random: &random)
    state = PoolCore(settings: scenario.settings)
    minSize = scenario.settings.minSize
    maxSize = scenario.settings.maxSize
    ceiling = maxSize
    tickets.initialize(repeating: Ticket(), count: World.ticketLimit)
    slots.initialize(repeating: Slot(), count: World.slotLimit)
    _ = state.adoptExpiries(expiryBuffer, capacity: World.slotLimit)
    _ = state.adoptDeadlines(deadlineBuffer, capacity: World.ticketLimit)
    addSlots(upTo: maxSize)
    addTickets(random.below(3))
  }

  deinit {
    slots.deallocate()
    tickets.deallocate()
    expiryBuffer.deallocate()
    deadlineBuffer.deallocate()
  }

  func addSlots(upTo count: Int) {
    while slotCount < count {
      core.add(slot: slots + slotCount)
      slotCount += 1
      place.append(.empty)
      sessions.append(nil)
      backgroundTurn.append(0)
      backgroundSince.append(nil)
      closingSince.append(0)
      isApart.append(false)
      freshAttempt.append(nil)
      predecessor.append(nil)
    }
  }

  func addTickets(_ count: Int) {
    for _ in 0..<count where ticketCount < World.ticketLimit {
      core.add(ticket: tickets + ticketCount)
      ticketCount += 1
      waiterOfTicket.append(-1)
    }
  }

  /// The core for whoever takes the lock: it knows all that is idle.
  var core: PoolCore {
    _read {
      recall()
      yield state
    }
    _modify {
      recall()
      yield &state
    }
  }

  func newID() -> Int {
    lastID += 1
    return lastID
  }

  func index(_ slot: SlotPointer) -> Int { slot - UnsafeMutablePointer(slots) }
  func index(_ ticket: TicketPointer) -> Int { ticket - UnsafeMutablePointer(tickets) }

  /// The time that the fast path is given.
  var coarseNow: Instant { scenario.isCoarse ? now - now % ms(100) : now }

  /// The first violation counts; what follows it may be its consequence.
  func fail(_ what: @autoclosure () -> String) {
    if violation == nil { violation = what() }
  }

  /// One event: what is due next, or something that a caller or a fault does before that.
  func step() {
    events += 1
    if word.top != 0, random.chance(permille: 300) {
      return random.chance(permille: 500) ? getTry() : get(isDetached: false)
    }
    let next = now.after(random.span(0, 2 * scenario.pace))
    if agenda.nextTime <= next {
      happenNext()
    } else {
      timePasses(to: next)
      surprise()
    }
  }

  private func timePasses(to time: Instant) {
    let before = now
    now = Swift.max(now, time)
    checkDuties(since: before)
  }

  private func isPut(_ what: Happening) -> Bool {
    if case .putsBack = what { return true }
    if case .pushes = what { return true }
    return false
  }

  func happenNext() {
    let time = agenda.nextTime
    guard let what = agenda.popFirst() else { return }
    timePasses(to: time)
    if !isPut(what) { comeIn() }
    switch what {
    case .upkeep(let turn): if turn == upkeepTurn { runUpkeep() }
    case .attemptStarts(let id): attemptStarts(id)
    case .attemptReaches(let id): attemptReaches(id)
    case .attemptEnds(let id): attemptEnds(id)
    case .backgroundEnds(let slot, let turn): backgroundEnds(slot, turn: turn)
    case .peerCloses(let slot, let session): peerCloses(slot, session: session)
    case .lossIsSeen(let slot, let session): lossIsSeen(slot, session: session)
    case .wakes(let id): wakes(id)
    case .deadline(let id): deadlinePasses(id)
    case .polls(let id): polls(id)
    case .cancels(let id): cancels(id)
    case .looked(let id): looked(id)
    case .putsBack(let slot, let loan): putBack(slot, loan: loan)
    case .pushes(let slot, let loan): putBack(slot, loan: loan, isLate: true)
    case .rechecks(let slot, let loan): recheck(slot, loan: loan)
    case .hostEnds(let id): hostEnds(id)
    case .confirms(let slot, let session): confirms(slot, session: session)
    case .collects: collects()
    }
  }
}
