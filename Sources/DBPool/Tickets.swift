import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// `pool_get` in three steps.
enum Tickets {
  static func start(
    _ record: RecordPointer, _ token: UInt64, _ timeout: Int32, _ ticket: UnsafeMutablePointer<pool_ticket_t>
  ) -> Int32 {
    guard let borrowing = Borrowing(record, token, timeout: timeout) else { return POOL_EINVAL }
    while true {
      record.enter()
      guard record.holds(token) else {
        record.leave()
        return Failure.set(POOL_ECLOSED)
      }
      let now = borrowing.startedAt
      switch record.pointee.core.acquire(
        deadline: borrowing.deadline, isDetached: true, isTry: borrowing.isTry, now: now)
      {
      case .waiting(let queued):
        ticket.pointee = TicketToken.make(
          index: Waiter.of(queued).pointee.index, generation: queued.pointee.generation)
        record.unlockAndSignal()
        return POOL_OK
      case .refused(let refusal):
        record.leave()
        return report(record, refusal, since: now, until: borrowing.deadline)
      case .granted(let slot):
        // Cannot be: a detached caller gets a ticket.
        record.pointee.core.release(slot, .discarded, now: now)
        record.unlockAndSignal()
        return Failure.set(POOL_EINTERNAL)
      case .needsTicket:
        record.leave()
        guard PoolMemory.provideTickets(record) else { return Failure.set(POOL_ENOMEM) }
      }
    }
  }

  static func wait(
    _ record: RecordPointer, _ token: UInt64, _ ticket: pool_ticket_t, _ wait: Int32
  ) -> UnsafeMutableRawPointer? {
    guard wait >= POOL_TIMEOUT_INFINITE else {
      Failure.set(POOL_EINVAL, "wait_ms is below -2; give milliseconds, 0 or POOL_TIMEOUT_INFINITE")
      return nil
    }
    if wait != 0, pool_callback_get() == token {
      Failure.set(POOL_EDEADLOCK)
      return nil
    }
    let until = Deadline.after(wait, from: Clock.now)
    return TicketWait(record: record, token: token, ticket: ticket, until: until, isLook: wait == 0).run()
  }

  static func cancel(_ record: RecordPointer, _ token: UInt64, _ ticket: pool_ticket_t) -> Int32 {
    record.enter()
    guard record.holds(token), let waiter = find(record, ticket) else {
      record.leave()
      return Failure.set(POOL_EINVAL, "no such ticket, or it has ended")
    }
    record.pointee.core.cancel(waiter.ticketPointer, now: Clock.now)
    record.unlockAndSignal()
    return POOL_OK
  }

  /// The waiter of a ticket that has not ended. Under the lock.
  static func find(_ record: RecordPointer, _ ticket: pool_ticket_t) -> WaiterPointer? {
    guard let waiter = record.pointee.waiters.element(TicketToken.index(ticket)),
      waiter.pointee.ticket.state != .free, waiter.pointee.ticket.isDetached,
      TicketToken.matches(ticket, generation: waiter.pointee.ticket.generation)
    else { return nil }
    return waiter
  }

  static func report(
    _ record: RecordPointer, _ refusal: Refusal, since start: Instant, until deadline: Instant
  ) -> Int32 {
    guard let slot = pool_error_slot_take() else { return POOL_ENOMEM }
    record.enter()
    let code = RefusalReport(record, refusal, since: start, until: deadline, wasTry: false).write(slot)
    record.leave()
    return code
  }
}

/// One `pool_get_wait`.
struct TicketWait {
  let record: RecordPointer
  let token: UInt64
  let ticket: pool_ticket_t
  let until: Instant
  let isLook: Bool

  func run() -> UnsafeMutableRawPointer? {
    var last = Wait.woken
    while true {
      record.enter()
      guard record.holds(token) else { return fail(POOL_ECLOSED) }
      guard let waiter = Tickets.find(record, ticket) else {
        record.leave()
        Failure.set(POOL_EINVAL, "no such ticket, or it has ended")
        return nil
      }
      let now = Clock.now
      if now >= waiter.pointee.ticket.deadline, waiter.pointee.ticket.state == .waiting {
        return end(waiter, record.pointee.core.timeOut(waiter.ticketPointer, now: now))
      }
      switch waiter.pointee.ticket.state {
      case .granted where waiter.pointee.ticket.isBeingChecked:
        // Another thread of the caller's is about to collect it.
        return fail(POOL_PENDING)
      case .granted:
        switch collect(waiter) {
        case .connection(let connection): return connection
        case .again: last = .woken
        case .canceled: return nil
        }
      case .refused, .free:
        return end(waiter, record.pointee.core.collect(waiter.ticketPointer, now: now))
      case .waiting:
        guard !isLook, now < until, last != .interrupted else { return fail(POOL_PENDING) }
        last = park(waiter)
      }
    }
  }

  /// Under the lock; lets go of it.
  private func park(_ waiter: WaiterPointer) -> Wait {
    let seen = waiter.pointee.spot.value
    let deadline = Swift.min(until, waiter.pointee.ticket.deadline)
    waiter.pointee.ticket.parked += 1
    record.leave()
    let result = waiter.pointee.spot.park(seen: seen, until: deadline)
    record.enter()
    // The ticket's memory stays; a later use of it begins with nobody parked.
    if record.holds(token), TicketToken.matches(ticket, generation: waiter.pointee.ticket.generation) {
      waiter.pointee.ticket.parked -= 1
    }
    record.leave()
    return result
  }

  /// Takes the granted connection, if it lives; otherwise the ticket is in front of the queue again. Under the lock;
  /// lets go of it. The look at the socket is made without the lock: meanwhile the ticket may be taken back.
  private func collect(_ waiter: WaiterPointer) -> Collecting {
    guard let slot = waiter.pointee.ticket.slot else {
      record.leave()
      return .again
    }
    let ticket = waiter.pointee.ticket
    // A ping of long ago tells nothing; `since` is when the ticket got the connection.
    let isFresh = Clock.now &- slot.pointee.since < Span.soon
    let loan = Loan(Session.of(slot), isChecked: ticket.isChecked && isFresh)
    if record.pointee.options.given.check >= POOL_CHECK_SOCKET {
      record.pointee.core.beginCheck(waiter.ticketPointer)
      record.leave()
      let fitness = loan.verify(isTry: ticket.deadline <= ticket.queuedAt)
      record.enter()
      guard record.pointee.core.endCheck(waiter.ticketPointer, now: Clock.now) else {
        record.unlockAndSignal()
        Failure.set(POOL_ECANCELED)
        return .canceled
      }
      switch fitness {
      case .fit: break
      case .dead, .doubtful:
        record.pointee.core.requeue(waiter.ticketPointer, fitness == .dead ? .broken : .doubtful, now: Clock.now)
        record.unlockAndSignal()
        return .again
      }
    }
    guard case .granted(let collected) = record.pointee.core.collect(waiter.ticketPointer, now: Clock.now),
      collected == slot
    else {
      record.unlockAndSignal()
      return .again
    }
    loan.begin()
    record.unlockAndSignal()
    return .connection(loan.hand())
  }

  private enum Collecting {
    case connection(UnsafeMutableRawPointer?)
    /// Not yet after all, or it has ended: look again.
    case again
    case canceled
  }

  private func end(_ waiter: WaiterPointer, _ collected: Collected) -> UnsafeMutableRawPointer? {
    let (start, deadline) = (waiter.pointee.ticket.queuedAt, waiter.pointee.ticket.deadline)
    switch collected {
    case .granted(let slot):
      let loan = Loan(Session.of(slot), isChecked: true)
      loan.begin()
      record.unlockAndSignal()
      return loan.hand()
    case .pending: return fail(POOL_PENDING)
    case .refused(let refusal):
      record.unlockAndSignal()
      _ = Tickets.report(record, refusal, since: start, until: deadline)
      return nil
    }
  }

  /// Under the lock; lets go of it.
  private func fail(_ code: Int32) -> UnsafeMutableRawPointer? {
    record.leave()
    Failure.set(code)
    return nil
  }
}
