/// What the runtime saw when it looked at a connection that was put back.
public enum Condition: UInt8, Sendable {
  case idle
  /// Open transaction, failed or not.
  case inTransaction
  /// Lost, busy, or in a mode that the next user does not expect.
  case broken
  /// The caller says that it is unfit.
  case discarded
}

extension PoolCore {
  /// Sets when a loan began, for its time of use. The clocks of `release` and of this must be the same.
  public mutating func stamp(_ slot: SlotPointer, now: Instant) {
    if slot.pointee.state == .leased { slot.pointee.since = now }
  }

  /// Counts those that are lent now as in use since the last sample; to be called about every `Span.sample`.
  public mutating func sampleUse(now: Instant) {
    let passed = now &- lastSample
    guard settings.samplesUse, passed >= Span.sample else { return }
    counters.useTime &+= Nanoseconds(leased) &* Swift.min(passed, Span.longestSample)
    lastSample = now
  }

  /// A loan ends. Does nothing for a slot that is not lent.
  @inline(__always)
  public mutating func release(_ slot: SlotPointer, _ condition: Condition, now: Instant) {
    guard slot.pointee.state == .leased else { return broken("released a slot that is not leased") }
    leased &-= 1
    if !settings.samplesUse { counters.useTime &+= now &- slot.pointee.since }
    if condition.rawValue <= Condition.inTransaction.rawValue { slot.pointee.hasServed = true }
    if condition == .idle, isOrdinary, !slot.pointee.isCondemned, slot.pointee.epoch == epoch {
      keep(slot, now: now)
    } else if condition == .idle, !slot.pointee.isLost, settings.reset.rawValue <= ResetMode.rollback.rawValue {
      settle(slot, now: now)
    } else {
      releaseUnclean(slot, condition, now: now)
    }
  }

  @inline(__always)
  private mutating func keep(_ slot: SlotPointer, now: Instant) {
    slot.pointee.state = .idle
    slot.pointee.since = now
    idle.prepend(slot)
  }

  private mutating func releaseUnclean(_ slot: SlotPointer, _ condition: Condition, now: Instant) {
    if slot.pointee.isLost { sessionEnded(slot, now: now) }
    let isUnfit = condition == .broken || condition == .discarded
    if isUnfit || (condition == .inTransaction && settings.reset == .none) {
      counters.discarded &+= 1
      close(slot, replace: true)
    } else if mustClose(slot) {
      close(slot, replace: true)
    } else {
      counters.resets &+= 1
      beginLater(slot, .resetting)
    }
  }

  /// A reset or a check has ended.
  public mutating func backgroundEnded(_ slot: SlotPointer, succeeded: Bool, now: Instant) {
    switch slot.pointee.state {
    case .resetting:
      background.remove(slot)
      resetting &-= 1
      if !succeeded { counters.resetFailures &+= 1 }
    case .checking:
      background.remove(slot)
      checking &-= 1
      if !succeeded { counters.checkFailures &+= 1 }
    case .empty, .opening, .idle, .leased, .retiring, .closing, .stale, .ending:
      return broken("a background query ended on a slot that has none")
    }
    if succeeded {
      settle(slot, isChecked: true, now: now)
    } else {
      sessionEnded(slot, now: now)
      close(slot, replace: true)
    }
    // It may have been closed; then the next idle one is checked for those who wait.
    serve(now: now)
  }

  /// The borrower, before it saw the connection, found it to be readable: a ping must tell whether it lives. The
  /// borrower joins the queue again, in front. Unless a ticket is needed, the connection is the pool's again.
  public mutating func recheck(_ slot: SlotPointer, deadline: Instant, now: Instant) -> Acquire {
    guard slot.pointee.state == .leased else { return .refused(.timedOut) }
    if isClosed {
      takeBack(slot, now: now)
      return .refused(.closed)
    }
    guard let ticket = freeTickets.popFirst() else { return .needsTicket }
    leased &-= 1
    beginLater(slot, .checking)
    ticket.pointee.isDetached = false
    ticket.pointee.deadline = deadline
    ticket.pointee.queuedAt = now
    ticket.pointee.state = .waiting
    queue.prepend(ticket)
    updateGate()
    // Others may have come back meanwhile.
    serve(now: now)
    return .waiting(ticket)
  }

  /// Why a granted connection cannot be lent after all.
  public enum Unfit: Sendable {
    /// It is dead.
    case broken
    /// A ping must tell.
    case doubtful
    /// It was lost, renewed or has expired meanwhile.
    case stale
  }

  /// As `recheck` for a ticket that was granted the connection and is not collected yet: it goes back to the front of
  /// the queue.
  public mutating func requeue(_ ticket: TicketPointer, _ reason: Unfit, now: Instant) {
    guard ticket.pointee.state == .granted, let slot = ticket.pointee.slot else { return }
    if isClosed { return revoke(ticket, .closed, now: now) }
    leased &-= 1
    ticket.pointee.slot = nil
    ticket.pointee.state = .waiting
    queue.prepend(ticket)
    updateGate()
    switch reason {
    case .broken:
      slot.pointee.isLost = true
      sessionEnded(slot, now: now)
      close(slot, replace: true)
    case .doubtful: beginLater(slot, .checking)
    case .stale:
      if slot.pointee.isLost { sessionEnded(slot, now: now) }
      close(slot, replace: true)
    }
    serve(now: now)
    if ticket.pointee.state == .waiting { endCollection(ticket) }
  }

  /// A ticket that waits again has no longer than its deadline.
  private mutating func endCollection(_ ticket: TicketPointer) {
    guard ticket.pointee.heapIndex >= 0, ticket.pointee.due > ticket.pointee.deadline else { return }
    ticketDeadlines.remove(ticket)
    ticketDeadlines.insert(ticket, due: ticket.pointee.deadline)
  }

  /// The holder of a lent connection knows that it is of no use: it is closed and replaced when it comes back.
  public mutating func spoiled(_ slot: SlotPointer) {
    guard slot.pointee.state == .leased else { return broken("spoiled a slot that is not leased") }
    slot.pointee.isUnfit = true
    slot.pointee.isCondemned = true
  }

  /// Whether a lent connection would be closed if it came back now.
  public func isLeaving(_ slot: SlotPointer) -> Bool { mustClose(slot) }

  /// An open connection is free: it goes to the oldest waiter, or to the idle ones, or is closed if its time is over.
  mutating func settle(_ slot: SlotPointer, isChecked: Bool = false, now: Instant) {
    if mustClose(slot) {
      close(slot, replace: true)
    } else if let ticket = queue.first, !isPaused {
      grant(ticket, slot, isChecked: isChecked, now: now)
    } else {
      keep(slot, now: now)
    }
  }

  func mustClose(_ slot: SlotPointer) -> Bool {
    (slot.pointee.isCondemned && !isInGrace(slot)) || slot.pointee.epoch != epoch || hasSurplus || isDrained || isClosed
  }

  /// Expired, but its replacement is not open yet and its grace not over: the heap still has it.
  private func isInGrace(_ slot: SlotPointer) -> Bool {
    slot.pointee.partner?.pointee.state == .opening && slot.pointee.heapIndex >= 0 && !slot.pointee.isLost
      && !slot.pointee.isUnfit
  }

  /// More connections than `maxSize`, not counting those that go already.
  @inline(__always)
  var hasSurplus: Bool { total > settings.maxSize && total &- going > settings.maxSize }

  /// Hands a slot in no list to the upkeep thread.
  mutating func beginLater(_ slot: SlotPointer, _ state: SlotState) {
    slot.pointee.state = state
    switch state {
    case .resetting: resetting &+= 1
    case .checking:
      checking &+= 1
      counters.checks &+= 1
    case .closing:
      slot.pointee.isStarted = false
      toClose &+= 1
    case .empty, .opening, .idle, .leased, .retiring, .stale, .ending:
      broken("no work for the upkeep thread in this state")
    }
    todo.append(slot)
  }

  /// Closes the session of a slot in no list. `replace`: another one is to be opened even if nobody waits.
  mutating func close(_ slot: SlotPointer, replace: Bool) {
    let isReplaced = slot.pointee.isReplaced || slot.pointee.partner != nil
    unpair(slot)
    countEnd(slot)
    if replace, !isReplaced { oweReplacement() }
    if settings.isHosted {
      slot.pointee.isOccupied = !slot.pointee.isLost
      return leaveToHost(slot)
    }
    beginLater(slot, .closing)
  }

  /// Another session is to be opened, though perhaps nobody waits: not at a server that has none left, which others need
  /// more.
  mutating func oweReplacement() {
    guard !isClosed, !isDrained, !settings.opensOnGrant, health.lastFailure != .tooManyConnections else { return }
    owed &+= 1
    limitOwed()
  }

  /// A session will end: it has no lifetime any more.
  mutating func countEnd(_ slot: SlotPointer) {
    expiries.remove(slot)
    if slot.pointee.isLost {
      counters.lost &+= 1
    } else if slot.pointee.isUnfit {
      counters.discarded &+= 1
    } else if slot.pointee.isCondemned {
      counters.expired &+= 1
    }
  }

  /// Not more than there will be room for.
  mutating func limitOwed() {
    owed = Swift.max(0, Swift.min(owed, settings.maxSize &- live &- opening.count))
  }

  mutating func unpair(_ slot: SlotPointer) {
    slot.pointee.partner?.pointee.partner = nil
    slot.pointee.partner = nil
  }
}
