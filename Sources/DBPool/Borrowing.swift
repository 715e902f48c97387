import CDBPool
import CLibpq
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// `pool_get`, beyond its fast path.
///
/// One deadline, computed at entry, covers everything. A thread that must wait is parked on its ticket's own word; the
/// ticket is decided under the pool's lock, exactly once: whichever of grant, refusal and time-out comes first.
struct Borrowing {
  let record: RecordPointer
  let token: UInt64
  let deadline: Instant
  let isTry: Bool
  let startedAt: Instant

  /// nil when the arguments are wrong; the message is set.
  init?(_ record: RecordPointer, _ token: UInt64, timeout: Int32) {
    guard timeout >= POOL_TIMEOUT_INFINITE else {
      Failure.set(POOL_EINVAL) {
        $0.append("timeout_ms is ")
        $0.append(Int(timeout))
        $0.append("; give milliseconds, 0, POOL_TIMEOUT_DEFAULT or POOL_TIMEOUT_INFINITE")
      }
      return nil
    }
    self.record = record
    self.token = token
    let effective = timeout == POOL_TIMEOUT_DEFAULT ? record.pointee.options.given.acquire_timeout_ms : timeout
    startedAt = Clock.now
    isTry = effective == 0
    deadline = Deadline.after(effective, from: startedAt)
  }

  /// A connection, or nil with the error set.
  func run() -> UnsafeMutableRawPointer? {
    while true {
      let found = isTry ? tryOnce() : acquire()
      switch found {
      case .loan(let loan):
        switch loan.verify(isTry: isTry) {
        case .fit: return loan.hand()
        case .dead: loan.drop()
        case .doubtful:
          if isTry {
            loan.drop()
          } else if let loan = recheck(loan) {
            return loan.hand()
          } else {
            return nil
          }
        }
      case .failed: return nil
      }
    }
  }

  enum Found {
    case loan(Loan)
    /// The error is set.
    case failed
  }

  // MARK: Without waiting

  private func tryOnce() -> Found {
    let slot = pool_error_slot_take()
    record.enter()
    guard isOpen else { return failClosed() }
    if let slot = record.pointee.core.tryAcquire(now: startedAt, isTry: true) { return lent(slot) }
    if let slot = record.pointee.core.tryAcquireFresh(now: startedAt) { return lent(slot) }
    let refusal = record.pointee.core.refuseTry()
    fail(refusal, slot)
    unlockAndSignal()
    return .failed
  }

  // MARK: With waiting

  private func acquire() -> Found {
    if let session = Spin.take(record, until: deadline) {
      if let loan = Loan(popped: session, by: token) { return .loan(loan) }
      Returning.giveBack(session)
    }
    while true {
      record.enter()
      guard isOpen else { return failClosed() }
      switch record.pointee.core.acquire(deadline: deadline, isDetached: false, now: Clock.now) {
      case .granted(let slot): return lent(slot)
      case .waiting(let ticket): return wait(ticket)
      case .refused(let refusal): return refuse(refusal)
      case .needsTicket:
        record.leave()
        guard PoolMemory.provideTickets(record) else {
          Failure.set(POOL_ENOMEM)
          return .failed
        }
      }
    }
  }

  /// A ping must tell whether the connection lives; the caller waits in front of the queue.
  private func recheck(_ loan: Loan) -> Loan? {
    while true {
      record.enter()
      loan.session.pointee.lent.store(0, ordering: .relaxed)
      let found: Found
      switch record.pointee.core.recheck(loan.session.slotPointer, deadline: deadline, now: Clock.now) {
      case .waiting(let ticket): found = wait(ticket)
      case .needsTicket:
        record.leave()
        if PoolMemory.provideTickets(record) { continue }
        loan.drop()
        Failure.set(POOL_ENOMEM)
        return nil
      case .granted(let slot): found = lent(slot)
      case .refused:
        // Closed meanwhile.
        unlockAndSignal()
        Failure.set(POOL_ECLOSED)
        return nil
      }
      guard case .loan(let checked) = found else { return nil }
      return checked
    }
  }

  /// Parks until the ticket is decided or the deadline passes. Under the lock; lets go of it.
  private func wait(_ ticket: TicketPointer) -> Found {
    if wouldDeadlock {
      record.pointee.core.cancel(ticket, now: startedAt)
      unlockAndSignal()
      Failure.set(POOL_EDEADLOCK)
      return .failed
    }
    let waiter = Waiter.of(ticket)
    var seen = waiter.pointee.spot.value
    unlockAndSignal()
    let slot = pool_error_slot_take()
    while true {
      let end = waiter.pointee.spot.park(seen: seen, until: deadline)
      record.enter()
      // A pool that was closed and buried meanwhile has refused this ticket.
      guard record.holds(token) else { return failClosed() }
      let now = Clock.now
      let checked = ticket.pointee.isChecked ? ticket.pointee.slot : nil
      let found =
        end == .timedOut
        ? record.pointee.core.timeOut(ticket, now: now) : record.pointee.core.collect(ticket, now: now)
      switch found {
      case .granted(let slot): return lent(slot, isChecked: slot == checked)
      case .refused(let refusal):
        fail(refusal, slot)
        unlockAndSignal()
        return .failed
      case .pending:
        seen = waiter.pointee.spot.value
        unlockAndSignal()
      }
    }
  }

  // MARK: Small steps

  /// Under the lock.
  private var isOpen: Bool { record.holds(token) && !record.pointee.core.isClosed }

  private var wouldDeadlock: Bool { pool_callback_get() == token }

  /// Marks the slot as lent. Under the lock; lets go of it.
  private func lent(_ slot: SlotPointer, isChecked: Bool = false) -> Found {
    let loan = Loan(Session.of(slot), isChecked: isChecked)
    loan.begin()
    unlockAndSignal()
    return .loan(loan)
  }

  private func refuse(_ refusal: Refusal) -> Found {
    record.leave()
    let slot = pool_error_slot_take()
    record.enter()
    fail(refusal, slot)
    record.unlockAndWake()
    return .failed
  }

  private func failClosed() -> Found {
    record.leave()
    Failure.set(POOL_ECLOSED)
    return .failed
  }

  /// Under the lock: only copies text.
  private func fail(_ refusal: Refusal, _ slot: UnsafeMutablePointer<pool_error_slot>?) {
    guard let slot else { return }
    RefusalReport(record, refusal, since: startedAt, until: deadline, wasTry: isTry).write(slot)
  }

  private func unlockAndSignal() {
    record.unlockAndSignal()
  }
}

extension RecordPointer {
  /// As `unlockAndWake`, and asks the upkeep thread if there is something for it. While the pool has anything open the
  /// thread looks by itself every 100 ms.
  func unlockAndSignal() {
    let now = process.pointee.coarseNow.load(ordering: .relaxed)
    // Attempts of ours are known to it, those of a host are not.
    let isWanted =
      pointee.core.total == 0 || pointee.core.needsUpkeep(now: now) || (pointee.isHosted && pointee.core.isOpening)
    unlockAndWake()
    if isWanted { Upkeep.signal(self) }
  }
}

/// A connection that was granted to the calling thread and that the caller has not seen yet.
struct Loan {
  let session: SessionPointer
  /// It comes straight from a ping.
  private let isChecked: Bool

  init(_ session: SessionPointer, isChecked: Bool) {
    self.session = session
    self.isChecked = isChecked
  }

  enum Fitness {
    case fit, dead
    /// Something has arrived on it: only a ping can tell.
    case doubtful
  }

  private var record: RecordPointer { session.pointee.record }

  /// Under the lock.
  func begin() {
    session.pointee.lent.store(session.pointee.handle, ordering: .relaxed)
    if !record.pointee.isHosted { session.prepareLoan() }
    if isFresh { record.pointee.core.freshStarted(session.slotPointer, now: Clock.now) }
    if record.pointee.options.given.exact_times == 0 {
      record.pointee.core.stamp(session.slotPointer, now: process.pointee.coarseNow.load(ordering: .relaxed))
    }
    if record.pointee.options.given.leak_threshold_ms > 0 {
      session.pointee.holder = pool_thread_id()
      session.pointee.isLeakReported = false
    }
  }

  /// Looks at the socket, if the pool's `check` asks for it. Not readable: fit. What makes it readable may be the end,
  /// a last word before the end, or a notification. `isTry`: nobody can wait for a ping, so quiet must be enough.
  func verify(isTry: Bool) -> Fitness {
    guard !isChecked, record.pointee.options.given.check >= POOL_CHECK_SOCKET else { return .fit }
    guard !record.pointee.isHosted else { return isFresh ? .fit : verifyHosted() }
    guard let pointer = session.pointee.connection else { return .fit }
    let connection = Connection(pointer)
    guard connection.isOpen else { return .dead }
    switch Readiness.of(connection.socket) {
    case .quiet: return .fit
    case .gone: return .dead
    case .readable:
      guard connection.consumeInput(), connection.isOpen else { return .dead }
      return isTry && Readiness.of(connection.socket) != .gone ? .fit : .doubtful
    }
  }

  /// Of a hosted slot only the host can tell what has arrived.
  private func verifyHosted() -> Fitness {
    let readiness = Readiness.of(session.pointee.descriptor.number)
    session.pointee.isDoubtful = readiness == .readable
    return readiness == .gone ? .dead : .fit
  }

  /// The caller is to open a session for it.
  private var isFresh: Bool { session.pointee.slot.state == .opening }

  /// Lends what was popped from the idle stack; nil when it must not be, and is to be given back: the record may be another
  /// pool's by now, and the session have been condemned while it was put.
  @inline(__always)
  init?(popped session: SessionPointer, by token: UInt64) {
    guard session.pointee.record.holds(token) else { return nil }
    guard session.pointee.expectedSocket.load(ordering: .relaxed) >= 0 else { return nil }
    session.pointee.lent.store(session.pointee.handle, ordering: .relaxed)
    session.pointee.stackGets.store(session.pointee.stackGets.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    (self.session, isChecked) = (session, true)
  }

  /// What the caller gets.
  func hand() -> UnsafeMutableRawPointer? {
    let flags = HostedToken.flags(
      isFresh: isFresh, isOccupied: session.pointee.slot.isOccupied, isDoubtful: session.pointee.isDoubtful)
    return UnsafeMutableRawPointer(bitPattern: session.pointee.handle | flags)
  }

  /// Gives a dead connection back.
  func drop() {
    record.enter()
    session.pointee.lent.store(0, ordering: .relaxed)
    record.pointee.core.lost(session.slotPointer, now: Clock.now)
    record.pointee.core.release(session.slotPointer, .broken, now: Clock.now)
    record.unlockAndSignal()
  }
}

/// What one look at a socket tells, without waiting.
enum Readiness {
  case quiet, readable, gone

  static func of(_ descriptor: Int32) -> Readiness {
    let end = pool_poll_end()
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN) | end, revents: 0)
    guard poll(&entry, 1, 0) > 0 else { return .quiet }
    let gone = Int16(POLLERR) | Int16(POLLNVAL) | Int16(POLLHUP) | end
    return entry.revents & gone != 0 ? .gone : .readable
  }
}

/// When a wait ends.
enum Deadline {
  /// `milliseconds` from `now`; negative = none. Once the process exits nobody serves those who wait any more.
  static func after(_ milliseconds: Int32, from now: Instant) -> Instant {
    let deadline = milliseconds < 0 ? Instant.never : now.after(.milliseconds(Int(milliseconds)))
    guard process.pointee.isExiting.load(ordering: .relaxed) else { return deadline }
    return Swift.min(deadline, now.after(.milliseconds(100)))
  }
}

/// Runs `body` with pthread_cancel held off: what it holds and is given is never lost half-way.
@inline(__always)
func withoutCancellation<Result>(_ body: () -> Result) -> Result {
  let state = pool_cancel_disable()
  defer { pool_cancel_restore(state) }
  return body()
}
