#if SWIFT_PACKAGE
  import PoolCore
#endif

/// Since when something has been due that the upkeep thread must do, so that it can be late only by its lateness.
struct Duties {
  var openFor: Instant?
  var closeSurplus: Instant?
  var closeTired: Instant?
  var giveUp: Instant?
}

extension World {
  /// After every call: wake whom the core decided about, compare the books, and set the upkeep thread's clock.
  func settleBooks() {
    hearDecisions()
    if isHosted { hearOffers() }
    openStack()
    checkBooks()
    checkTickets()
    checkDuties(since: now)
    if wasTakenBack { checkFreshGranted("after a grant was taken back") }
    wasTakenBack = false
    rearm()
  }

  func hearDecisions() {
    defer { justCollected = nil }
    noticeRevoked()
    var rounds = 0
    while let ticket = state.takeDecided() {
      decided(ticket)
      rounds += 1
      if rounds > World.ticketLimit { return fail("the list of decided tickets has no end") }
    }
  }

  /// Connections that nobody collected in time were taken back.
  private func noticeRevoked() {
    for id in uncollected {
      guard let waiter = waiters[id], waiter.ticket.pointee.state != .granted else { continue }
      if waiter.heldUntil > now { fail("a granted ticket was revoked before its time") }
      if waiter.isBeingChecked { fail("a connection was taken back under the eyes of its owner") }
      takenBack(waiter)
      tally.cancels += 1
      waiters[id]?.phase = .refused
    }
    uncollected.removeAll { waiters[$0]?.phase != .granted }
  }

  private func decided(_ ticket: TicketPointer) {
    if ticket == justCollected { return }
    let id = waiterOfTicket[index(ticket)]
    guard let waiter = waiters[id], isCurrent(waiter) else { return fail("a ticket of nobody was decided") }
    switch ticket.pointee.state {
    case .free, .waiting: return fail("a ticket was decided and is \(ticket.pointee.state)")
    case .granted:
      guard let slot = ticket.pointee.slot else { return fail("granted without a connection") }
      if isPaused || isClosed { fail("granted by a pool that is paused or closed") }
      if line.first != id { fail("granted out of turn: \(id) before \(line.first ?? -1)") }
      leaves(id)
      waiters[id]?.phase = .granted
      waiters[id]?.slot = index(slot)
      waiters[id]?.grantedAt = now
      checkGrant(index(slot), isTry: false)
      place[index(slot)] = .ticket(id)
      if waiter.isDetached { uncollected.append(id) }
    case .refused: refused(id, waiter, ticket.pointee.refusal)
    }
    if waiter.isParked { agenda.enter(.wakes(waiter: id), at: now + random.span(0, us(300))) }
  }

  private func refused(_ id: Int, _ waiter: Waiter, _ refusal: Refusal) {
    if waiter.isCanceled { return }
    leaves(id)
    waiters[id]?.phase = .refused
    if refusal == .closed {
      if !isClosed { fail("refused as closed") }
      return
    }
    tally.timeouts += 1
    if !waiter.isDetached { fail("a parked thread sees to its own deadline") }
    if waiter.deadline > now { fail("refused before its deadline") }
    if (refusal == .paused) != isPaused { fail("a pause was mistaken") }
  }

  /// May this slot be granted now, as fresh or with its session?
  func checkGrant(_ slot: Int, isTry: Bool) {
    if slots[slot].state == .opening { grantsFresh(slot) } else { checkLoan(slot, isTry: isTry) }
  }

  private func checkLoan(_ slot: Int, isTry: Bool) {
    if isPaused || isClosed { fail("lent by a pool that is paused or closed") }
    if place[slot] != .pool { fail("lent a connection that is \(place[slot])") }
    guard let session = sessions[slot] else { return fail("lent a slot without a session") }
    if let reason = unfitness(session) { fail("lent a connection \(reason)") }
    let idle = now - session.seenAt
    let limit = scenario.settings.checkAfterIdle + (scenario.isCoarse ? ms(100) : 0)
    if scenario.settings.check == .ping, !isTry, idle > limit {
      fail("lent slot \(slot) unchecked after \(idle / 1000) us")
    }
  }

  func unfitness(_ session: Session) -> String? {
    if session.isKnownLost { return "that is lost" }
    if session.isUnfit { return "that is unfit" }
    if session.isDirty { return "that was not reset" }
    if session.epoch != epoch { return "from before a reconnect" }
    if let expiredAt = session.expiredAt, now > expiredAt + ms(100) + scenario.lateness { return "past its grace" }
    let longest = scenario.settings.maxLifetime
    let grace = ms(100) + 2 * scenario.lateness
    if longest != .never, now > session.openedAt + longest + grace { return "that expired long ago" }
    return nil
  }

  private func checkBooks() {
    let gauges = state.gauges
    var (total, idle, lent, opening, background, closing, live) = (0, 0, 0, 0, 0, 0, 0)
    for slot in 0..<slotCount {
      let state = slots[slot].state
      if slots[slot].isCondemned, sessions[slot]?.expiredAt == nil { sessions[slot]?.expiredAt = now }
      if !agrees(slot, state) { fail("slot \(slot) is \(place[slot]), the core says \(state)") }
      switch state {
      case .empty: continue
      case .opening: opening += 1
      case .idle:
        idle += 1
        if let session = sessions[slot], let reason = unfitness(session) { fail("keeps a connection \(reason)") }
      case .leased: lent += 1
      case .resetting, .checking, .retiring: background += 1
      case .closing, .stale, .ending: closing += 1
      }
      total += 1
      if state == .idle || state == .leased || state == .resetting || state == .checking { live += 1 }
    }
    if gauges.total != total { fail("total is \(gauges.total), not \(total)") }
    if gauges.idle != idle { fail("idle is \(gauges.idle), not \(idle)") }
    if gauges.inUse != lent { fail("in use is \(gauges.inUse), not \(lent)") }
    if gauges.opening != opening { fail("opening is \(gauges.opening), not \(opening)") }
    if gauges.background != background { fail("background is \(gauges.background), not \(background)") }
    if gauges.closing != closing { fail("closing is \(gauges.closing), not \(closing)") }
    if gauges.waiting != line.count { fail("waiting is \(gauges.waiting), not \(line.count)") }
    if gauges.stuck != stuck { fail("stuck is \(gauges.stuck), not \(stuck)") }
    ceiling = Swift.max(maxSize, Swift.min(ceiling, total))
    if total > ceiling { fail("\(total) sessions, \(ceiling) allowed") }
    if (isDrained || isClosed) && idle > 0 { fail("a drained or closed pool keeps connections") }
    if state.hasMinimum != (live >= minSize) { fail("hasMinimum is wrong") }
    if state.isEmpty != (live == 0) || state.isOpening != (opening > 0) { fail("isEmpty or isOpening is wrong") }
    if isHosted { checkHostedBooks() }
    checkCounters(lent)
    checkNobodyWaitsInVain(idle)
    checkStack()
  }

  private func agrees(_ slot: Int, _ state: SlotState) -> Bool {
    switch place[slot] {
    case .empty: state == .empty
    case .attempt: state == .opening
    case .ticket where freshAttempt[slot] != nil: state == .opening
    case .ticket, .caller, .stack: state == .leased
    case .resetting: state == .resetting
    case .checking: state == .checking
    case .closing: state == .closing
    case .ending: state == .ending
    case .pool: state != .empty && state != .opening && state != .leased && state != .ending
    }
  }

  private func checkCounters(_ lent: Int) {
    let counters = state.counters
    if counters.internalErrors != 0 { fail("the core met a broken invariant") }
    // Those that were taken back before anybody saw them count too.
    let isShort = counters.gets + stackGets < UInt64(tally.puts + lent - onStack)
    if isShort || counters.gets < tally.gets { fail("gets went back") }
    tally.gets = counters.gets
    compare("waits", counters.waits, tally.waits)
    // A ticket that is granted and taken back in the same round of upkeep counts as the one or the other.
    compare("ends without a loan", counters.timeouts + counters.cancels, tally.timeouts + tally.cancels)
    compare("rejected", counters.rejected, tally.rejected)
    compare("opened", counters.opened, tally.opened)
    compare("connect failures", counters.connectFailures, tally.connectFailures)
    compare("discarded", counters.discarded, tally.discarded)
    compare("reset failures", counters.resetFailures, tally.resetFailures)
    compare("check failures", counters.checkFailures, tally.checkFailures)
    if state.hasConnectFailure != health.hasFailed { fail("hasConnectFailure is wrong") }
  }

  private func compare(_ what: String, _ counted: UInt64, _ expected: Int) {
    if counted != UInt64(expected) { fail("counted \(counted) \(what), not \(expected)") }
  }

  private func checkNobodyWaitsInVain(_ idle: Int) {
    guard !isPaused, !isClosed, !line.isEmpty, idle > 0 else { return }
    let checks = (0..<slotCount).count { slots[$0].state == .checking }
    if scenario.settings.check != .ping || checks < line.count {
      fail("\(line.count) wait, \(idle) are idle and \(checks) in a check")
    }
  }

  private func checkTickets() {
    for id in line {
      guard let waiter = waiters[id] else { return fail("an unknown ticket waits") }
      if waiter.ticket.pointee.state != .waiting { fail("a ticket in the queue is \(waiter.ticket.pointee.state)") }
      let lateness = scenario.lateness + (waiter.hasLooked ? ms(3) : 0)
      if now > waiter.heldUntil.after(lateness) { fail("a waiter outlives its deadline") }
    }
    for id in uncollected {
      guard let waiter = waiters[id] else { return fail("an unknown ticket is granted") }
      let lateness = scenario.lateness + (waiter.isBeingChecked ? ms(3) : scenario.lateness + ms(1))
      if now > waiter.heldUntil.after(lateness) { fail("an uncollected grant outlives its deadline") }
    }
    if events % 64 == 0 { forgetEnded() }
  }

  /// Tickets that nobody collected end a minute after their deadline.
  func forgetEnded() {
    for (id, waiter) in waiters where waiter.phase == .refused {
      if isCurrent(waiter) {
        let end = waiter.heldUntil.after(ms(60_000)).after(3 * scenario.lateness + ms(1))
        if now > end, !waiter.isParked { fail("a ticket is remembered for ever") }
      } else {
        forget(id)
      }
    }
  }

  /// `before`: since when nothing has happened but that time passed.
  func checkDuties(since before: Instant) {
    let gauges = state.gauges
    let open = gauges.total - gauges.closing
    watch(&duties.openFor, Swift.max(before, openIsDue), "nobody opens though there is room and need")
    let surplus = gauges.idle > 0 && open > maxSize ? before : .never
    watch(&duties.closeSurplus, surplus, "what is too much stays open")
    watch(&duties.closeTired, Swift.max(before, closeIsDue), "a connection is idle for too long")
    watch(&duties.giveUp, Swift.max(before, giveUpIsDue), "an attempt without an end is not given up")
  }

  private var backgrounds: [Int] {
    (0..<slotCount).filter { slots[$0].state == .resetting || slots[$0].state == .checking }
  }

  /// From when on an attempt to connect should begin.
  private var openIsDue: Instant {
    if isHosted { return wantsFresh && hasRoomForFresh ? health.latest : .never }
    let gauges = state.gauges
    let mayOpen =
      !isClosed && !isDrained && gauges.total < maxSize && stuck + unreached < unreachedLimit && active == 0
    guard mayOpen else { return .never }
    let queries = backgrounds
    if gauges.idle + gauges.inUse + queries.count < minSize { return health.latest }
    guard !isPaused, !line.isEmpty else { return .never }
    if queries.isEmpty { return health.latest }
    // A reset or check that does not end soon is no help to those who wait.
    let oldest = queries.compactMap { backgroundSince[$0] }.min() ?? .never
    return Swift.max(health.latest, oldest.after(ms(100)))
  }

  private var closeIsDue: Instant {
    let limit = scenario.settings.idleTimeout
    let live = state.gauges.idle + state.gauges.inUse + backgrounds.count
    guard limit != .never, live > minSize else { return .never }
    // The order of the idle ones is as exact as the times that put is given.
    let slack = scenario.isCoarse ? ms(100) : 0
    let oldest = (0..<slotCount).filter { slots[$0].state == .idle }.map { slots[$0].since }.min() ?? .never
    return oldest.after(limit).after(slack)
  }

  private var giveUpIsDue: Instant {
    let limit = scenario.settings.connectTimeout + ms(250)
    let starts = attempts.values.compactMap { $0.isGivenUp || $0.hasReached ? nil : $0.startedAt }
    return (starts.min() ?? .never).after(limit)
  }

  /// After a round of the upkeep thread: a connection that expired in use is paired with a replacement if there is
  /// room. Only where the lifetime is exact the world knows when.
  func checkReplacements() {
    let longest = scenario.settings.maxLifetime
    guard longest != .never, scenario.settings.lifetimeJitterPercent == 0, !isHosted else { return }
    for slot in 0..<slotCount {
      guard let session = sessions[slot], !session.isExpirySeen, now >= session.openedAt + longest else { continue }
      sessions[slot]?.isExpirySeen = true
      let isInUse = slots[slot].state == .leased || slots[slot].state == .resetting || slots[slot].state == .checking
      guard isInUse, !session.isKnownLost, !isRoundDisturbed, opensInRound == 0, hasRoom else { continue }
      fail("slot \(slot) expired in use and is not replaced")
    }
  }

  /// After a round of the upkeep thread: the runtime knows of each loan that is past its grace, and keeps it from others.
  func checkOutlived() {
    for slot in 0..<slotCount where slots[slot].state == .leased {
      guard let session = sessions[slot], let expiredAt = session.expiredAt, !session.isKnownLost else { continue }
      if now > expiredAt + ms(100), !session.isToldOutlived { fail("slot \(slot) outlived its lifetime untold") }
    }
  }

  private var hasRoom: Bool {
    !isClosed && !isDrained && state.gauges.total < maxSize && active < Swift.min(health.window, concurrency)
      && unreached + stuck < unreachedLimit && now >= health.latest
  }

  private func watch(_ since: inout Instant?, _ due: Instant, _ complaint: String) {
    guard due <= now else {
      since = nil
      return
    }
    let start = since ?? due
    since = start
    if now > start + scenario.lateness + us(1) { fail("\(complaint): \((now - start) / 1000) us late") }
  }
}
