/// The pool as a pure state machine: it decides, the runtime acts.
///
/// An event is a method; it changes slots and tickets and leaves behind what is to be done: tickets whose owners must
/// be woken (`takeDecided`) and work for the upkeep thread (`nextTask`). No I/O, no clock, no allocation: time is an
/// argument, memory is handed in. The caller holds the pool's lock around each call, and drains `takeDecided` before it
/// lets go.
///
/// Invariants, after every call:
/// - `total` ≤ `maxSize` (unless `maxSize` was lowered); each slot is in exactly one state and list;
/// - nobody waits while a connection is idle, unless the pool is paused;
/// - the queue is first come, first served; a slot comes back from every ticket that ends.
public struct PoolCore: ~Copyable {
  public internal(set) var settings: Settings
  public internal(set) var counters = Counters()

  // Slots by state. Those that are leased stand in no list.
  var free = LinkedList<Slot>()
  var idle = LinkedList<Slot>()  // most recently used first
  var opening = LinkedList<Slot>()
  var todo = LinkedList<Slot>()  // resetting, checking or closing, to be begun by the upkeep thread
  var background = LinkedList<Slot>()  // resetting or checking, begun; oldest first
  var retiring = LinkedList<Slot>()
  var closing = LinkedList<Slot>()  // closed by us, the server's end not yet; oldest first
  var stale = LinkedList<Slot>()  // hosted: to go, the host has the object; oldest first
  var expiries = DeadlineHeap<Slot>()
  public internal(set) var total = 0
  public internal(set) var leased = 0
  var resetting = 0  // begun or not
  var checking = 0  // begun or not
  var toClose = 0  // in `todo`
  var ending = 0  // hosted: the host closes the object; in no list
  /// Hosted: `opening`, to be fetched by a worker.
  var offered = 0
  /// There is more to collect since `takeStaleNews`.
  var hasStaleNews = false

  // Tickets.
  var queue = LinkedList<Ticket>()
  var freeTickets = LinkedList<Ticket>()
  var ticketDeadlines = DeadlineHeap<Ticket>()
  var firstDecided: TicketPointer?
  var lastDecided: TicketPointer?

  // The pool.
  public internal(set) var isPaused = false
  public internal(set) var isDrained = false
  public internal(set) var isClosed = false
  var epoch: UInt32 = 0
  /// Attempts due for connections that went and are to be replaced, though nobody waits.
  var owed = 0
  /// Openings that have not reached a server.
  var unreached = 0
  /// Attempts given up whose threads have not come back.
  var stuck = 0
  var health = ConnectHealth()
  var randomState: UInt64
  /// When `sampleUse` was called last.
  var lastSample: Instant = 0
  /// Where in the jitter the last lifetime ended; 0 = there was none.
  var lifetimeStep: UInt64 = 0

  /// The gate in front of the idle connections: closed, a get must go through the queue. Shut by waiters, pause, drain
  /// and close.
  public private(set) var isGated = false

  /// What is put back clean goes to the idle ones: nobody waits, nothing is to be reset, there is no surplus.
  public private(set) var isOrdinary = false

  public init(settings: Settings) {
    self.settings = settings
    randomState = settings.seed | 1
    updateGate()
  }

  // MARK: Memory, handed in

  /// Adds an empty slot. The expiry heap must have room for it (`adoptExpiries`).
  public mutating func add(slot: SlotPointer) { free.append(slot) }

  public mutating func add(ticket: TicketPointer) { freeTickets.append(ticket) }

  /// Moves the expiry heap to a larger buffer; returns the old one to be freed.
  public mutating func adoptExpiries(
    _ buffer: UnsafeMutablePointer<SlotPointer>, capacity: Int
  ) -> UnsafeMutablePointer<SlotPointer>? {
    expiries.adopt(buffer, capacity: capacity)
  }

  /// Moves the heap of ticket deadlines to a larger buffer; returns the old one to be freed.
  public mutating func adoptDeadlines(
    _ buffer: UnsafeMutablePointer<TicketPointer>, capacity: Int
  ) -> UnsafeMutablePointer<TicketPointer>? {
    ticketDeadlines.adopt(buffer, capacity: capacity)
  }

  public var hasFreeTicket: Bool { !freeTickets.isEmpty }

  // MARK: Looking

  public var gauges: Gauges {
    Gauges(
      total: total, idle: idle.count, inUse: leased, opening: opening.count,
      background: resetting + checking + retiring.count, closing: going, waiting: queue.count,
      stuck: stuck)
  }

  /// Connections that are open and will be lent (again).
  var live: Int { idle.count + leased + resetting + checking }

  /// Connections that will be lent no more and count still.
  var going: Int { toClose + closing.count + stale.count + ending }

  /// Sessions were closed, and the server's end of them is not yet seen closed.
  public var isAwaitingEnds: Bool { !closing.isEmpty }

  /// No connection is open.
  public var isEmpty: Bool { live == 0 }

  public var hasMinimum: Bool { live >= settings.minSize }

  /// The last attempt failed in a way that will not go away.
  public var failedForGood: Bool { health.lastFailure == .permanent }

  public var hasConnectFailure: Bool { health.lastFailure != nil }

  /// Sessions end as soon as they are open.
  public var sessionsDoNotLast: Bool { health.isOnProbation }

  /// Nothing is left of a closed pool: no session, no attempt, no waiter.
  public var isFinished: Bool { isClosed && total == 0 && stuck == 0 && queue.isEmpty }

  /// Something will be due: the upkeep thread has to keep time for this pool.
  public var needsTime: Bool {
    total > 0 || queue.count > 0 || ticketDeadlines.count > 0 || owed > 0 || isBelowMinimum
  }

  /// Connections are to be opened though nobody asks.
  private var isBelowMinimum: Bool { !hasMinimum && !isClosed && !isDrained && !settings.opensOnGrant }

  /// Attempts are under way.
  public var isOpening: Bool { !opening.isEmpty }

  /// The last call left nothing to be done: nobody to wake, no work for the upkeep thread.
  @inline(__always)
  public var isQuiet: Bool { firstDecided == nil && todo.isEmpty }

  // MARK: Small steps

  mutating func updateGate() {
    isGated = isPaused || isDrained || isClosed || !queue.isEmpty
    isOrdinary = !isGated && total <= settings.maxSize && settings.reset.rawValue <= ResetMode.rollback.rawValue
  }

  mutating func nextRandom() -> UInt64 {
    // xorshift64*, Vigna 2016.
    randomState ^= randomState >> 12
    randomState ^= randomState << 25
    randomState ^= randomState >> 27
    return randomState &* 0x2545_F491_4F6C_DD1D
  }

  /// Counts a broken invariant. In a debug build it stops here.
  mutating func broken(_ what: StaticString) {
    counters.internalErrors &+= 1
    assertionFailure("broken invariant in PoolCore")
  }
}
