import Testing

@testable import PoolCore

@Suite struct ReleaseTests {
  @Test func aReturnedConnectionGoesToTheOldestWaiter() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let (first, second) = (pool.wait(), pool.wait())
    pool.release(slot)
    #expect(first?.pointee.state == .granted && second?.pointee.state == .waiting)
  }

  // A debug build stops at a broken invariant; here the release build's answer is looked at.
  #if !DEBUG
    @Test func releasingTwiceIsRefused() {
      let pool = TestPool()
      pool.fill(1)
      let slot = pool.lend()
      pool.release(slot)
      pool.release(slot)
      #expect(pool.core.counters.internalErrors == 1)
      #expect(pool.core.gauges.inUse == 0 && pool.core.gauges.idle == 1)
    }

    @Test func whatIsOutOfPlaceIsCountedAndChangesNothing() {
      let pool = TestPool()
      pool.fill(1)
      let slot = pool.slots
      let before = pool.core.gauges
      pool.core.opened(slot, now: pool.now)
      pool.core.openFailed(slot, .transient, now: pool.now)
      pool.core.closed(slot)
      pool.core.backgroundEnded(slot, succeeded: true, now: pool.now)
      pool.core.attemptStarted(slot, now: pool.now)
      pool.core.stuckReturned()
      #expect(pool.core.counters.internalErrors == 6)
      #expect(pool.core.gauges.total == before.total && pool.core.gauges.idle == before.idle)
    }
  #endif

  @Test func anOpenTransactionIsRolledBackBeforeTheNextLoan() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let ticket = pool.wait()
    pool.release(slot, .inTransaction)
    #expect(ticket?.pointee.state == .waiting)
    #expect(pool.tasks().map(\.kind) == [.reset])
    if let slot { pool.core.backgroundEnded(slot, succeeded: true, now: pool.now) }
    #expect(pool.granted(ticket) == slot)
  }

  @Test func withoutResetAnOpenTransactionClosesTheConnection() {
    let pool = TestPool { $0.reset = .none }
    pool.fill(1)
    pool.release(pool.lend(), .inTransaction)
    #expect(pool.tasks().map(\.kind) == [.close, .open])
    #expect(pool.core.counters.discarded == 1)
  }

  /// The fast put counts on a flag that every change of the pool must renew.
  @Test func aPutIsOrdinaryOnlyInAnOrdinaryPool() {
    let pool = TestPool()
    #expect(pool.isOrdinary)
    pool.core.pause()
    #expect(!pool.isOrdinary)
    pool.core.resume(now: pool.now)
    #expect(pool.isOrdinary)
    pool.fill(2)
    let (first, second) = (pool.lend(), pool.lend())
    let ticket = pool.wait()
    #expect(!pool.isOrdinary)
    pool.release(first)
    #expect(pool.isOrdinary)
    pool.release(pool.granted(ticket), .discarded)
    pool.core.resize(minSize: 0, maxSize: 1)
    #expect(!pool.isOrdinary)
    _ = pool.tasks()
    if let first { pool.core.closed(first) }
    #expect(pool.isOrdinary)
    pool.core.drain()
    #expect(!pool.isOrdinary)
    pool.release(second)
    #expect(pool.core.gauges.closing == 1)
  }

  /// A state machine that does not see each loan counts those that are lent now and then.
  @Test func sampledUseIsWhatIsLentAtTheSamples() {
    let pool = TestPool { $0.samplesUse = true }
    pool.fill(2)
    pool.core.sampleUse(now: pool.now)
    let slot = pool.lend()
    for _ in 0..<10 {
      pool.pass(50)
      pool.core.sampleUse(now: pool.now)
    }
    pool.release(slot)
    #expect(pool.core.counters.useTime == Instant.milliseconds(500))
    pool.pass(100)
    pool.core.sampleUse(now: pool.now)
    #expect(pool.core.counters.useTime == Instant.milliseconds(500))
    // After a long sleep without upkeep little is known.
    _ = pool.lend()
    pool.pass(60_000)
    pool.core.sampleUse(now: pool.now)
    #expect(pool.core.counters.useTime == Instant.milliseconds(700))
  }

  @Test func discardAllResetsEveryConnection() {
    let pool = TestPool { $0.reset = .discardAll }
    pool.fill(1)
    pool.release(pool.lend())
    #expect(pool.tasks().map(\.kind) == [.reset])
  }

  @Test(arguments: [Condition.broken, .discarded]) func anUnfitConnectionIsClosedAndReplaced(condition: Condition) {
    let pool = TestPool()
    pool.fill(1)
    pool.release(pool.lend(), condition)
    #expect(pool.core.gauges.closing == 1)
    pool.upkeep()
    #expect(pool.core.gauges.idle == 1 && pool.core.counters.discarded == 1)
  }

  @Test func aResetThatTakesTooLongLosesItsConnection() {
    let pool = TestPool()
    pool.fill(1)
    pool.release(pool.lend(), .inTransaction)
    _ = pool.tasks()
    #expect(pool.core.nextDeadline(now: pool.now) == pool.now + .milliseconds(5000))
    pool.pass(5000)
    #expect(pool.tasks().map(\.kind).prefix(2) == [.overrun, .close])
    #expect(pool.core.counters.resetFailures == 1)
  }

  @Test func aSlowResetIsNotWaitedForByThoseWhoWait() {
    let pool = TestPool()
    pool.fill(1)
    pool.release(pool.lend(), .inTransaction)
    _ = pool.wait()
    #expect(pool.tasks().map(\.kind) == [.reset])
    #expect(pool.core.nextDeadline(now: pool.now) == pool.now + .milliseconds(100))
    pool.pass(100)
    #expect(pool.tasks().map(\.kind) == [.open])
  }

  @Test func aClosedConnectionCountsUntilItsPeerHasClosed() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    _ = pool.wait()
    pool.release(slot, .broken)
    #expect(pool.tasks().map(\.kind) == [.close])
    if let slot { pool.core.closed(slot) }
    #expect(pool.tasks().map(\.kind) == [.open])
  }

  @Test func aSilentPeerIsWaitedForOneSecond() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    pool.release(pool.lend(), .broken)
    _ = pool.tasks()
    pool.pass(999)
    #expect(pool.tasks().isEmpty)
    pool.pass(1)
    #expect(pool.tasks().map(\.kind) == [.forget, .open])
  }

  @Test func aDoubtedConnectionIsCheckedAndItsBorrowerWaitsInFront() {
    let pool = TestPool { $0.maxSize = 1 }
    pool.fill(1)
    let slot = pool.lend()
    let other = pool.wait()
    guard let slot, case .waiting(let mine) = pool.core.recheck(slot, deadline: .never, now: pool.now) else {
      Issue.record("no ticket")
      return
    }
    #expect(pool.tasks().map(\.kind) == [.check])
    pool.core.backgroundEnded(slot, succeeded: true, now: pool.now)
    #expect(mine.pointee.state == .granted && other?.pointee.state == .waiting)
    #expect(pool.core.counters.gets == 3)
  }

  /// It waited for the check although another connection had come back.
  @Test func aBorrowerInDoubtTakesAnotherIdleConnection() {
    let pool = TestPool()
    pool.fill(2)
    let (slot, other) = (pool.lend(), pool.lend())
    pool.release(other)
    guard let slot, case .waiting(let mine) = pool.core.recheck(slot, deadline: .never, now: pool.now) else {
      Issue.record("no ticket")
      return
    }
    #expect(pool.decided() == [mine])
    #expect(pool.granted(mine) == other)
  }

  /// Its ticket waited in a closed pool for ever.
  @Test func aDoubtInAClosedPoolEndsTheLoan() {
    let pool = TestPool()
    pool.fill(1)
    let slot = pool.lend()
    pool.core.shut()
    guard let slot, case .refused(.closed) = pool.core.recheck(slot, deadline: .never, now: pool.now) else {
      Issue.record("not refused")
      return
    }
    pool.upkeep()
    #expect(pool.isFinished)
  }

  @Test(arguments: [PoolCore.Unfit.broken, .doubtful, .stale])
  func anUnfitGrantInAClosedPoolIsRefused(reason: PoolCore.Unfit) {
    let pool = TestPool()
    pool.fill(1)
    let ticket = pool.wait(isDetached: true)
    pool.core.shut()
    if let ticket { pool.core.requeue(ticket, reason, now: pool.now) }
    #expect(pool.refusal(ticket) == .closed)
    pool.upkeep()
    #expect(pool.isFinished)
  }

  @Test func aCancellationDuringALookCountsAfterIt() {
    let pool = TestPool()
    pool.fill(1)
    guard let ticket = pool.wait(isDetached: true) else { return }
    pool.core.beginCheck(ticket)
    pool.core.cancel(ticket, now: pool.now)
    #expect(ticket.pointee.state == .granted)
    #expect(!pool.endCheck(ticket))
    #expect(ticket.pointee.state != .granted && pool.core.gauges.idle == 1)
  }
}
