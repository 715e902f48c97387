#if SWIFT_PACKAGE
  import PoolCore
#endif

// What happens unasked: callers come, sessions die, the pool is reconfigured.
extension World {
  func surprise() {
    if random.chance(permille: server == .well ? scenario.faults / 10 : 15) { changeServer() }
    if isHosted { hostSurprises() }
    let roll = random.below(1000)
    // A get looks at the stack first.
    if roll >= 750 { comeIn() }
    switch roll {
    case ..<150: getTry()
    case ..<500: if line.count < scenario.maxWaiters { get(isDetached: false) }
    case ..<750: if line.count < scenario.maxWaiters { get(isDetached: scenario.usesTickets) }
    case ..<800: if let id = line.randomElement(using: &random) { cancelSomeone(id) }
    case ..<(800 + scenario.faults / 2): killSession()
    case ..<900: break
    case ..<909: resize()
    case ..<915: pause()
    case ..<918: drain()
    case ..<945: if isPaused { resume() }
    case ..<951: reconnect()
    case ..<952: if random.chance(permille: 150) { forks() }
    case ..<953: if random.chance(permille: 100) { shut() }
    default: break
    }
  }

  private func cancelSomeone(_ id: Int) {
    if waiters[id]?.isDetached == true { cancels(id) }
  }

  private func changeServer() {
    server = random.pick([.well, .well, .well, .slow, .refusing, .full, .wrongPassword, .silent, .mixed])
  }

  private func killSession() {
    kill(random.below(slotCount))
  }

  /// A loan that has just expired dies too, in the short time before its replacement is open.
  func killExpired() {
    let expired = (0..<slotCount).filter { slots[$0].isCondemned && slots[$0].state == .leased }
    if !expired.isEmpty { kill(random.pick(expired)) }
  }

  func kill(_ slot: Int) {
    guard let session = sessions[slot], !session.isDead else { return }
    trace.note(now, "a session dies", slot)
    sessions[slot]?.isDead = true
    let seen = random.chance(permille: 700) ? now : now + random.span(0, ms(200))
    agenda.enter(.lossIsSeen(slot: slot, session: session.id), at: seen)
  }

  func lossIsSeen(_ slot: Int, session: Int) {
    if predecessor[slot] == session, slots[slot].state == .opening { return oldLossIsSeen(slot) }
    guard let known = sessions[slot], known.id == session, place[slot] != .closing else { return }
    trace.note(now, "a loss is seen", slot)
    sessions[slot]?.isKnownLost = true
    if slots[slot].state == .idle { health.sessionEnded(sessions[slot], now: now) }
    core.lost(slots + slot, now: now)
    if slots[slot].state == .leased { isApart[slot] = true }
    settleBooks()
  }

  func resize() {
    let size = random.chance(permille: 100) ? 1 + random.below(World.slotLimit) : 1 + random.below(7)
    trace.note(now, "resize", size)
    maxSize = size
    minSize = random.chance(permille: 500) ? 0 : random.below(size + 1)
    addSlots(upTo: size)
    ceiling = Swift.max(maxSize, core.gauges.total)
    core.resize(minSize: minSize, maxSize: maxSize)
    settleBooks()
  }

  func pause() {
    trace.note(now, "pause")
    isPaused = true
    core.pause()
    settleBooks()
  }

  func drain() {
    trace.note(now, "drain")
    (isPaused, isDrained) = (true, true)
    core.drain()
    settleBooks()
  }

  func resume() {
    trace.note(now, "resume")
    (isPaused, isDrained) = (false, false)
    core.resume(now: now)
    settleBooks()
    checkFreshGranted("after the pause")
  }

  func reconnect() {
    trace.note(now, "reconnect")
    epoch += 1
    health = ExpectedHealth()
    core.reconnect(now: now)
    for slot in 0..<slotCount { isApart[slot] = true }
    settleBooks()
  }

  func shut() {
    guard !isClosed else { return }
    trace.note(now, "close the pool")
    isClosed = true
    core.shut()
    settleBooks()
    while core.refuseWaiting(limit: 1 + random.below(3)) { settleBooks() }
    settleBooks()
    if !line.isEmpty { fail("a closed pool has waiters") }
  }

  /// A child of fork goes on: everything begins anew, the settings and states of the pool stay.
  private func forks() {
    trace.note(now, "fork")
    for slot in 0..<slotCount {
      slots[slot].startOver()
      place[slot] = .empty
      sessions[slot] = nil
      backgroundTurn[slot] += 1
      backgroundSince[slot] = nil
      (freshAttempt[slot], predecessor[slot]) = (nil, nil)
    }
    for ticket in 0..<ticketCount {
      tickets[ticket].startOver()
      waiterOfTicket[ticket] = -1
    }
    attempts.removeAll()
    waiters.removeAll()
    line.removeAll()
    uncollected.removeAll()
    agenda.removeAll()
    tally = Tally()
    health = ExpectedHealth()
    stuck = 0
    (hasCollector, isCollectorAwake) = (false, false)
    ceiling = maxSize
    (upkeepAt, upkeepDue) = (.never, .never)
    duties = Duties()
    core.startOver()
    for slot in 0..<slotCount { core.add(slot: slots + slot) }
    for ticket in 0..<ticketCount { core.add(ticket: tickets + ticket) }
    settleBooks()
  }
}

extension Random: RandomNumberGenerator {}
