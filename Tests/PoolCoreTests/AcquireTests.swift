import Testing

@testable import PoolCore

@Suite struct AcquireTests {
  @Test func aWaiterGetsTheConnectionThatIsOpenedForIt() {
    let pool = TestPool()
    let ticket = pool.wait()
    #expect(pool.needsUpkeep)
    pool.upkeep()
    #expect(pool.decided() == [ticket].compactMap { $0 })
    #expect(pool.granted(ticket) != nil)
    #expect(pool.core.gauges.inUse == 1 && pool.core.gauges.waiting == 0)
  }

  @Test func theMostRecentlyUsedIsLentFirstInLifo() {
    let pool = TestPool()
    pool.fill(2)
    let (first, second) = (pool.lend(), pool.lend())
    pool.release(first)
    pool.release(second)
    #expect(pool.lend() == second)
  }

  @Test func theLongestIdleIsLentFirstInFifo() {
    let pool = TestPool { $0.queueMode = .fifo }
    pool.fill(2)
    let (first, second) = (pool.lend(), pool.lend())
    pool.release(first)
    pool.release(second)
    #expect(pool.lend() == first)
  }

  @Test func nobodyIsServedBeforeThoseWhoWait() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let older = pool.wait()
    #expect(pool.lend() == nil)
    let younger = pool.wait()
    pool.release(slot)
    #expect(pool.decided() == [older].compactMap { $0 })
    #expect(pool.lend() == nil)
    pool.release(pool.granted(older))
    #expect(pool.granted(younger) == slot)
  }

  @Test func aWaiterThatTimesOutLeavesNothingBehind() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let ticket = pool.wait(for: 10)
    pool.pass(10)
    guard let ticket, case .refused(.timedOut) = pool.core.timeOut(ticket, now: pool.now) else {
      Issue.record("not refused")
      return
    }
    #expect(pool.core.gauges.waiting == 0 && pool.core.counters.timeouts == 1)
    pool.release(slot)
    #expect(pool.decided().isEmpty)
    #expect(pool.lend() == slot)
  }

  @Test func whatWasGrantedBeforeTheDeadlineCounts() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let ticket = pool.wait(for: 10)
    pool.release(slot)
    pool.pass(10)
    guard let ticket, case .granted = pool.core.timeOut(ticket, now: pool.now) else {
      Issue.record("the grant was lost")
      return
    }
    #expect(pool.core.counters.timeouts == 0)
  }

  @Test func aGrantThatIsCanceledGoesToTheNext() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let first = pool.wait(isDetached: true)
    let second = pool.wait()
    pool.release(slot)
    _ = pool.decided()
    if let first { pool.core.cancel(first, now: pool.now) }
    #expect(first?.pointee.state == .free)
    #expect(pool.decided() == [second].compactMap { $0 })
    #expect(pool.granted(second) == slot)
    #expect(pool.core.counters.gets == 4)
  }

  @Test func aParkedThreadHearsOfItsCancellation() {
    let pool = TestPool()
    let ticket = pool.wait(isDetached: true)
    ticket?.pointee.parked = 1
    if let ticket { pool.core.cancel(ticket, now: pool.now) }
    #expect(pool.decided() == [ticket].compactMap { $0 })
    #expect(pool.refusal(ticket) == .canceled)
  }

  @Test func aTicketIsUsedAgainWithNobodyParkedOnIt() {
    let pool = TestPool(tickets: 1)
    let ticket = pool.wait(isDetached: true)
    ticket?.pointee.parked = 2
    if let ticket { _ = pool.core.timeOut(ticket, now: pool.now) }
    #expect(ticket?.pointee.parked == 0)
  }

  @Test func anUncollectedGrantComesBackAtItsDeadline() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let ticket = pool.wait(isDetached: true, for: 20)
    pool.release(slot)
    #expect(ticket?.pointee.state == .granted)
    #expect(pool.core.nextDeadline(now: pool.now) == pool.now + .milliseconds(20))
    pool.pass(20)
    _ = pool.tasks()
    #expect(pool.core.gauges.idle == 1)
    #expect(pool.refusal(ticket) == .timedOut)
    #expect(pool.core.counters.cancels == 1 && pool.core.counters.gets == 3)
  }

  @Test func anUncollectedRefusalIsForgottenAfterAMinute() {
    let pool = TestPool(tickets: 1)
    let ticket = pool.wait(isDetached: true, for: 20)
    pool.pass(20)
    _ = pool.tasks()
    #expect(ticket?.pointee.state == .refused)
    pool.pass(60_000)
    _ = pool.tasks()
    #expect(ticket?.pointee.state == .free)
  }

  @Test func aDetachedCallerWithoutATicketTakesNothing() {
    let pool = TestPool(tickets: 1) { $0.queueMode = .fifo }
    pool.fill(1)
    _ = pool.wait(isDetached: true)
    guard case .needsTicket = pool.core.acquire(deadline: .never, isDetached: true, now: pool.now) else {
      Issue.record("no ticket was asked for")
      return
    }
    #expect(pool.core.counters.gets == 2)
  }

  @Test func oneMoreThanMaxWaitingIsRefused() {
    let pool = TestPool { $0.maxWaiting = 1 }
    _ = pool.wait()
    guard case .refused(.full) = pool.core.acquire(deadline: .never, isDetached: false, now: pool.now) else {
      Issue.record("not refused")
      return
    }
    #expect(pool.core.counters.rejected == 1)
  }

  @Test func aTryOpensAConnectionForTheNextOne() {
    let pool = TestPool()
    #expect(pool.refuseTry() == .timedOut)
    pool.upkeep()
    #expect(pool.lend() != nil)
  }

  @Test func aTryOnAPausedPoolCountsAsATimeout() {
    let pool = TestPool()
    pool.core.pause()
    #expect(pool.refuseTry() == .paused)
    #expect(pool.core.counters.timeouts == 1)
  }

  @Test func aTryTellsAServerThatIsDownFromAPoolInUse() {
    let pool = TestPool { $0.maxSize = 1 }
    _ = pool.refuseTry()
    for work in pool.tasks() { pool.core.openFailed(work.slot, .transient, now: pool.now) }
    #expect(pool.refuseTry() == .cannotConnect)
    pool.pass(1000)
    pool.upkeep()
    _ = pool.lend()
    #expect(pool.refuseTry() == .timedOut)
  }

  @Test func pingChecksWhatWasIdleForLong() {
    let pool = TestPool { $0.check = .ping }
    pool.fill(1)
    pool.pass(501)
    #expect(pool.lend() == nil)
    let ticket = pool.wait()
    #expect(pool.tasks().map(\.kind) == [.check])
    if let slot = pool.core.background.first { pool.core.backgroundEnded(slot, succeeded: true, now: pool.now) }
    #expect(pool.granted(ticket) != nil)
  }

  /// The checked connection had expired meanwhile and was closed; the next idle one stayed unchecked.
  @Test func aCheckedConnectionThatIsClosedDoesNotLeaveItsWaiterAlone() {
    let pool = TestPool { $0.check = .ping }
    pool.fill(2)
    pool.pass(501)
    _ = pool.wait()
    let checked = pool.tasks().first?.slot
    if let checked {
      pool.core.lost(checked, now: pool.now)
      pool.core.backgroundEnded(checked, succeeded: true, now: pool.now)
    }
    #expect(pool.core.gauges.idle == 0)
    #expect(Set(pool.tasks().map(\.kind)) == [.check, .close])
  }

  /// A connection that lay uncollected counted as used, and was lent on unchecked.
  @Test func aGrantThatLayUncollectedIsCheckedBeforeTheNextLoan() {
    let pool = TestPool { $0.check = .ping }
    pool.fill(1)
    let ticket = pool.wait(isDetached: true)
    pool.pass(501)
    if let ticket { pool.core.cancel(ticket, now: pool.now) }
    #expect(pool.core.gauges.idle == 1)
    #expect(pool.lend() == nil)
  }
}
