/// What became of a call for a connection.
public enum Acquire {
  case granted(SlotPointer)
  case waiting(TicketPointer)
  case refused(Refusal)
  /// No free ticket: add some and ask again.
  case needsTicket
}

/// What a ticket holder finds.
public enum Collected {
  case pending
  case granted(SlotPointer)
  case refused(Refusal)
}

extension PoolCore {
  /// Lends an idle connection, if one may be lent without anything else. The fast path: no clock is needed, `now` may
  /// be coarse. `isTry`: the caller will not wait, so no ping can be made for it.
  @inline(__always)
  public mutating func tryAcquire(now: Instant, isTry: Bool = false) -> SlotPointer? {
    guard !isGated, let slot = nextIdle, isTry || !needsCheck(slot, now: now) else { return nil }
    if settings.queueMode == .lifo { idle.removeFirst(slot) } else { idle.remove(slot) }
    lend(slot, now: now)
    return slot
  }

  /// What to answer a caller who will not wait. So that trying again leads somewhere, one connection is opened.
  public mutating func refuseTry() -> Refusal {
    if isClosed { return .closed }
    if isPaused {
      counters.timeouts &+= 1
      return .paused
    }
    if !settings.opensOnGrant, total < settings.maxSize, opening.isEmpty, owed == 0 { owed = 1 }
    counters.timeouts &+= 1
    return live < settings.maxSize && health.lastFailure != nil ? .cannotConnect : .timedOut
  }

  /// Joins the queue, or takes an idle connection. `isDetached`: the caller wants a ticket in any case.
  /// `isTry` as in `tryAcquire`.
  public mutating func acquire(
    deadline: Instant, isDetached: Bool, isTry: Bool = false, now: Instant
  ) -> Acquire {
    if isClosed { return .refused(.closed) }
    if isDetached, freeTickets.isEmpty { return .needsTicket }
    let slot = tryAcquire(now: now, isTry: isTry) ?? tryAcquireFresh(now: now)
    if let slot, !isDetached { return .granted(slot) }
    if slot == nil, settings.maxWaiting > 0, queue.count >= settings.maxWaiting {
      counters.rejected &+= 1
      return .refused(.full)
    }
    guard let ticket = freeTickets.popFirst() else { return .needsTicket }
    ticket.pointee.isDetached = isDetached
    ticket.pointee.deadline = deadline
    ticket.pointee.queuedAt = now
    if isDetached, deadline != .never {
      // What was there at once may be collected a little later, even with no time to wait.
      ticketDeadlines.insert(ticket, due: slot == nil ? deadline : Swift.max(deadline, now.after(Span.collection)))
    }
    if let slot {
      ticket.pointee.state = .granted
      ticket.pointee.slot = slot
      ticket.pointee.isChecked = false
    } else {
      ticket.pointee.state = .waiting
      counters.waits &+= 1
      queue.append(ticket)
      updateGate()
      serve(now: now)
    }
    return .waiting(ticket)
  }

  /// What was decided; ends the ticket, unless it is pending. A granted connection that must not be lent any more is
  /// not: the ticket is in front of the queue again. It is pending even if another connection was there for it at once,
  /// which its owner may want to look at first; it is woken then.
  public mutating func collect(_ ticket: TicketPointer, now: Instant) -> Collected {
    if ticket.pointee.state == .granted, let slot = ticket.pointee.slot {
      if slot.pointee.state == .opening {
        if isClosed { revoke(ticket, .closed, now: now) }
      } else if isStale(slot, now: now) {
        requeue(ticket, .stale, now: now)
        if ticket.pointee.state == .granted { return .pending }
      }
    }
    switch ticket.pointee.state {
    case .waiting: return .pending
    case .free: return .refused(.canceled)
    case .granted:
      let slot = ticket.pointee.slot
      countWait(ticket, now: now)
      end(ticket)
      guard let slot else {
        broken("a granted ticket has no slot")
        return .refused(.timedOut)
      }
      return .granted(slot)
    case .refused:
      let refusal = ticket.pointee.refusal
      countWait(ticket, now: now)
      end(ticket)
      return .refused(refusal)
    }
  }

  /// The ticket's deadline has passed. What was decided before counts; otherwise it leaves the queue.
  public mutating func timeOut(_ ticket: TicketPointer, now: Instant) -> Collected {
    if ticket.pointee.state == .waiting { refuse(ticket, timeoutRefusal) }
    var found = collect(ticket, now: now)
    // What was granted had to be taken back; another one may have been there at once.
    while case .pending = found, ticket.pointee.state == .granted { found = collect(ticket, now: now) }
    guard case .pending = found else { return found }
    refuse(ticket, timeoutRefusal)
    return collect(ticket, now: now)
  }

  /// The owner gives up. A connection granted meanwhile goes to the next.
  public mutating func cancel(_ ticket: TicketPointer, now: Instant) {
    switch ticket.pointee.state {
    case .free: return
    case .waiting: refuse(ticket, .canceled)
    case .granted where ticket.pointee.isBeingChecked:
      ticket.pointee.isCanceled = true
      return
    case .granted:
      revoke(ticket, .canceled, now: now)
    case .refused: break
    }
    counters.cancels &+= 1
    if ticket.pointee.parked == 0 { end(ticket) } else { decide(ticket) }
  }

  /// The owner of a granted ticket looks at the connection before it collects.
  public mutating func beginCheck(_ ticket: TicketPointer) { ticket.pointee.isBeingChecked = true }

  /// False when the ticket was canceled meanwhile: it has ended then.
  public mutating func endCheck(_ ticket: TicketPointer, now: Instant) -> Bool {
    ticket.pointee.isBeingChecked = false
    guard ticket.pointee.isCanceled else { return true }
    ticket.pointee.isCanceled = false
    cancel(ticket, now: now)
    return false
  }

  /// The next ticket whose owner is to be woken.
  public mutating func takeDecided() -> TicketPointer? {
    guard let ticket = firstDecided else { return nil }
    firstDecided = ticket.pointee.nextDecided
    if firstDecided == nil { lastDecided = nil }
    ticket.pointee.nextDecided = nil
    return ticket
  }

  // MARK: Inside

  var nextIdle: SlotPointer? { settings.queueMode == .lifo ? idle.first : idle.last }

  func needsCheck(_ slot: SlotPointer, now: Instant) -> Bool {
    settings.check == .ping && now &- slot.pointee.since > settings.checkAfterIdle
  }

  @inline(__always)
  mutating func lend(_ slot: SlotPointer, now: Instant) {
    slot.pointee.state = .leased
    slot.pointee.since = now
    leased &+= 1
    counters.gets &+= 1
  }

  /// Gives idle connections to those who wait, oldest first; those idle too long are checked before.
  mutating func serve(now: Instant) {
    guard !isPaused, !isClosed else { return }
    while let ticket = queue.first, let slot = nextIdle {
      if needsCheck(slot, now: now) {
        guard checking < queue.count else { return }
        idle.remove(slot)
        beginLater(slot, .checking)
      } else {
        idle.remove(slot)
        grant(ticket, slot, now: now)
      }
    }
    if settings.opensOnGrant { serveFresh(now: now) }
  }

  mutating func grant(_ ticket: TicketPointer, _ slot: SlotPointer, isChecked: Bool = false, now: Instant) {
    queue.remove(ticket)
    updateGate()
    lend(slot, now: now)
    ticket.pointee.state = .granted
    ticket.pointee.slot = slot
    ticket.pointee.isChecked = isChecked
    decide(ticket)
  }

  /// The granted connection was lost, renewed or has expired since, the latter for more than its grace.
  func isStale(_ slot: SlotPointer, now: Instant) -> Bool {
    slot.pointee.isLost || slot.pointee.epoch != epoch
      || (slot.pointee.isCondemned && slot.pointee.due <= now)
  }

  /// Ends a waiting ticket without a connection; its owner still has to collect it.
  mutating func refuse(_ ticket: TicketPointer, _ refusal: Refusal) {
    queue.remove(ticket)
    updateGate()
    ticket.pointee.state = .refused
    ticket.pointee.refusal = refusal
    if refusal != .canceled, refusal != .closed { counters.timeouts &+= 1 }
  }

  /// Takes a granted connection back from a ticket that nobody collected.
  mutating func revoke(_ ticket: TicketPointer, _ refusal: Refusal, now: Instant) {
    let slot = ticket.pointee.slot
    ticket.pointee.slot = nil
    ticket.pointee.state = .refused
    ticket.pointee.refusal = refusal
    if let slot { takeBack(slot, now: now) }
  }

  /// Undoes a loan that its holder has never seen: the connection has been idle since it was granted.
  mutating func takeBack(_ slot: SlotPointer, now: Instant) {
    if slot.pointee.state == .opening { return takeBackFresh(slot, now: now) }
    leased &-= 1
    guard settings.check == .ping, !mustClose(slot) else { return settle(slot, now: now) }
    slot.pointee.state = .idle
    var older = idle.first
    while let other = older, other.pointee.since > slot.pointee.since { older = other.pointee.next }
    if let older { idle.insert(slot, before: older) } else { idle.append(slot) }
    serve(now: now)
  }

  /// Why a wait that ends now ends.
  var timeoutRefusal: Refusal {
    if isPaused { return .paused }
    if live >= settings.maxSize { return .timedOut }
    return health.lastFailure != nil || live == 0 ? .cannotConnect : .timedOut
  }

  mutating func decide(_ ticket: TicketPointer) {
    // One that is in the list already is woken anyhow.
    guard ticket.pointee.nextDecided == nil, lastDecided != ticket else { return }
    if let lastDecided { lastDecided.pointee.nextDecided = ticket } else { firstDecided = ticket }
    lastDecided = ticket
  }

  private mutating func countWait(_ ticket: TicketPointer, now: Instant) {
    let waited = now &- ticket.pointee.queuedAt
    guard waited > 0 else { return }
    counters.waitTime &+= waited
    if waited > counters.waitMax { counters.waitMax = waited }
  }

  mutating func end(_ ticket: TicketPointer) {
    ticketDeadlines.remove(ticket)
    ticket.pointee.state = .free
    ticket.pointee.slot = nil
    ticket.pointee.isBeingChecked = false
    ticket.pointee.isCanceled = false
    ticket.pointee.parked = 0
    ticket.pointee.generation &+= 1
    freeTickets.prepend(ticket)
  }
}
