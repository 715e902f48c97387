import Testing

@testable import PoolCore

/// Tickets whose connection was granted some time before it is collected.
@Suite struct CollectTests {
  private enum Fate: CaseIterable { case lost, renewed, expired }

  /// A pool with `count` connections that expire after a second, of which one is granted to a ticket.
  private func granted(
    of count: Int = 1, for milliseconds: Int? = nil, _ adjust: (inout Settings) -> Void = { _ in }
  ) -> (TestPool, TicketPointer?) {
    let pool = TestPool {
      $0.maxLifetime = .milliseconds(1000)
      $0.lifetimeJitterPercent = 0
      $0.maxSize = count
      adjust(&$0)
    }
    pool.fill(count)
    return (pool, pool.wait(isDetached: true, for: milliseconds))
  }

  private func meet(_ fate: Fate, _ pool: TestPool, _ ticket: TicketPointer?) {
    switch fate {
    case .lost: if let slot = ticket?.pointee.slot { pool.core.lost(slot, now: pool.now) }
    case .renewed: pool.core.reconnect(now: pool.now)
    case .expired:
      pool.pass(1000)
      _ = pool.tasks()
      pool.pass(100)
    }
  }

  @Test(arguments: Fate.allCases) private func whatIsStaleIsNotHandedOut(fate: Fate) {
    let (pool, ticket) = granted()
    meet(fate, pool, ticket)
    #expect(pool.isPending(ticket))
    #expect(pool.core.gauges.waiting == 1 && pool.core.gauges.inUse == 0)
    #expect(pool.core.counters.gets == 2 && pool.core.counters.timeouts == 0)
    pool.upkeep()
    #expect(pool.decided() == [ticket].compactMap { $0 })
    #expect(pool.granted(ticket) != nil && pool.core.counters.opened == 2)
  }

  @Test(arguments: Fate.allCases) private func whatIsStaleAtTheDeadlineIsRefused(fate: Fate) {
    let (pool, ticket) = granted()
    meet(fate, pool, ticket)
    #expect(pool.timedOut(ticket) != nil)
    #expect(pool.core.gauges.waiting == 0 && pool.core.counters.timeouts == 1)
    #expect(ticket?.pointee.state == .free && pool.decided().isEmpty)
  }

  @Test(arguments: Fate.allCases) private func whatIsStaleInAClosedPoolIsRefused(fate: Fate) {
    let (pool, ticket) = granted()
    meet(fate, pool, ticket)
    pool.core.shut()
    #expect(pool.refusal(ticket) == .closed)
    pool.upkeep()
    #expect(pool.isFinished)
  }

  @Test func aPausedPoolHasNothingInsteadOfWhatIsStale() {
    let (pool, ticket) = granted(of: 2)
    pool.core.pause()
    meet(.lost, pool, ticket)
    #expect(pool.isPending(ticket) && ticket?.pointee.state == .waiting)
    pool.core.resume(now: pool.now)
    #expect(pool.granted(ticket) != nil)
  }

  /// The owner looks at it before it collects: it is granted, and not handed out in the same step.
  @Test func anotherIdleConnectionIsGrantedAtOnce() {
    let (pool, ticket) = granted(of: 2)
    let stale = ticket?.pointee.slot
    meet(.lost, pool, ticket)
    #expect(pool.isPending(ticket))
    #expect(pool.decided() == [ticket].compactMap { $0 })
    let slot = pool.granted(ticket)
    #expect(slot != nil && slot != stale && pool.core.gauges.inUse == 1)
  }

  @Test func anotherIdleConnectionIsHandedOutAtTheDeadline() {
    let (pool, ticket) = granted(of: 2)
    let stale = ticket?.pointee.slot
    meet(.lost, pool, ticket)
    guard let ticket, case .granted(let slot) = pool.core.timeOut(ticket, now: pool.now) else {
      Issue.record("refused beside an idle connection")
      return
    }
    #expect(slot != stale && ticket.pointee.state == .free && pool.core.gauges.inUse == 1)
  }

  /// All idle ones are past their grace too, and upkeep is late: the ticket stood in the list of the decided twice.
  @Test func aTicketIsDecidedOnce() {
    let (pool, ticket) = granted(of: 3)
    pool.pass(1000)
    for slot in 0..<3 {
      pool.slots[slot].isCondemned = true
      pool.core.expiries.remove(pool.slots + slot)
    }
    #expect(pool.timedOut(ticket) != nil)
    #expect(pool.decided().count <= 1)
    #expect(pool.core.gauges.closing == 3)
  }

  @Test func whoLostItsGrantIsServedBeforeThoseWhoWait() {
    let (pool, ticket) = granted()
    let other = pool.wait()
    meet(.lost, pool, ticket)
    #expect(pool.isPending(ticket))
    pool.upkeep()
    #expect(ticket?.pointee.state == .granted && other?.pointee.state == .waiting)
  }

  @Test(arguments: [1, 2]) func anExpiredGrantCanBeCollectedUntilItsGraceEnds(size: Int) {
    for (milliseconds, isGood) in [(99, true), (100, false)] {
      // With room a replacement is opening meanwhile, without there is none.
      let (pool, ticket) = granted { $0.maxSize = size }
      pool.pass(1000)
      #expect(pool.tasks().map(\.kind) == (size == 1 ? [] : [.open]))
      pool.pass(milliseconds)
      #expect((pool.granted(ticket) != nil) == isGood)
    }
  }

  @Test(arguments: [0, 20]) func whatWasGrantedAtOnceCanBeCollectedForASecond(milliseconds: Int) {
    for (later, isGood) in [(999, true), (1000, false)] {
      let (pool, ticket) = granted(for: milliseconds) { $0.maxLifetime = .never }
      #expect(pool.core.nextDeadline(now: pool.now) == pool.now + .milliseconds(1000))
      pool.pass(later)
      _ = pool.tasks()
      #expect((pool.granted(ticket) != nil) == isGood)
    }
  }

  @Test func aLaterDeadlineCounts() {
    let (pool, ticket) = granted(for: 5000) { $0.maxLifetime = .never }
    pool.pass(4999)
    _ = pool.tasks()
    #expect(pool.granted(ticket) != nil)
  }

  @Test func aTicketThatHadToWaitHasNoLongerThanItsDeadline() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    _ = pool.lend()
    let ticket = pool.wait(isDetached: true, for: 20)
    pool.pass(20)
    _ = pool.tasks()
    #expect(pool.refusal(ticket) == .timedOut)
  }

  /// It waited for the rest of the second that it had had to collect.
  @Test func aTicketThatWaitsAgainHasNoLongerThanItsDeadline() {
    let (pool, ticket) = granted(for: 20) { $0.maxLifetime = .never }
    pool.pass(10)
    if let ticket { pool.core.requeue(ticket, .doubtful, now: pool.now) }
    #expect(pool.tasks().map(\.kind) == [.check])
    pool.pass(10)
    _ = pool.tasks()
    #expect(ticket?.pointee.state == .refused && pool.core.gauges.waiting == 0)
  }

  @Test func aTicketThatIsATryNeedsNoPing() {
    for isTry in [true, false] {
      let pool = TestPool { $0.check = .ping }
      pool.fill(1)
      pool.pass(501)
      let ticket = pool.wait(isDetached: true, isTry: isTry, for: 0)
      #expect((ticket?.pointee.state == .granted) == isTry)
    }
  }

  /// The mark of an earlier use of the ticket stayed, and the connection was lent unseen.
  @Test func onlyWhatComesFromAPingCountsAsChecked() {
    let pool = TestPool(tickets: 1) { $0.check = .ping }
    pool.fill(1)
    pool.pass(501)
    let first = pool.wait(isDetached: true)
    pool.upkeep()
    #expect(first?.pointee.isChecked == true)
    pool.release(pool.granted(first))
    let second = pool.wait(isDetached: true)
    #expect(second?.pointee.state == .granted && second?.pointee.isChecked == false)
  }
}
