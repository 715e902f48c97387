#if SWIFT_PACKAGE
  import PoolCore
#endif

// Hosted pools: callers who open, adopt, fail, put and discard, and those who collect what is to be closed.
extension World {
  var isHosted: Bool { scenario.settings.isHosted }
  var hasWorkers: Bool { scenario.settings.hasWorkers }
  /// Callers open what they are granted as fresh.
  var opensOnGrant: Bool { isHosted && !hasWorkers }

  // MARK: Grants of fresh slots

  /// The core has granted a slot to open a session for; who gets it is entered by the caller.
  func grantsFresh(_ slot: Int) {
    trace.note(now, "granted as fresh", slot)
    if !isHosted { fail("a fresh grant of a pool that opens by itself") }
    if isDrained || isClosed || (isPaused && opensOnGrant) { fail("granted as fresh by a pool that is stopped") }
    if now < health.earliest { fail("granted as fresh \((health.earliest - now) / 1000) us before the pause is over") }
    if active + 1 > Swift.min(health.window, concurrency) { fail("\(active + 1) attempts, window \(health.window)") }
    switch place[slot] {
    case .empty:
      if place.count(where: { $0 != .empty }) + 1 > maxSize { fail("granted as fresh above the maximum") }
    case .pool:
      if sessions[slot] == nil { fail("no object is left in slot \(slot)") }
    default: fail("granted as fresh a slot that is \(place[slot])")
    }
    let served = count { $0 == .idle || $0 == .leased || $0 == .opening }
    if served > maxSize { fail("\(served) sessions in use, idle or being opened") }
    let id = newID()
    attempts[id] = Attempt(slot: slot, number: slots[slot].attempt, epoch: epoch, hasReached: true)
    freshAttempt[slot] = id
  }

  /// A fresh grant that nobody has seen is undone: an object that the host had, it has still.
  func freshIsTakenBack(_ slot: Int) {
    trace.note(now, "a fresh grant is taken back", slot)
    if let id = freshAttempt[slot] { attempts[id] = nil }
    freshAttempt[slot] = nil
    place[slot] = sessions[slot] == nil ? .empty : .pool
    wasTakenBack = true
  }

  /// Whoever collects a fresh grant gets it, unless the pool is closed.
  func isTakenBackAsFresh(_ id: Int, _ waiter: Waiter) {
    if !isClosed || waiter.phase != .granted { fail("a fresh grant was not handed out") }
    uncollected.removeAll { $0 == id }
    freshIsTakenBack(waiter.slot)
    waiters[id]?.phase = .refused
  }

  /// What the core offers to workers stands in no answer of its: the slots tell.
  func hearOffers() {
    if hasWorkers {
      for slot in 0..<slotCount {
        let isOpening = slots[slot].state == .opening
        if isOpening, freshAttempt[slot] == nil {
          grantsFresh(slot)
          if let id = freshAttempt[slot] { place[slot] = .attempt(id) }
        } else if !isOpening, freshAttempt[slot] != nil {
          if !isDrained && !isClosed { fail("an offer was withdrawn") }
          freshIsTakenBack(slot)
        }
      }
    }
    if core.takeStaleNews() { collectorWakes() }
  }

  // MARK: Opening

  /// A caller or worker was handed a fresh slot: it closes the object it may have, and opens, or leaves that to another
  /// time.
  func opensAsHost(_ slot: Int) {
    guard let id = freshAttempt[slot], var attempt = attempts[id] else { return fail("nothing was granted as fresh") }
    trace.note(now, "the host opens", slot, id)
    if isClosed || (isDrained && hasWorkers) { fail("a stopped pool has sessions opened") }
    if let old = sessions[slot] {
      predecessor[slot] = old.id
      agenda.enter(.lossIsSeen(slot: slot, session: old.id), at: now + random.span(0, ms(5)))
      if !slots[slot].isOccupied, !old.isKnownLost, !old.isUnfit { fail("the session in slot \(slot) does not count") }
      if slots[slot].isOccupied, !isHolding, random.chance(permille: 400) { attempt.vacates = old }
    }
    sessions[slot] = nil
    place[slot] = .attempt(id)
    attempt.startedAt = now
    attempt.epoch = epoch
    decideFate(&attempt)
    attempts[id] = attempt
    core.freshStarted(slots + slot, now: now)
    agenda.enter(.hostEnds(id), at: now + (attempt.vacates == nil ? openingTime() : random.span(0, ms(1))))
  }

  private func openingTime() -> Nanoseconds {
    if isCalm { return random.span(0, ms(8)) }
    let limit = scenario.settings.connectTimeout
    if server == .silent, random.chance(permille: 700) { return limit + random.span(0, ms(9000)) }
    return random.span(0, server == .slow || scenario.isSlow ? 2 * limit : Swift.min(limit, ms(8)))
  }

  func hostEnds(_ id: Int) {
    guard let attempt = attempts.removeValue(forKey: id) else { return }
    let slot = attempt.slot
    if slots[slot].attempt != attempt.number { fail("the number of an attempt changed under it") }
    freshAttempt[slot] = nil
    if let old = attempt.vacates { return vacates(slot, old) }
    if let failure = attempt.failure ?? (attempt.isAbandoned ? .transient : nil) {
      trace.note(now, "the host fails", slot, id)
      place[slot] = .empty
      tally.connectFailures += 1
      if attempt.epoch == epoch { health.failed(failure, now: now) }
      core.freshFailed(slots + slot, failure, now: now)
    } else if isClosed {
      trace.note(now, "the host is too late", slot, id)
      place[slot] = .empty
      core.freshAbandoned(slots + slot)
    } else {
      adopts(slot, attempt)
    }
    settleBooks()
    if attempt.failure == nil { checkFreshGranted("after a success") }
  }

  private func vacates(_ slot: Int, _ old: Session) {
    trace.note(now, "the host has closed what was there", slot)
    sessions[slot] = old
    sessions[slot]?.isClosedByHost = true
    place[slot] = .pool
    core.freshVacated(slots + slot, now: now)
    if slots[slot].state != .closing { fail("a vacated slot is \(slots[slot].state)") }
    settleBooks()
    checkFreshGranted("after a slot was vacated")
  }

  private func adopts(_ slot: Int, _ attempt: Attempt) {
    trace.note(now, "adopted", slot)
    tally.opened += 1
    health.reached(limit: concurrency)
    health.succeeded(limit: concurrency, now: now)
    sessions[slot] = Session(id: newID(), epoch: attempt.epoch, openedAt: now, seenAt: now)
    place[slot] = .pool
    let stays = mayStay(slot)
    core.adopted(slots + slot, now: now)
    if stays, slots[slot].state == .stale { fail("what was just opened is to be closed") }
    if opensOnGrant {
      if scenario.isCoarse { core.stamp(slots + slot, now: coarseNow) }
      takesOver(slot)
    }
    hearDecisions()
    if attempt.isLostEarly, let session = sessions[slot]?.id {
      sessions[slot]?.isDead = true
      lossIsSeen(slot, session: session)
    }
  }

  // MARK: Loans

  func putBackHosted(_ slot: Int) {
    tally.puts += 1
    sessions[slot]?.seenAt = now
    let isUnfit = random.chance(permille: sessions[slot]?.isDead == true ? 600 : scenario.faults) && !isCalm
    if !isUnfit { sessions[slot]?.hasServed = true }
    if sessions[slot]?.isKnownLost == true { health.sessionEnded(sessions[slot], now: coarseNow) }
    if isUnfit { discards(slot) } else { releases(slot) }
    settleBooks()
    if core.hasCollectable, random.chance(permille: 200) { collect(upTo: 1 + random.below(3)) }
  }

  private func discards(_ slot: Int) {
    trace.note(now, "discard", slot)
    tally.discarded += 1
    sessions[slot]?.isUnfit = true
    sessions[slot]?.isClosedByHost = true
    place[slot] = .pool
    core.discardHosted(slots + slot, now: coarseNow)
    if slots[slot].state != .closing { fail("a discarded slot is \(slots[slot].state)") }
  }

  private func releases(_ slot: Int) {
    trace.note(now, "put", slot)
    let stays = mayStay(slot)
    place[slot] = .pool
    if core.releaseHosted(slots + slot, now: coarseNow) {
      if isClosed || isDrained { fail("a drained or closed pool keeps what is put") }
      if let reason = sessions[slot].flatMap(unfitness) { fail("keeps a connection \(reason)") }
    } else {
      if stays { fail("a good connection is closed") }
      isToClose(slot)
    }
  }

  /// The caller, before it saw the connection, found it to be dead.
  func drops(_ slot: Int) {
    trace.note(now, "dead when looked at", slot)
    tally.puts += 1
    tally.discarded += 1
    sessions[slot]?.isKnownLost = true
    health.sessionEnded(sessions[slot], now: now)
    place[slot] = .pool
    core.lost(slots + slot, now: now)
    core.release(slots + slot, .broken, now: now)
    if slots[slot].state != .stale { fail("a dead connection is \(slots[slot].state)") }
  }

  /// The watch still sees the end of the session before, whose object the host closed.
  func oldLossIsSeen(_ slot: Int) {
    trace.note(now, "an old loss is seen", slot)
    core.lost(slots + slot, now: now)
    settleBooks()
  }

  // MARK: Closing

  /// The host is told to close an object; it confirms that now, soon, or a good while later.
  private func isToClose(_ slot: Int) {
    guard let session = sessions[slot]?.id else { return fail("no object is left in slot \(slot)") }
    place[slot] = .ending
    let late = random.chance(permille: 100) && !isCalm ? ms(5000) : ms(2)
    agenda.enter(.confirms(slot: slot, session: session), at: now + random.pick([0, random.span(0, late)]))
  }

  func confirms(_ slot: Int, session: Int) {
    guard place[slot] == .ending, sessions[slot]?.id == session else { return }
    trace.note(now, "confirmed", slot)
    place[slot] = .pool
    sessions[slot]?.isClosedByHost = true
    core.confirmed(slots + slot)
    settleBooks()
  }

  func collects() {
    isCollectorAwake = false
    guard hasCollector else { return }
    collect(upTo: 1 + random.below(8))
  }

  private func collect(upTo limit: Int) {
    for _ in 0..<limit {
      if let slot = core.takeStale() {
        trace.note(now, "collected", index(slot))
        if place[index(slot)] != .pool { fail("collected what is \(place[index(slot)])") }
        isToClose(index(slot))
      } else if let slot = core.takeOffer() {
        takesOffer(index(slot))
      }
    }
    if core.hasCollectable { collectorWakes() }
    settleBooks()
  }

  private func takesOffer(_ slot: Int) {
    guard let id = freshAttempt[slot], let attempt = attempts[id] else { return fail("fetched what was not offered") }
    if attempt.startedAt != nil { fail("an offer was fetched twice") }
    opensAsHost(slot)
  }

  func collectorComes() {
    hasCollector = true
    collectorWakes()
  }

  func collectorWakes() {
    guard hasCollector, !isCollectorAwake else { return }
    isCollectorAwake = true
    agenda.enter(.collects, at: now + random.span(0, ms(1)))
  }

  // MARK: Faults

  func hostSurprises() {
    switch random.below(1000) {
    case ..<15: collectorComes()
    case ..<30: hasCollector = false
    case ..<(30 + scenario.faults / 15): serverRestarts()
    default: break
    }
  }

  /// All sessions end at once.
  func serverRestarts() {
    trace.note(now, "the server restarts")
    for slot in 0..<slotCount { kill(slot) }
  }

  // MARK: Checks

  func count(_ isWanted: (SlotState) -> Bool) -> Int { (0..<slotCount).count { isWanted(slots[$0].state) } }

  /// Nothing but the rule for attempts keeps a slot from being granted as fresh.
  var hasRoomForFresh: Bool {
    guard !isClosed, !isDrained, !isPaused || hasWorkers, active < Swift.min(health.window, concurrency) else {
      return false
    }
    let live = count { $0 == .idle || $0 == .leased }
    return live + active < maxSize && (core.gauges.total < maxSize || count { $0 == .stale } > 0)
  }

  /// Somebody waits whom no attempt under way will serve, or workers are to open more.
  var wantsFresh: Bool {
    if opensOnGrant { return !line.isEmpty }
    let live = count { $0 == .idle || $0 == .leased }
    return (line.count > active && !isPaused) || live + active < minSize
  }

  var mayOpenFresh: Bool { opensOnGrant && now >= health.latest && hasRoomForFresh }

  /// Where the core has served those who wait, nobody is left to whom a slot may be granted as fresh.
  func checkFreshGranted(_ when: String) {
    if !line.isEmpty, mayOpenFresh { fail("\(line.count) wait though a session may be opened, \(when)") }
  }

  func checkHostedBooks() {
    for slot in 0..<slotCount {
      let hasSession = sessions[slot] != nil
      switch slots[slot].state {
      case .empty: if hasSession { fail("the object of slot \(slot) counts no more") }
      case .opening: break
      case .idle, .leased, .stale, .ending, .closing: if !hasSession { fail("slot \(slot) has no object") }
      case .resetting, .checking, .retiring: fail("slot \(slot) is \(slots[slot].state) in a hosted pool")
      }
    }
    let stale = count { $0 == .stale }
    let offered = hasWorkers ? attempts.values.count { $0.startedAt == nil } : 0
    if core.hasCollectable != (stale + offered > 0) {
      fail("\(stale) are to be closed, \(offered) opened, and hasCollectable is \(core.hasCollectable)")
    }
    if stale + offered > 0, hasCollector, !isCollectorAwake { fail("whoever collects was not woken") }
  }
}
