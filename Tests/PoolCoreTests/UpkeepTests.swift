import Testing

@testable import PoolCore

@Suite struct UpkeepTests {
  private func expiring(_ adjust: (inout Settings) -> Void = { _ in }) -> TestPool {
    TestPool {
      $0.maxLifetime = .milliseconds(1000)
      $0.lifetimeJitterPercent = 0
      adjust(&$0)
    }
  }

  @Test func anExpiredConnectionIsReplacedBeforeItGoes() {
    let pool = expiring()
    pool.fill(1)
    let old = pool.core.idle.first
    pool.pass(1000)
    let all = pool.tasks()
    #expect(all.map(\.kind) == [.open])
    #expect(pool.core.gauges.idle == 1)
    for item in all { pool.succeed(item.slot) }
    #expect(pool.core.idle.first == all.first?.slot && old?.pointee.state == .closing)
    #expect(pool.core.counters.expired == 1)
  }

  @Test func inAFullPoolTheExpiredOneGoesFirst() {
    let pool = expiring { $0.maxSize = 1 }
    pool.fill(1)
    pool.pass(1000)
    #expect(pool.tasks().map(\.kind) == [.close])
    pool.core.closed(pool.slots)
    #expect(pool.tasks().map(\.kind) == [.open])
  }

  @Test func anExpiredConnectionIsNotLentAfterItsGrace() {
    let pool = expiring()
    pool.fill(1)
    pool.pass(1000)
    _ = pool.tasks()
    pool.pass(100)
    _ = pool.tasks()
    #expect(pool.lend() == nil && pool.core.gauges.background == 1)
  }

  @Test func anExpiredConnectionThatIsStillOpenGoesWhenItsReplacementFails() {
    let pool = expiring()
    pool.fill(1)
    pool.pass(1000)
    let all = pool.tasks()
    pool.pass(100)
    _ = pool.tasks()
    for item in all { pool.core.openFailed(item.slot, .transient, now: pool.now) }
    #expect(pool.core.gauges.background == 0 && pool.core.gauges.closing == 1)
  }

  /// Lent in its grace and put back later, it was replaced a second time.
  @Test(arguments: [true, false]) func anExpiredConnectionIsReplacedOnce(putsLate: Bool) {
    let pool = expiring { $0.maxSize = 5 }
    pool.fill(1)
    pool.pass(1000)
    let all = pool.tasks()
    let slot = pool.lend()
    if !putsLate { pool.release(slot) }
    for item in all { pool.succeed(item.slot) }
    if putsLate { pool.release(slot) }
    #expect(pool.tasks().map(\.kind) == [.close])
    #expect(pool.core.gauges.idle == 1)
  }

  @Test func aReplacementInheritsThePlaceInTheOrder() {
    let pool = expiring()
    pool.fill(1)
    pool.pass(500)
    _ = pool.wait()
    _ = pool.wait()
    pool.upkeep()
    for ticket in pool.decided() { pool.release(pool.granted(ticket)) }
    let since = pool.core.idle.last?.pointee.since
    pool.pass(500)
    pool.core.opening.first.map { pool.succeed($0) }
    pool.upkeep()
    #expect(pool.core.idle.last?.pointee.since == since)
  }

  @Test func theLifetimeIsShortenedByAtMostTheJitter() {
    for seed in 1..<200 {
      let pool = TestPool {
        $0.maxLifetime = .milliseconds(1000)
        $0.lifetimeJitterPercent = 20
        $0.seed = UInt64(seed)
      }
      pool.fill(1)
      let left = pool.core.expiries.nextDue - pool.now
      #expect(left > .milliseconds(799) && left <= .milliseconds(1000))
    }
  }

  @Test func whatIsOpenedTogetherDoesNotExpireTogether() {
    for seed in 1..<50 {
      let pool = TestPool {
        $0.maxSize = 100
        $0.maxLifetime = .milliseconds(10_000)
        $0.lifetimeJitterPercent = 20
        $0.seed = UInt64(seed)
      }
      pool.fill(100)
      var dues = [Instant]()
      while let slot = pool.core.expiries.first {
        dues.append(slot.pointee.due)
        pool.core.expiries.remove(slot)
      }
      let most = dues.map { first in dues.filter { $0 >= first && $0 < first + .milliseconds(100) }.count }.max() ?? 0
      #expect(most <= 10, "in 1 % of the lifetime, seed \(seed)")
    }
  }

  @Test func idleConnectionsAboveTheMinimumClose() {
    let pool = TestPool {
      $0.minSize = 1
      $0.idleTimeout = .milliseconds(100)
    }
    pool.fill(2)
    #expect(pool.core.nextDeadline(now: pool.now) == pool.now + .milliseconds(100))
    pool.pass(100)
    pool.upkeep()
    #expect(pool.core.gauges.idle == 1 && pool.core.counters.idleClosed == 1)
    pool.pass(1000)
    #expect(pool.tasks().isEmpty)
  }

  @Test func manyOverdueTicketsEndInRounds() {
    let pool = TestPool(tickets: 40) { $0.maxSize = 1 }
    let all = (0..<40).compactMap { _ in pool.wait(isDetached: true, for: 10) }
    pool.pass(10)
    for _ in 0..<3 { _ = pool.core.nextTask(now: pool.now) }
    #expect(all.allSatisfy { $0.pointee.state == .refused })
    #expect(pool.decided().count == 40)
  }

  @Test func aPoolThatNeedsNoTimeHasNothingDue() {
    let pool = TestPool()
    #expect(!pool.needsTime && !pool.needsUpkeep)
    #expect(pool.core.nextDeadline(now: pool.now) == .never)
  }
}
