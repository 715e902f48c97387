import Testing

@testable import PoolCore

@Suite struct HostedWorkersTests {
  private func makePool(_ adjust: (inout Settings) -> Void = { _ in }) -> TestPool {
    TestPool {
      ($0.isHosted, $0.hasWorkers, $0.reset) = (true, true, .none)
      adjust(&$0)
    }
  }

  /// Offers and opens until nothing more is wanted.
  private func work(_ pool: TestPool) {
    while true {
      _ = pool.tasks()
      guard let slot = pool.core.takeOffer() else { return }
      pool.core.freshStarted(slot, now: pool.now)
      pool.core.adopted(slot, now: pool.now)
    }
  }

  @Test func whatAWorkerOpensGoesToTheOldestWaiter() {
    let pool = makePool()
    let first = pool.wait()
    let second = pool.wait()
    _ = pool.tasks()
    let slot = pool.core.takeOffer()
    #expect(slot != nil)
    guard let slot else { return }
    pool.core.freshStarted(slot, now: pool.now)
    pool.core.adopted(slot, now: pool.now)
    #expect(pool.granted(first) == slot)
    #expect(pool.isPending(second))
  }

  @Test func callersAreNeverGrantedAFreshSlot() {
    let pool = makePool()
    #expect(pool.core.tryAcquireFresh(now: pool.now) == nil)
    let ticket = pool.wait()
    _ = pool.tasks()
    #expect(pool.isPending(ticket))
  }

  @Test func minSizeIsKeptOpen() {
    let pool = makePool { ($0.minSize, $0.maxSize) = (2, 4) }
    work(pool)
    #expect(pool.core.gauges.idle == 2)
  }

  @Test func anExpiredOneIsReplaced() {
    let pool = makePool { ($0.maxSize, $0.maxLifetime, $0.lifetimeJitterPercent) = (1, .milliseconds(1000), 0) }
    _ = pool.wait()
    work(pool)
    guard let ticket = pool.decided().first, let lent = pool.granted(ticket) else {
      Issue.record("nothing was lent")
      return
    }
    _ = pool.core.releaseHosted(lent, now: pool.now)
    pool.pass(1000)
    work(pool)
    #expect(pool.core.gauges.idle == 1)
    #expect(pool.core.counters.opened == 2)
  }

  @Test func anOfferNobodyFetchedIsWithdrawnAtClose() {
    let pool = makePool { $0.minSize = 2 }
    _ = pool.tasks()
    #expect(pool.core.gauges.opening == 1)
    pool.core.shut()
    #expect(pool.core.gauges.total == 0)
    #expect(pool.core.takeOffer() == nil)
    #expect(pool.isFinished)
  }

  @Test func aWithdrawnOfferOfAnOldObjectIsToBeClosed() {
    let pool = makePool { $0.maxSize = 1 }
    _ = pool.wait()
    work(pool)
    guard let ticket = pool.decided().first, let lent = pool.granted(ticket) else {
      Issue.record("nothing was lent")
      return
    }
    _ = pool.core.releaseHosted(lent, now: pool.now)
    pool.core.reconnect(now: pool.now)
    _ = pool.tasks()
    #expect(pool.core.gauges.opening == 1)
    pool.core.drain()
    #expect(pool.core.takeStale() == lent)
  }
}
