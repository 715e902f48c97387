/// One thing for the upkeep thread to do, outside the lock.
public enum Task {
  case none
  /// Start an attempt to connect on a connector thread.
  case open(SlotPointer)
  /// Start the reset; `backgroundEnded` tells how it went.
  case reset(SlotPointer)
  /// Start a ping; `backgroundEnded` tells how it went.
  case check(SlotPointer)
  /// Close the session; `closed` tells when the server has closed its end.
  case close(SlotPointer)
  /// The server has not closed its end in time: let go of the session, then call `closed`.
  case forget(SlotPointer)
  /// The reset or check has taken too long: stop it, then call `backgroundEnded`.
  case overrun(SlotPointer)
  /// A lent connection has outlived its lifetime: `release` must see it.
  case outlived(SlotPointer)
  /// The attempt has not reached a server in time; its thread is written off.
  case gaveUp(SlotPointer)
}

extension PoolCore {
  /// Deals with what is due and returns the next thing to do. To be called until it answers `.none`.
  public mutating func nextTask(now: Instant) -> Task {
    if let slot = todo.popFirst() { return begin(slot, now: now) }
    if let slot = closing.first, slot.pointee.since.after(Span.linger) <= now { return .forget(slot) }
    if let slot = background.first, slot.pointee.since.after(settings.checkTimeout) <= now { return .overrun(slot) }
    if let slot = overdueAttempt(now: now) {
      giveUp(slot, now: now)
      return .gaveUp(slot)
    }
    endOverdueTickets(now: now)
    if let task = expire(now: now) { return task }
    // What hosted pools close is no task.
    while closeUnneeded(now: now), settings.isHosted {}
    if let slot = todo.popFirst() { return begin(slot, now: now) }
    guard mayOpen(now: now) else { return .none }
    if settings.opensOnGrant {
      serve(now: now)
    } else if settings.hasWorkers {
      offer(now: now)
    } else if let slot = beginOpening() {
      return .open(slot)
    }
    return .none
  }

  /// Whether the upkeep thread has something to do at once.
  public func needsUpkeep(now: Instant) -> Bool {
    !todo.isEmpty || mayOpen(now: now) || (hasSurplus && !idle.isEmpty)
  }

  /// When `nextTask` has something to do next, if nothing happens before.
  public func nextDeadline(now: Instant) -> Instant {
    var next = Swift.min(expiries.nextDue, ticketDeadlines.nextDue)
    if let slot = closing.first { next = Swift.min(next, slot.pointee.since.after(Span.linger)) }
    if let slot = background.first {
      next = Swift.min(next, slot.pointee.since.after(settings.checkTimeout))
      if !queue.isEmpty, slot.pointee.since.after(Span.soon) > now {
        next = Swift.min(next, slot.pointee.since.after(Span.soon))
      }
    }
    next = Swift.min(next, nextGiveUp)
    if let slot = idle.last, live > settings.minSize {
      next = Swift.min(next, slot.pointee.since.after(settings.idleTimeout))
    }
    if wantsConnection(now: now), health.retryAt > now { next = Swift.min(next, health.retryAt) }
    return next
  }

  // MARK: Inside

  private mutating func begin(_ slot: SlotPointer, now: Instant) -> Task {
    slot.pointee.since = now
    switch slot.pointee.state {
    case .resetting:
      background.append(slot)
      return .reset(slot)
    case .checking:
      background.append(slot)
      return .check(slot)
    case .closing:
      slot.pointee.isStarted = true
      toClose &-= 1
      closing.append(slot)
      return .close(slot)
    case .empty, .opening, .idle, .leased, .retiring, .stale, .ending:
      broken("a slot without work stood among those with work")
      return .none
    }
  }

  private func overdueAttempt(now: Instant) -> SlotPointer? {
    guard unreached > 0 else { return nil }
    var slot = opening.first
    while let candidate = slot {
      if candidate.pointee.isStarted, !candidate.pointee.hasReached, giveUpAt(candidate) <= now { return candidate }
      slot = candidate.pointee.next
    }
    return nil
  }

  private var nextGiveUp: Instant {
    guard unreached > 0 else { return .never }
    var next = Instant.never
    var slot = opening.first
    while let candidate = slot {
      if candidate.pointee.isStarted, !candidate.pointee.hasReached { next = Swift.min(next, giveUpAt(candidate)) }
      slot = candidate.pointee.next
    }
    return next
  }

  private func giveUpAt(_ slot: SlotPointer) -> Instant {
    slot.pointee.since.after(settings.connectTimeout).after(Span.giveUpMargin)
  }

  /// Refuses tickets past their deadline, takes back what nobody collected, and forgets those told long enough.
  private mutating func endOverdueTickets(now: Instant) {
    for _ in 0..<16 {
      guard let ticket = ticketDeadlines.first, ticket.pointee.due <= now else { return }
      ticketDeadlines.remove(ticket)
      switch ticket.pointee.state {
      case .waiting:
        refuse(ticket, timeoutRefusal)
        ticketDeadlines.insert(ticket, due: now.after(Span.afterlife))
        decide(ticket)
      case .granted where ticket.pointee.isBeingChecked:
        ticketDeadlines.insert(ticket, due: now.after(.milliseconds(1)))
      case .granted:
        counters.cancels &+= 1
        revoke(ticket, .timedOut, now: now)
        ticketDeadlines.insert(ticket, due: now.after(Span.afterlife))
      case .refused:
        end(ticket)
      case .free: broken("a free ticket had a deadline")
      }
    }
  }

  /// Deals with expired connections; returns what that leads to.
  private mutating func expire(now: Instant) -> Task? {
    while let slot = expiries.first, slot.pointee.due <= now {
      expiries.remove(slot)
      let isAtGraceEnd = slot.pointee.isCondemned
      slot.pointee.isCondemned = true
      guard slot.pointee.state != .retiring else { continue }
      if !isAtGraceEnd, !isClosed, !isDrained, !settings.isHosted, canOpen(now: now), let replacement = beginOpening() {
        pair(replacement, replaces: slot, now: now)
        return .open(replacement)
      }
      guard slot.pointee.state == .idle else {
        // It may be granted to a ticket, which can be collected for as long.
        if !isAtGraceEnd { slot.pointee.due = now.after(Span.expiryGrace) }
        if slot.pointee.state == .leased { return .outlived(slot) }
        continue
      }
      idle.remove(slot)
      if slot.pointee.partner != nil {
        slot.pointee.state = .retiring
        retiring.append(slot)
      } else {
        close(slot, replace: true)
      }
    }
    return nil
  }

  private mutating func pair(_ replacement: SlotPointer, replaces slot: SlotPointer, now: Instant) {
    replacement.pointee.partner = slot
    slot.pointee.partner = replacement
    expiries.insert(slot, due: now.after(Span.expiryGrace))
  }

  /// Closes idle connections above `maxSize`, and those above `minSize` whose time is over.
  private mutating func closeUnneeded(now: Instant) -> Bool {
    guard let slot = idle.last else { return false }
    let isTired = live > settings.minSize && slot.pointee.since.after(settings.idleTimeout) <= now
    guard hasSurplus || isTired else { return false }
    idle.remove(slot)
    counters.idleClosed &+= 1
    close(slot, replace: false)
    return true
  }
}
