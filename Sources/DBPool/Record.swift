import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

typealias RecordPointer = UnsafeMutablePointer<PoolRecord>

/// A pool: the core, and what the runtime keeps beside it. Records are reused by later pools and never freed, so that
/// a call with a stale token reads valid memory.
///
/// Lock order: `process.registryLock`, then `lock` (of one pool; of all, by index, only at fork), then
/// `process.connectorLock` or `logLock`. Under `lock`: no libpq, no callback, no allocation, no system call but the
/// futex of the lock itself.
struct PoolRecord: ~Copyable {
  let index: Int
  /// The pool that lives here, 0 = none; with `Token.forkedBit` until its first use in a forked child.
  let token = Atomic<UInt64>(0)
  /// Idle connections that are lent and put without the lock. Shut while anybody holds the lock: `enter`, `leave`.
  let idleStack = IdleStack()
  /// The address of sessions by seat, see `Seats`; read without the lock.
  let seats = Atomic<UInt>(0)
  /// See `Spin`.
  let spinCredit = Atomic<Int32>(0)
  let lock = Lock()

  // Guarded by `lock`.
  var core: PoolCore
  var sessions = Segments<Session>()
  var waiters = Segments<Waiter>()
  var silentTarget = SilentTarget()
  var loginTurns = LoginTurns()
  /// The last connect failure, cleaned, without any password.
  var lastError: FixedText
  var lastErrorAt: Instant = 0
  var leaks: UInt64 = 0
  /// Attempts and callbacks that connector threads are running or will run.
  var jobs = 0
  /// Connector threads at work for this pool. Guarded by `process.connectorLock`.
  var running = 0

  /// Connections by address; read without the lock.
  let connections = Atomic<UInt>(0)
  /// Constant while the pool lives: the host makes the connections.
  var isHosted = false
  /// Constant while the pool lives; see `Options.isPlain`.
  var isPlain = false
  /// Constant while the pool lives: the idle stack may be open.
  var usesIdleStack = false
  /// Seats that exist, and the next one that `Seats.assign` asks for. Seats are only taken once all 255 exist.
  var seatCount = 0
  var nextSeat: UInt8 = 1
  /// What `pool_stats` told last, see there.
  var toldGets: UInt64 = 0
  var toldPuts: UInt64 = 0
  /// Advances when a login has ended.
  let loginEnds = ParkingSpot()
  /// Advances at everything that `pool_wait` and `pool_drain` wait for.
  let changes = ParkingSpot()
  /// Threads in `pool_wait` and `pool_drain`.
  let watchers = Atomic<Int>(0)
  /// The pool is closing: attempts stop at the next look.
  let isStopping = Atomic<Bool>(false)

  // Set by `pool_create`, constant while the pool lives.
  var options = Options()
  var parameters: ConnectParameters?
  var usesTLS = false

  // The upkeep thread's list of pools that want it.
  let isSignalled = Atomic<Bool>(false)
  let nextSignalled = Atomic<UInt32>(0)
  /// When it looks for leaks again. The upkeep thread's own.
  var nextLeakSearch: Instant = 0

  // Callbacks.
  var log = LogQueue()
  var callbackJob = Job()
  /// A thread delivers the log or frees the context, or is about to. Guarded by `lock`.
  var isCallbackRunning = false
  var context = ContextState.borrowed

  /// In a forked child: what was lent before the fork.
  var forkedLoans: ForkedLoans?

  /// The next free record.
  var nextFree: RecordPointer?

  init(index: Int) {
    self.index = index
    core = PoolCore(settings: Settings())
    lastError = FixedText()
  }
}

/// Whose the context of the callbacks is.
enum ContextState: UInt8 {
  /// The host's: there is no `context_free`.
  case borrowed
  /// Ours, to be freed after the last callback.
  case owned
  /// Freed, or being freed: no callback is called any more.
  case gone
}

extension RecordPointer {
  /// Takes the lock. From here to `leave` the idle stack is shut and the state machine knows all that is idle.
  @inline(never)
  func enter() {
    pointee.lock.lock()
    let content = pointee.idleStack.shut()
    if content != .empty { recall(content) }
  }

  /// Lets go of the lock. Where every put must be seen the stack stays shut.
  @inline(never)
  func leave() {
    if pointee.usesIdleStack, pointee.core.isOrdinary, pointee.idleStack.isShut { pointee.idleStack.open() }
    pointee.lock.unlock()
  }

  /// Tells the state machine what lay on the stack, as if it were put back just now: the lowest first, so that the order
  /// stays.
  @inline(never)
  private func recall(_ content: IdleStackWord) {
    let now = process.pointee.coarseNow.load(ordering: .relaxed)
    var rest = content
    while rest.bottom != 0 {
      pointee.core.release(Seats.session(self, rest.bottom).slotPointer, .idle, now: now)
      rest = rest.withoutBottom
    }
  }

  /// Lets go of the lock and wakes those whose tickets were decided. Their words change under the lock: a waiter that
  /// looked before sleeps only on the old value. Waiters are never freed, so to wake one late harms nobody.
  func unlockAndWake() {
    var waiters = InlineArray<16, WaiterPointer?>(repeating: nil)
    var count = 0
    while let ticket = pointee.core.takeDecided() {
      let waiter = Waiter.of(ticket)
      waiter.pointee.spot.advance()
      if count < 16 {
        waiters[count] = waiter
        count += 1
      } else {
        // Many at once is rare (resume): not worth more memory.
        waiter.pointee.spot.wake()
      }
    }
    let hasStaleNews = pointee.core.takeStaleNews()
    if hasStaleNews { process.pointee.collectable.advance() }
    leave()
    for index in 0..<count { waiters[index]?.pointee.spot.wake() }
    if hasStaleNews { process.pointee.collectable.wake() }
  }

  /// Wakes those in `pool_wait` and `pool_drain`, to look again. After the change, without the lock.
  func notifyChanges() {
    guard pointee.watchers.load(ordering: .sequentiallyConsistent) > 0 else { return }
    pointee.changes.advance()
    pointee.changes.wake()
  }

  /// The clock by which the time of use of loans is measured.
  @inline(__always)
  var loanClock: Instant {
    pointee.options.given.exact_times == 0 ? process.pointee.coarseNow.load(ordering: .relaxed) : Clock.now
  }

  /// The record has the pool that this token stands for. Under the lock.
  func holds(_ token: UInt64) -> Bool { pointee.token.load(ordering: .relaxed) == token }

  var callbackJobPointer: UnsafeMutablePointer<Job> {
    // In place: the record never moves.
    withUnsafeMutablePointer(to: &pointee.callbackJob) { $0 }
  }
}

/// The target whose time was up: attempts start behind it for a minute, then it has another chance. Otherwise every new
/// connection would wait for a first host that is down.
struct SilentTarget {
  private var target = TargetMark()
  private var until: Instant = 0

  init() {}

  func mark(now: Instant) -> TargetMark { now < until ? target : TargetMark() }

  mutating func update(_ found: TargetMark, now: Instant) {
    if found != target || now >= until { until = now.after(.milliseconds(60_000)) }
    target = found
  }
}

/// A text in a buffer of its own, taken once for each record.
struct FixedText {
  static var capacity: Int { 512 }
  private var buffer: UnsafeMutablePointer<CChar>?

  init() {}

  /// False when there is no memory.
  mutating func prepare() -> Bool {
    if buffer == nil {
      buffer = Memory.allocate(CChar.self, count: Self.capacity)
      clear()
    }
    return buffer != nil
  }

  func clear() { buffer?[0] = 0 }

  var isEmpty: Bool { buffer.map { $0[0] == 0 } ?? true }

  var cString: UnsafePointer<CChar>? { UnsafePointer(buffer) }

  func set(_ text: UnsafePointer<CChar>) {
    guard let buffer else { return }
    strncpy(buffer, text, Self.capacity - 1)
    buffer[Self.capacity - 1] = 0
  }
}
