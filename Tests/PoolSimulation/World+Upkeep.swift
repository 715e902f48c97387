#if SWIFT_PACKAGE
  import PoolCore
#endif

// The upkeep thread, the connector threads and the server.
extension World {
  /// The upkeep thread is woken as the core asks for it, and comes late.
  func rearm() {
    var due = Instant.never
    if state.needsUpkeep(now: now) {
      due = now
    } else if state.needsTime {
      due = Swift.max(now, state.nextDeadline(now: now))
    }
    if scenario.usesStack, state.needsTime { due = Swift.min(due, Swift.max(now, lastUpkeep.after(Self.tick))) }
    if due == .never {
      upkeepTurn += 1
      (upkeepAt, upkeepDue) = (.never, .never)
      return
    }
    if due <= now, upkeepAt <= now + scenario.lateness { return }
    if due == upkeepDue { return }
    upkeepTurn += 1
    upkeepDue = due
    upkeepAt = due.after(random.span(0, scenario.lateness))
    agenda.enter(.upkeep(turn: upkeepTurn), at: upkeepAt)
  }

  func runUpkeep() {
    trace.note(now, "upkeep")
    upkeepTurn += 1
    (upkeepAt, upkeepDue) = (.never, .never)
    upkeepRunsNow = now == lastUpkeep ? upkeepRunsNow + 1 : 0
    lastUpkeep = now
    (opensInRound, isRoundDisturbed) = (0, false)
    if upkeepRunsNow > 1000 { return fail("the upkeep thread runs in circles") }
    for _ in 0..<5000 {
      if !runTask() {
        checkReplacements()
        checkOutlived()
        if core.needsUpkeep(now: now) { fail("the upkeep thread rests beside work") }
        settleBooks()
        return checkFreshGranted("by the upkeep thread")
      }
      settleBooks()
      if violation != nil { return }
      if !isCalm, random.chance(permille: 20) {
        isRoundDisturbed = true
        surprise()
      }
    }
    fail("the tasks of the upkeep thread have no end")
  }

  private func runTask() -> Bool {
    let task = core.nextTask(now: now)
    hearDecisions()
    switch task {
    case .none: return false
    case .open(let slot): opens(index(slot))
    case .reset(let slot):
      tally.resets += 1
      background(index(slot), .resetting)
    case .check(let slot): background(index(slot), .checking)
    case .close(let slot): closes(index(slot))
    case .forget(let slot): forgets(index(slot))
    case .overrun(let slot): overruns(index(slot))
    case .gaveUp(let slot): gaveUp(index(slot))
    case .outlived(let slot): outlived(index(slot))
    }
    return true
  }

  // MARK: Attempts

  var concurrency: Int {
    scenario.settings.connectConcurrency == 0 ? maxSize : scenario.settings.connectConcurrency
  }

  var active: Int { attempts.values.count { !$0.isGivenUp } }
  var unreached: Int { attempts.values.count { !$0.isGivenUp && !$0.hasReached } }

  private func outlived(_ slot: Int) {
    trace.note(now, "outlived", slot)
    if slots[slot].state != .leased || !slots[slot].isCondemned { fail("slot \(slot) outlived nothing") }
    sessions[slot]?.isToldOutlived = true
    isApart[slot] = true
  }

  private func opens(_ slot: Int) {
    trace.note(now, "open", slot)
    if place[slot] != .empty { fail("opens in a slot that is \(place[slot])") }
    if isClosed || isDrained { fail("opens in a pool that is closed or drained") }
    if now < health.earliest { fail("opens \((health.earliest - now) / 1000) us before the pause is over") }
    if active + 1 > Swift.min(health.window, concurrency) { fail("\(active + 1) attempts, window \(health.window)") }
    if unreached + 1 + stuck > unreachedLimit { fail("too many attempts have reached no server") }
    if place.count(where: { $0 != .empty }) + 1 > maxSize { fail("opens above the maximum") }
    opensInRound += 1
    if !isCalm, random.chance(permille: 4 * scenario.faults) { killExpired() }
    let id = newID()
    var attempt = Attempt(slot: slot, number: slots[slot].attempt, epoch: epoch)
    decideFate(&attempt)
    attempts[id] = attempt
    place[slot] = .attempt(id)
    agenda.enter(.attemptStarts(id), at: now + (random.chance(permille: 30) ? random.span(0, ms(300)) : us(30)))
  }

  func decideFate(_ attempt: inout Attempt) {
    guard !isCalm else { return }
    switch server == .mixed ? random.pick([.well, .well, .refusing, .full, .wrongPassword]) : server {
    case .well, .slow, .silent, .mixed: if random.chance(permille: scenario.faults / 4) { attempt.failure = .transient }
    case .refusing: attempt.failure = .transient
    case .full: attempt.failure = .tooManyConnections
    case .wrongPassword: attempt.failure = .permanent
    }
    attempt.isAbandoned = random.chance(permille: scenario.faults / 10)
    attempt.isLostEarly = random.chance(permille: scenario.faults / 10)
  }

  func attemptStarts(_ id: Int) {
    guard let attempt = attempts[id] else { return }
    trace.note(now, "attempt starts", id, attempt.slot)
    attempts[id]?.startedAt = now
    core.attemptStarted(slots + attempt.slot, now: now)
    let limit = scenario.settings.connectTimeout
    if server == .silent, !isCalm, random.chance(permille: 700) {
      agenda.enter(.attemptEnds(id), at: now + limit + random.span(ms(251), ms(9000)))
    } else {
      let slowest = server == .slow || (scenario.isSlow && !isCalm) ? limit : Swift.min(limit, ms(8))
      let reached = random.span(0, slowest)
      if attempt.failure != .transient || random.chance(permille: 500) {
        agenda.enter(.attemptReaches(id), at: now + reached)
      }
      agenda.enter(.attemptEnds(id), at: now + reached + random.span(0, slowest))
    }
    settleBooks()
  }

  func attemptReaches(_ id: Int) {
    guard let attempt = attempts[id], !attempt.isGivenUp else { return }
    attempts[id]?.hasReached = true
    health.reached(limit: concurrency)
    core.attemptReached(slots + attempt.slot)
    settleBooks()
  }

  func attemptEnds(_ id: Int) {
    guard let attempt = attempts.removeValue(forKey: id) else { return }
    let slot = attempt.slot
    if attempt.isGivenUp {
      if slots[slot].attempt == attempt.number { fail("an attempt that was given up counts as the slot's") }
      trace.note(now, "a stuck thread is back", id)
      stuck -= 1
      core.stuckReturned()
      return settleBooks()
    }
    if slots[slot].attempt != attempt.number { fail("the number of an attempt changed under it") }
    if attempt.isAbandoned {
      trace.note(now, "attempt abandoned", id, slot)
      place[slot] = .empty
      core.openAbandoned(slots + slot)
    } else if let failure = attempt.failure {
      trace.note(now, "attempt fails", id, slot)
      place[slot] = .empty
      tally.connectFailures += 1
      if attempt.epoch == epoch { health.failed(failure, now: now) }
      core.openFailed(slots + slot, failure, now: now)
    } else {
      opened(slot, attempt)
    }
    settleBooks()
  }

  private func opened(_ slot: Int, _ attempt: Attempt) {
    trace.note(now, "opened", slot)
    if !attempt.hasReached {
      health.reached(limit: concurrency)
      core.attemptReached(slots + slot)
    }
    tally.opened += 1
    health.succeeded(limit: concurrency, now: now)
    place[slot] = .pool
    sessions[slot] = Session(id: newID(), epoch: attempt.epoch, openedAt: now, seenAt: now)
    if attempt.isLostEarly {
      sessions[slot]?.isDead = true
      sessions[slot]?.isKnownLost = true
      health.sessionEnded(sessions[slot], now: now)
      core.lost(slots + slot, now: now)
    }
    core.opened(slots + slot, now: now)
  }

  private func gaveUp(_ slot: Int) {
    trace.note(now, "gave up", slot)
    guard case .attempt(let id) = place[slot], let attempt = attempts[id], let started = attempt.startedAt else {
      return fail("gave up what was not an attempt under way")
    }
    if attempt.hasReached { fail("gave up an attempt that has reached its server") }
    if now < started + scenario.settings.connectTimeout + ms(250) { fail("gave up an attempt too early") }
    attempts[id]?.isGivenUp = true
    stuck += 1
    place[slot] = .empty
    tally.connectFailures += 1
    if attempt.epoch == epoch { health.failed(.transient, now: now) }
  }

  // MARK: Resets, checks and closing

  private func background(_ slot: Int, _ kind: Place) {
    trace.note(now, kind == .resetting ? "reset" : "check", slot)
    if place[slot] != .pool { fail("begins a query on a connection that is \(place[slot])") }
    place[slot] = kind
    backgroundTurn[slot] += 1
    backgroundSince[slot] = now
    let limit = scenario.settings.checkTimeout
    let isSlow = !isCalm && random.chance(permille: 2 * scenario.faults)
    let length = isSlow ? random.span(0, 2 * limit) : random.span(0, Swift.min(limit / 2, ms(2)))
    agenda.enter(.backgroundEnds(slot: slot, turn: backgroundTurn[slot]), at: now + length)
  }

  func backgroundEnds(_ slot: Int, turn: Int) {
    guard backgroundTurn[slot] == turn, place[slot] == .resetting || place[slot] == .checking else { return }
    let isDead = sessions[slot]?.isDead == true
    endBackground(slot, succeeded: !isDead && (isCalm || !random.chance(permille: scenario.faults)))
    settleBooks()
  }

  private func overruns(_ slot: Int) {
    trace.note(now, "overrun", slot)
    guard place[slot] == .resetting || place[slot] == .checking, let since = backgroundSince[slot] else {
      return fail("stops a query that is not under way")
    }
    if now < since + scenario.settings.checkTimeout { fail("stops a query too early") }
    endBackground(slot, succeeded: false)
  }

  private func endBackground(_ slot: Int, succeeded: Bool) {
    trace.note(now, succeeded ? "a query ends" : "a query fails", slot)
    if !succeeded {
      if place[slot] == .resetting { tally.resetFailures += 1 } else { tally.checkFailures += 1 }
      health.sessionEnded(sessions[slot], now: now)
    }
    place[slot] = .pool
    backgroundTurn[slot] += 1
    backgroundSince[slot] = nil
    sessions[slot]?.seenAt = now
    if succeeded { sessions[slot]?.isDirty = false } else { sessions[slot]?.isUnfit = true }
    core.backgroundEnded(slots + slot, succeeded: succeeded, now: now)
  }

  private func closes(_ slot: Int) {
    trace.note(now, "close", slot)
    if place[slot] != .pool { fail("closes a connection that is \(place[slot])") }
    guard let session = sessions[slot] else { return fail("closes where there is no session") }
    if isHosted, !session.isClosedByHost { fail("the object of slot \(slot) is not closed") }
    place[slot] = .closing
    closingSince[slot] = now
    let isSilent = !isCalm && random.chance(permille: 50)
    if !isSilent { agenda.enter(.peerCloses(slot: slot, session: session.id), at: now + random.span(us(100), ms(20))) }
  }

  func peerCloses(_ slot: Int, session: Int) {
    guard place[slot] == .closing, sessions[slot]?.id == session else { return }
    trace.note(now, "peer closes", slot)
    vacate(slot)
    settleBooks()
  }

  private func forgets(_ slot: Int) {
    trace.note(now, "forget", slot)
    if place[slot] != .closing { return fail("forgets a session that was not closed") }
    if now < closingSince[slot] + ms(1000) { fail("forgets a session too early") }
    vacate(slot)
  }

  private func vacate(_ slot: Int) {
    sessions[slot] = nil
    place[slot] = .empty
    core.closed(slots + slot)
  }
}
