import Testing

@testable import PoolCore

@Suite struct LifecycleTests {
  @Test func aPausedPoolLendsNothingAndServesWhenItGoesOn() {
    let pool = TestPool()
    pool.fill(2)
    let slot = pool.lend()
    pool.core.pause()
    #expect(pool.lend() == nil)
    let (first, second) = (pool.wait(), pool.wait())
    pool.release(slot)
    #expect(pool.decided().isEmpty)
    pool.core.resume(now: pool.now)
    #expect(pool.decided() == [first, second].compactMap { $0 })
  }

  @Test func aWaiterOfAPausedPoolIsToldSo() {
    let pool = TestPool()
    pool.core.pause()
    let ticket = pool.wait(for: 10)
    pool.pass(10)
    guard let ticket, case .refused(.paused) = pool.core.timeOut(ticket, now: pool.now) else {
      Issue.record("not told")
      return
    }
  }

  @Test func aDrainedPoolEmptiesAsLoansComeBack() {
    let pool = TestPool()
    pool.fill(2)
    let slot = pool.lend()
    pool.core.drain()
    pool.upkeep()
    #expect(pool.core.total == 1)
    pool.release(slot)
    pool.upkeep()
    #expect(pool.core.total == 0 && pool.isPaused)
    pool.core.resume(now: pool.now)
    let ticket = pool.wait()
    pool.upkeep()
    #expect(pool.granted(ticket) != nil)
  }

  @Test func aDrainedPoolOpensNothing() {
    let pool = TestPool { $0.minSize = 2 }
    pool.core.drain()
    _ = pool.wait()
    #expect(pool.tasks().isEmpty && !pool.needsUpkeep)
  }

  @Test func noOldSessionIsLentAfterReconnect() {
    let pool = TestPool()
    pool.fill(2)
    let slot = pool.lend()
    pool.core.reconnect(now: pool.now)
    #expect(pool.lend() == nil)
    pool.release(slot)
    #expect(pool.core.gauges.closing == 2 && pool.core.gauges.idle == 0)
    pool.upkeep()
    #expect(pool.core.gauges.idle == 2)
  }

  @Test func anAttemptFromBeforeReconnectIsNotLent() {
    let pool = TestPool()
    let ticket = pool.wait()
    let all = pool.tasks()
    pool.core.reconnect(now: pool.now)
    for item in all { pool.succeed(item.slot) }
    #expect(ticket?.pointee.state == .waiting)
    pool.upkeep()
    #expect(ticket?.pointee.state == .granted)
  }

  @Test func aShrunkPoolClosesIdleConnectionsNow() {
    let pool = TestPool { $0.maxSize = 4 }
    pool.fill(4)
    pool.core.resize(minSize: 0, maxSize: 1)
    #expect(pool.needsUpkeep)
    pool.upkeep()
    #expect(pool.core.total == 1)
  }

  /// Sessions that were closing counted as too many, so that every loan that came back was closed.
  @Test func aShrunkPoolKeepsWhatItMayKeep() {
    let pool = TestPool { $0.maxSize = 4 }
    pool.fill(4)
    let loans = (0..<4).map { _ in pool.lend() }
    pool.core.resize(minSize: 0, maxSize: 2)
    for slot in loans { pool.release(slot) }
    #expect(pool.core.gauges.idle == 2 && pool.core.gauges.closing == 2)
  }

  @Test func aShrunkPoolOwesNoMoreThanItMayHave() {
    let pool = TestPool { $0.maxSize = 4 }
    pool.fill(4)
    let loans = (0..<4).map { _ in pool.lend() }
    for slot in loans.prefix(3) { pool.release(slot, .discarded) }
    pool.core.resize(minSize: 0, maxSize: 1)
    #expect(pool.core.owed == 0)
    pool.upkeep()
    #expect(pool.core.total == 1)
  }

  @Test func aGrownPoolServesThoseWhoWait() {
    let pool = TestPool(slots: 2) { $0.maxSize = 1 }
    pool.fill(1)
    _ = pool.lend()
    let ticket = pool.wait()
    #expect(pool.tasks().isEmpty)
    pool.core.resize(minSize: 0, maxSize: 2)
    pool.upkeep()
    #expect(pool.granted(ticket) != nil)
  }

  @Test func aClosedPoolRefusesItsWaitersAndEndsWithItsLastLoan() {
    let pool = TestPool()
    pool.fill(2)
    let loans = [pool.lend(), pool.lend()]
    let tickets = (0..<3).map { _ in pool.wait() }
    pool.core.shut()
    #expect(pool.refuseWaiting(limit: 2))
    #expect(!pool.refuseWaiting(limit: 2))
    #expect(pool.decided().count == 3)
    for ticket in tickets { #expect(pool.refusal(ticket) == .closed) }
    pool.upkeep()
    #expect(!pool.isFinished)
    for item in loans { pool.release(item) }
    pool.upkeep()
    #expect(pool.isFinished && !pool.needsTime)
  }

  @Test func aClosedPoolRefusesGets() {
    let pool = TestPool()
    pool.fill(1)
    pool.core.shut()
    #expect(pool.lend() == nil && pool.refuseTry() == .closed)
    guard case .refused(.closed) = pool.core.acquire(deadline: .never, isDetached: false, now: pool.now) else {
      Issue.record("not refused")
      return
    }
  }

  @Test func aChildOfForkStartsEmpty() {
    let pool = TestPool()
    pool.fill(2)
    _ = pool.lend()
    let old = pool.wait(isDetached: true)
    let generation = old?.pointee.generation
    pool.core.startOver()
    for index in 0..<pool.slotCount {
      pool.slots[index].startOver()
      pool.core.add(slot: pool.slots + index)
    }
    for index in 0..<pool.ticketCount {
      pool.tickets[index].startOver()
      pool.core.add(ticket: pool.tickets + index)
    }
    #expect(pool.core.total == 0 && pool.core.counters.gets == 0)
    #expect(old?.pointee.generation != generation)
    pool.fill(2)
    #expect(pool.core.gauges.idle == 2)
  }
}
