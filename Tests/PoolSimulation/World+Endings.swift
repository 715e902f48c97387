#if SWIFT_PACKAGE
  import PoolCore
#endif

// How a run ends: after the last fault the pool must be whole again, and after the close nothing may be left.
extension World {
  func run() {
    settleBooks()
    while events < scenario.events, violation == nil, !isClosed { step() }
    if !isClosed { calmsDown() }
    if !isClosed, violation == nil { lendsAll() }
    ends()
  }

  /// Lets everything that is under way happen until `isDone` holds.
  private func settle(within span: Nanoseconds, _ complaint: String, until isDone: () -> Bool) {
    let limit = now + span
    var steps = 0
    while violation == nil, !isDone() {
      guard agenda.nextTime <= limit, steps < 200_000 else { return fail(complaint) }
      happenNext()
      forgetEnded()
      events += 1
      steps += 1
    }
  }

  private func calmsDown() {
    trace.note(now, "the last fault is over")
    isCalm = true
    server = .well
    if isHosted { collectorComes() }
    if isHosted, random.chance(permille: 500) { serverRestarts() }
    if isPaused { resume() }
    let isWhole = { [self] in
      line.isEmpty && stuck == 0 && inUse == 0 && (opensOnGrant ? active == 0 : keepsMinimum)
    }
    settle(within: ms(90_000), "the pool does not become whole again", until: isWhole)
  }

  private var keepsMinimum: Bool { state.hasMinimum || !canKeepMinimum }

  /// Connections can be opened faster than they expire.
  private var canKeepMinimum: Bool {
    let opening = (scenario.lateness + ms(20)) * Int64(minSize) / Int64(concurrency)
    return opening < scenario.settings.maxLifetime / 4
  }

  /// As many callers as there may be connections all get one: no slot was lost.
  private func lendsAll() {
    trace.note(now, "all are lent")
    isHolding = true
    // What is idle dies: those who wait open anew, and nobody puts anything back.
    if isHosted { serverRestarts() }
    addTickets(maxSize)
    for _ in 0..<maxSize where violation == nil {
      get(isDetached: false, deadline: .never)
      if scenario.settings.maxWaiting > 0 {
        settle(within: ms(30_000), "a waiter is not served") { [self] in line.isEmpty }
      }
    }
    let isServed = { [self] in line.isEmpty && inUse == maxSize }
    settle(within: ms(90_000), "the pool does not lend \(maxSize) connections", until: isServed)
    isHolding = false
    for slot in 0..<slotCount where violation == nil {
      if case .caller(let loan) = place[slot] { putBack(slot, loan: loan) }
    }
  }

  private func ends() {
    for _ in 0..<3 where violation == nil && !isClosed {
      get(isDetached: random.chance(permille: 500), deadline: now + ms(50))
    }
    if violation == nil { shut() }
    if isHosted { collectorComes() }
    settle(within: ms(200_000), "a closed pool does not end") { [self] in
      state.isFinished && waiters.isEmpty && sessions.allSatisfy { $0 == nil }
    }
    guard violation == nil else { return }
    if attempts.values.contains(where: { !$0.isGivenUp }) { fail("finished with attempts under way") }
    if (0..<ticketCount).contains(where: { tickets[$0].state != .free }) { fail("a ticket was lost") }
    if inUse != 0 { fail("a loan was lost") }
    if state.needsUpkeep(now: now) || state.nextDeadline(now: now) != .never { fail("a finished pool asks for upkeep") }
  }
}
