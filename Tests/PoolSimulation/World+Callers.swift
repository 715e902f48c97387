#if SWIFT_PACKAGE
  import PoolCore
#endif

// What callers do: get, wait, collect, cancel, put.
extension World {
  func getTry() {
    trace.note(now, "get: try")
    if let slot = pop() {
      lentAtOnce(slot, isTry: true, isFromStack: true)
    } else if let slot = state.tryAcquire(now: coarseNow, isTry: true) {
      lentAtOnce(slot, isTry: true)
    } else if let slot = core.tryAcquireFresh(now: now) {
      lentAtOnce(slot, isTry: true)
    } else {
      let gauges = core.gauges
      if line.isEmpty, mayOpenFresh { fail("a try was refused though a session may be opened") }
      if gauges.idle > 0, line.isEmpty, !isPaused { fail("a try was refused beside an idle connection") }
      let refusal = core.refuseTry()
      switch refusal {
      case .closed: if !isClosed { fail("a try was refused as closed") }
      case .paused: if !isPaused || isClosed { fail("a try was refused as paused") }
      case .timedOut, .cannotConnect: if isPaused || isClosed { fail("a try on a stopped pool timed out") }
      case .full, .canceled: fail("a try was refused as full or canceled")
      }
      if refusal != .closed { tally.timeouts += 1 }
    }
    settleBooks()
  }

  func get(isDetached: Bool) {
    if isDetached, random.chance(permille: 200) { return get(isDetached: true, isTry: true, deadline: now) }
    let deadline = random.pick([now + random.span(us(50), ms(50)), now + random.span(ms(50), ms(4000)), .never])
    get(isDetached: isDetached, deadline: deadline)
  }

  func get(isDetached: Bool, isTry: Bool = false, deadline: Instant) {
    trace.note(now, isDetached ? "get: ticket" : "get: wait")
    if !isDetached, let slot = pop() {
      lentAtOnce(slot, isTry: false, isFromStack: true)
      return settleBooks()
    }
    if !isDetached, let slot = state.tryAcquire(now: coarseNow) {
      lentAtOnce(slot, isTry: false)
      return settleBooks()
    }
    var answer = core.acquire(deadline: deadline, isDetached: isDetached, isTry: isTry, now: now)
    if case .needsTicket = answer {
      guard ticketCount < World.ticketLimit else { return settleBooks() }
      if core.hasFreeTicket { fail("asked for a ticket with one at hand") }
      addTickets(1 + random.below(3))
      answer = core.acquire(deadline: deadline, isDetached: isDetached, isTry: isTry, now: now)
    }
    switch answer {
    case .granted(let slot):
      if isDetached { fail("no ticket for a caller that asked for one") }
      lentAtOnce(slot, isTry: false)
    case .waiting(let ticket): joins(ticket, isDetached: isDetached, isTry: isTry, deadline: deadline)
    case .refused(.closed): if !isClosed { fail("refused as closed") }
    case .refused(.full):
      tally.rejected += 1
      let limit = scenario.settings.maxWaiting
      if limit == 0 || line.count < limit { fail("refused as full with \(line.count) waiting") }
    case .refused: fail("a get was refused before its deadline")
    case .needsTicket: fail("asked again for a ticket after one was added")
    }
    settleBooks()
    if case .waiting = answer { checkFreshGranted("when it joined the queue") }
  }

  private func lentAtOnce(_ slot: SlotPointer, isTry: Bool, isFromStack: Bool = false) {
    // The order rule: a caller that has not parked may pass a waiter of less than 100 us, never an older one.
    if let first = line.first, let waiter = waiters[first], waiter.queuedAt < now - us(100) {
      fail("a caller overtook a waiter of \((now - waiter.queuedAt) / 1000) us")
    }
    checkGrant(index(slot), isTry: isTry)
    takesOver(index(slot), isFromStack: isFromStack)
  }

  func takesOver(_ slot: Int, isFromStack: Bool = false) {
    if !isFromStack { classify(slot) }
    if freshAttempt[slot] != nil { return opensAsHost(slot) }
    let loan = newID()
    place[slot] = .caller(loan)
    if isHolding { return }
    if isHosted, sessions[slot]?.isDead == true, random.chance(permille: 300) { return drops(slot) }
    if !isHosted, scenario.settings.check == .ping || random.chance(permille: 20), random.chance(permille: 150) {
      agenda.enter(.rechecks(slot: slot, loan: loan), at: now + random.pick([0, 0, us(20)]))
    } else {
      promisePut(slot, loan)
    }
  }

  private func promisePut(_ slot: Int, _ loan: Int) {
    let hold = !isCalm && random.chance(permille: 15) ? random.span(ms(100), ms(5000)) : random.span(0, scenario.hold)
    agenda.enter(.putsBack(slot: slot, loan: loan), at: now + hold)
  }

  private func joins(
    _ ticket: TicketPointer, isDetached: Bool, isTry: Bool = false, deadline: Instant, isInFront: Bool = false
  ) {
    let id = newID()
    let number = index(ticket)
    if let other = waiters[waiterOfTicket[number]] {
      if other.generation == ticket.pointee.generation { fail("a ticket in use was handed out") }
      forget(waiterOfTicket[number])
    }
    var waiter = Waiter(
      ticket: ticket, generation: ticket.pointee.generation, isDetached: isDetached, deadline: deadline, queuedAt: now,
      heldUntil: deadline, isParked: false)
    waiterOfTicket[number] = id
    let isGranted = isDetached && core.counters.waits == UInt64(tally.waits)
    if isGranted, let slot = ticket.pointee.slot {
      if let first = line.first, let other = waiters[first], other.queuedAt < now - us(100) {
        fail("a ticket overtook a waiter")
      }
      waiter.phase = .granted
      waiter.slot = index(slot)
      waiter.grantedAt = now
      waiter.heldUntil = Swift.max(deadline, now + ms(1000))
      if ticket.pointee.isChecked { fail("what comes from the idle ones counts as checked") }
      checkGrant(waiter.slot, isTry: isTry)
      place[waiter.slot] = .ticket(id)
      uncollected.append(id)
    } else if isInFront {
      line.insert(id, at: 0)
    } else {
      let limit = scenario.settings.maxWaiting
      if limit > 0, line.count >= limit { fail("more wait than may") }
      tally.waits += 1
      line.append(id)
    }
    waiters[id] = waiter
    if isDetached { planTicket(id, isGranted: isGranted) } else { park(id) }
  }

  private func park(_ id: Int) {
    guard let waiter = waiters[id] else { return }
    waiters[id]?.isParked = true
    waiter.ticket.pointee.parked += 1
    if waiter.deadline != .never { agenda.enter(.deadline(waiter: id), at: waiter.deadline) }
  }

  /// What will become of a ticket in the hands of its owner.
  private func planTicket(_ id: Int, isGranted: Bool) {
    guard let waiter = waiters[id] else { return }
    switch random.below(4) {
    case 0 where !isGranted: park(id)
    case 1: agenda.enter(.cancels(waiter: id), at: now + random.span(0, 4 * scenario.hold))
    case 2 where waiter.deadline != .never: break  // never collected
    default: agenda.enter(.polls(waiter: id), at: now + random.span(0, scenario.hold))
    }
    if random.chance(permille: 100) { agenda.enter(.cancels(waiter: id), at: now + random.span(0, ms(50))) }
  }

  func isCurrent(_ waiter: Waiter) -> Bool { waiter.ticket.pointee.generation == waiter.generation }

  func wakes(_ id: Int) {
    guard let waiter = waiters[id], waiter.isParked, isCurrent(waiter) else { return }
    trace.note(now, "a parked thread wakes", id)
    waiter.ticket.pointee.parked -= 1
    conclude(id, core.collect(waiter.ticket, now: now))
  }

  func deadlinePasses(_ id: Int) {
    guard let waiter = waiters[id], waiter.isParked, isCurrent(waiter) else { return }
    trace.note(now, "a deadline passes", id)
    waiter.ticket.pointee.parked -= 1
    timesOut(id, waiter)
  }

  private func timesOut(_ id: Int, _ waiter: Waiter) {
    if waiter.phase == .waiting {
      leaves(id)
      waiters[id]?.phase = .refused
      tally.timeouts += 1
    }
    let collected = core.timeOut(waiter.ticket, now: now)
    switch collected {
    case .pending: fail("still pending past its deadline")
    case .granted(let slot) where waiter.phase == .granted && isAnother(slot, waiter):
      isTakenBackAsStale(id, waiter)
      passesOn(id, slot)
    case .refused(let refusal) where waiter.phase == .granted && refusal != .closed:
      isTakenBackAsStale(id, waiter)
      leaves(id)
      waiters[id]?.phase = .refused
      tally.timeouts += 1
    case .granted, .refused: break
    }
    conclude(id, collected)
  }

  /// Not what the ticket was granted before. The same slot may be granted once more, as fresh.
  private func isAnother(_ slot: SlotPointer, _ waiter: Waiter) -> Bool {
    index(slot) != waiter.slot || (slot.pointee.state == .opening && freshAttempt[waiter.slot] == nil)
  }

  /// At the deadline another connection was there at once.
  private func passesOn(_ id: Int, _ slot: SlotPointer) {
    guard line.first == id else { return fail("granted out of turn at its deadline") }
    leaves(id)
    checkGrant(index(slot), isTry: false)
    place[index(slot)] = .ticket(id)
    waiters[id]?.phase = .granted
    waiters[id]?.slot = index(slot)
    justCollected = waiters[id]?.ticket
  }

  /// A granted connection was not handed out: there must be a reason, and it is never lent again.
  private func isTakenBackAsStale(_ id: Int, _ waiter: Waiter) {
    trace.note(now, "a granted connection is stale", waiter.slot, id)
    if freshAttempt[waiter.slot] != nil { return isTakenBackAsFresh(id, waiter) }
    guard waiter.phase == .granted, let session = sessions[waiter.slot] else {
      return fail("nothing was granted that could be stale")
    }
    let isExpired = now >= session.openedAt.after(shortestLifetime).after(ms(100))
    if !session.isKnownLost, session.epoch == epoch, !isExpired { fail("a good connection counts as stale") }
    if session.isKnownLost, !isClosed { health.sessionEnded(session, now: now) }
    sessions[waiter.slot]?.isUnfit = true
    uncollected.removeAll { $0 == id }
    place[waiter.slot] = .pool
    waiters[id]?.phase = isClosed ? .refused : .waiting
    if !isClosed { line.insert(id, at: 0) }
  }

  private var shortestLifetime: Nanoseconds {
    let longest = scenario.settings.maxLifetime
    return longest == .never ? .never : longest - longest / 100 * Int64(scenario.settings.lifetimeJitterPercent)
  }

  func polls(_ id: Int) {
    guard let waiter = waiters[id], isCurrent(waiter) else { return }
    trace.note(now, "a ticket is looked at", id)
    if waiter.phase == .granted, !isHolding, random.chance(permille: 300) {
      core.beginCheck(waiter.ticket)
      waiters[id]?.isBeingChecked = true
      waiters[id]?.hasLooked = true
      agenda.enter(.looked(waiter: id), at: now + random.span(0, ms(1)))
      return settleBooks()
    }
    if waiter.deadline <= now { return timesOut(id, waiter) }
    conclude(id, core.collect(waiter.ticket, now: now))
  }

  func cancels(_ id: Int) {
    guard let waiter = waiters[id], isCurrent(waiter) else { return }
    trace.note(now, "a ticket is canceled", id)
    if waiter.isBeingChecked {
      core.cancel(waiter.ticket, now: now)
      waiters[id]?.isCanceled = true
      return settleBooks()
    }
    switch waiter.phase {
    case .waiting: leaves(id)
    case .granted:
      uncollected.removeAll { $0 == id }
      takenBack(waiter)
    case .refused: break
    }
    waiters[id]?.phase = .refused
    waiters[id]?.isCanceled = true
    tally.cancels += 1
    core.cancel(waiter.ticket, now: now)
    if !waiter.isParked {
      if isCurrent(waiter) { fail("a canceled ticket did not end") }
      forget(id)
    }
    settleBooks()
  }

  /// The look at a granted connection is over.
  func looked(_ id: Int) {
    guard let waiter = waiters[id], waiter.isBeingChecked else { return }
    if !isCurrent(waiter) { return fail("a ticket ended under the eyes of its owner") }
    waiters[id]?.isBeingChecked = false
    if waiter.isCanceled {
      uncollected.removeAll { $0 == id }
      takenBack(waiter)
      tally.cancels += 1
    }
    let isStillGood = core.endCheck(waiter.ticket, now: now)
    if isStillGood == waiter.isCanceled { fail("a cancellation during a look was mistaken") }
    if !isStillGood {
      forget(id)
    } else if random.chance(permille: 500) || freshAttempt[waiter.slot] != nil {
      conclude(id, core.collect(waiter.ticket, now: now))
    } else {
      requeue(id, waiter)
    }
    settleBooks()
  }

  private func requeue(_ id: Int, _ waiter: Waiter) {
    trace.note(now, "a granted connection is doubted", waiter.slot, id)
    let isBroken = isHosted || random.chance(permille: 300)
    if isBroken {
      sessions[waiter.slot]?.isUnfit = true
      if !isClosed { health.sessionEnded(sessions[waiter.slot], now: now) }
    }
    uncollected.removeAll { $0 == id }
    place[waiter.slot] = .pool
    waiters[id]?.phase = isClosed ? .refused : .waiting
    if !isClosed { line.insert(id, at: 0) }
    core.requeue(waiter.ticket, isBroken ? .broken : .doubtful, now: now)
    agenda.enter(.polls(waiter: id), at: now + ms(1))
    settlesAgain(id)
  }

  /// A connection that was granted and not collected has been idle since then.
  func takenBack(_ waiter: Waiter) {
    if freshAttempt[waiter.slot] != nil { return freshIsTakenBack(waiter.slot) }
    place[waiter.slot] = .pool
    sessions[waiter.slot]?.seenAt = waiter.grantedAt
  }

  func leaves(_ id: Int) {
    guard let position = line.firstIndex(of: id) else { return fail("a ticket in no queue was waiting") }
    line.remove(at: position)
  }

  /// A thread learns what became of its ticket.
  private func conclude(_ id: Int, _ collected: Collected) {
    guard var waiter = waiters[id] else { return fail("an unknown ticket was collected") }
    switch collected {
    case .pending: return isPending(id, waiter)
    case .refused(.closed) where waiter.phase == .granted:
      isTakenBackAsStale(id, waiter)
      waiter.phase = .refused
    case .granted, .refused: break
    }
    if isCurrent(waiter) { fail("a collected ticket did not end") }
    forget(id)
    switch collected {
    case .pending: break
    case .granted(let slot):
      if waiter.phase != .granted || index(slot) != waiter.slot { fail("collected what was not granted") }
      if place[index(slot)] != .ticket(id) { fail("collected a connection of \(place[index(slot)])") }
      uncollected.removeAll { $0 == id }
      checkHandedOut(index(slot))
      takesOver(index(slot))
    case .refused(let refusal): checkRefusal(refusal, waiter)
    }
    settleBooks()
  }

  private func checkHandedOut(_ slot: Int) {
    guard freshAttempt[slot] == nil, let session = sessions[slot], let reason = unfitness(session) else { return }
    fail("hands out a connection \(reason)")
  }

  private func isPending(_ id: Int, _ waiter: Waiter) {
    if waiter.phase == .granted {
      isTakenBackAsStale(id, waiter)
    } else if waiter.phase != .waiting {
      fail("a decided ticket is pending")
    }
    if waiter.isParked {
      waiter.ticket.pointee.parked += 1
    } else {
      agenda.enter(.polls(waiter: id), at: now + random.span(us(10), ms(20)))
    }
    settlesAgain(id)
  }

  /// A ticket that waits again has no longer than its deadline.
  private func settlesAgain(_ id: Int) {
    hearDecisions()
    if let waiter = waiters[id], waiter.phase == .waiting { waiters[id]?.heldUntil = Swift.max(waiter.deadline, now) }
    settleBooks()
  }

  private func checkRefusal(_ refusal: Refusal, _ waiter: Waiter) {
    if waiter.phase != .refused { fail("a ticket that was \(waiter.phase) was refused: \(refusal)") }
    switch refusal {
    case .timedOut, .cannotConnect, .paused: if now < waiter.deadline { fail("refused before the deadline") }
    case .closed: if !isClosed { fail("refused as closed by an open pool") }
    case .canceled: if !waiter.isCanceled { fail("refused as canceled by nobody") }
    case .full: fail("a waiter was refused as full")
    }
  }

  func forget(_ id: Int) {
    guard let waiter = waiters.removeValue(forKey: id) else { return }
    waiterOfTicket[index(waiter.ticket)] = -1
  }

  // MARK: Loans

  func recheck(_ slot: Int, loan: Int) {
    guard place[slot] == .caller(loan) else { return }
    trace.note(now, "recheck", slot)
    let deadline = random.chance(permille: 500) ? .never : now + random.span(us(50), ms(500))
    var answer = core.recheck(slots + slot, deadline: deadline, now: now)
    if case .needsTicket = answer {
      guard ticketCount < World.ticketLimit else { return promisePut(slot, loan) }
      addTickets(1)
      answer = core.recheck(slots + slot, deadline: deadline, now: now)
    }
    place[slot] = .pool
    switch answer {
    case .waiting(let ticket): joins(ticket, isDetached: false, deadline: deadline, isInFront: true)
    case .refused(.closed): if !isClosed { fail("recheck was refused as closed") }
    case .granted, .refused, .needsTicket: fail("recheck answered something else")
    }
    settleBooks()
  }

  func putBack(_ slot: Int, loan: Int, isLate: Bool = false) {
    guard place[slot] == .caller(loan) else { return }
    if isHosted { return putBackHosted(slot) }
    let condition = isLate ? .idle : putCondition(slot)
    if condition == .idle, !isLate, !word.isShut, !isApart[slot], !isCalm, random.chance(permille: 300) {
      // What happens before the push is not seen by it.
      if random.chance(permille: 3 * scenario.faults) { kill(slot) }
      return agenda.enter(.pushes(slot: slot, loan: loan), at: now + random.span(0, ms(5)))
    }
    trace.note(now, "put", slot, Int(condition.rawValue))
    place[slot] = .pool
    tally.puts += 1
    let reset = scenario.settings.reset
    let isUnfit = condition == .broken || condition == .discarded || condition == .inTransaction && reset == .none
    sessions[slot]?.isUnfit = isUnfit
    sessions[slot]?.isDirty = condition == .inTransaction || reset == .discardAll || reset == .query
    sessions[slot]?.seenAt = now
    if isUnfit { tally.discarded += 1 }
    if condition == .idle, push(slot, isLate: isLate) { return settleBooks() }
    if condition == .idle || condition == .inTransaction { sessions[slot]?.hasServed = true }
    if sessions[slot]?.isKnownLost == true { health.sessionEnded(sessions[slot], now: coarseNow) }
    let stays = mayStay(slot) && condition == .idle && !(sessions[slot]?.isDirty ?? true)
    core.release(slots + slot, condition, now: coarseNow)
    if stays, slots[slot].state == .closing { fail("a good connection is closed") }
    if isUnfit, slots[slot].state != .closing { fail("an unfit connection is kept") }
    settleBooks()
  }

  /// Nothing speaks against keeping this connection.
  func mayStay(_ slot: Int) -> Bool {
    let open = core.gauges.total - core.gauges.closing
    guard let session = sessions[slot], now < session.openedAt.after(shortestLifetime) else { return false }
    return !isClosed && !isDrained && open <= maxSize && !session.isKnownLost && session.epoch == epoch
  }

  private func putCondition(_ slot: Int) -> Condition {
    if sessions[slot]?.isDead == true, random.chance(permille: 700) { return .broken }
    let roll = random.below(1000)
    if roll < scenario.faults { return isCalm ? .idle : .broken }
    if roll < 2 * scenario.faults { return isCalm ? .idle : .discarded }
    return roll < 2 * scenario.faults + 150 ? .inTransaction : .idle
  }
}
