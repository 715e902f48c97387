import Testing

@testable import PoolCore

/// Connections that expire while they are in use.
@Suite struct ExpiryTests {
  enum Use: CaseIterable { case lent, resetting, checking }

  private func expiring(_ adjust: (inout Settings) -> Void = { _ in }) -> TestPool {
    let pool = TestPool {
      $0.maxLifetime = .milliseconds(1000)
      $0.lifetimeJitterPercent = 0
      adjust(&$0)
    }
    pool.fill(1)
    return pool
  }

  /// The first slot in this use, with its query under way, at the moment it expires.
  private func inUse(_ use: Use) -> (TestPool, SlotPointer) {
    let pool = expiring { $0.check = .ping }
    let slot = pool.slots
    switch use {
    case .lent:
      pool.pass(501)
      #expect(pool.core.tryAcquire(now: pool.now, isTry: true) == slot)
      pool.pass(499)
    case .resetting:
      let lent = pool.lend()
      pool.pass(999)
      pool.release(lent, .inTransaction)
      _ = pool.tasks()
      pool.pass(1)
    case .checking:
      pool.pass(999)
      let ticket = pool.wait()
      _ = pool.tasks()
      if let ticket { pool.core.cancel(ticket, now: pool.now) }
      pool.pass(1)
    }
    return (pool, slot)
  }

  private func comesFree(_ pool: TestPool, _ slot: SlotPointer, _ use: Use) {
    if use == .lent { pool.release(slot) } else { pool.core.backgroundEnded(slot, succeeded: true, now: pool.now) }
  }

  @Test(arguments: Use.allCases) func itIsReplacedAtOnceAndStaysUntilThen(use: Use) {
    let (pool, slot) = inUse(use)
    let all = pool.tasks()
    #expect(all.map(\.kind) == [.open])
    pool.pass(99)
    comesFree(pool, slot, use)
    #expect(pool.core.gauges.idle == 1 && pool.lend() == slot)
    for item in all { pool.succeed(item.slot) }
    pool.release(slot)
    #expect(slot.pointee.state == .closing && pool.core.gauges.idle == 1)
    #expect(pool.tasks().map(\.kind) == [.close])
    #expect(pool.core.counters.expired == 1 && pool.core.owed == 0)
  }

  @Test(arguments: Use.allCases) func itGoesWhenItComesFreeAfterItsGrace(use: Use) {
    let (pool, slot) = inUse(use)
    _ = pool.tasks()
    pool.pass(100)
    _ = pool.tasks()
    comesFree(pool, slot, use)
    #expect(slot.pointee.state == .closing && pool.core.owed == 0)
  }

  @Test(arguments: Use.allCases) func itGoesAtOnceWhenItsReplacementIsThere(use: Use) {
    let (pool, slot) = inUse(use)
    for item in pool.tasks() { pool.succeed(item.slot) }
    comesFree(pool, slot, use)
    #expect(slot.pointee.state == .closing && pool.core.gauges.idle == 1 && pool.core.owed == 0)
  }

  @Test func whatIsPutBackInItsGraceGoesAtItsEnd() {
    let (pool, slot) = inUse(.lent)
    _ = pool.tasks()
    pool.release(slot)
    pool.pass(100)
    #expect(pool.tasks().isEmpty && slot.pointee.state == .retiring)
    #expect(pool.lend() == nil)
  }

  @Test func whatIsPutBackInItsGraceServesThoseWhoWait() {
    let (pool, slot) = inUse(.lent)
    _ = pool.tasks()
    let ticket = pool.wait()
    pool.release(slot)
    #expect(pool.granted(ticket) == slot)
  }

  @Test func aLostOneHasNoGrace() {
    let (pool, slot) = inUse(.lent)
    _ = pool.tasks()
    pool.core.lost(slot, now: pool.now)
    pool.release(slot)
    #expect(slot.pointee.state == .closing && pool.core.gauges.idle == 0)
  }

  /// Without a replacement on its way there is no gap to be bridged.
  @Test func withoutRoomItGoesWhenItIsPutBack() {
    let pool = expiring { $0.maxSize = 1 }
    let slot = pool.lend()
    pool.pass(1000)
    #expect(pool.tasks().isEmpty)
    #expect(pool.outlived == [slot], "the runtime must not pass it on")
    pool.release(slot)
    #expect(slot?.pointee.state == .closing && pool.core.owed == 1)
  }

  /// While its replacement is being opened it may be passed on, then no more.
  @Test func whatIsLentBeyondItsGraceIsTold() {
    let (pool, slot) = inUse(.lent)
    _ = pool.tasks()
    #expect(pool.outlived.isEmpty)
    pool.pass(101)
    _ = pool.tasks()
    #expect(pool.outlived == [slot])
  }

  @Test func itIsReplacedAfterAllWhenItsReplacementFailed() {
    let (pool, slot) = inUse(.lent)
    for item in pool.tasks() { pool.core.openFailed(item.slot, .transient, now: pool.now) }
    pool.release(slot)
    #expect(slot.pointee.state == .closing && pool.core.owed == 1)
  }

  /// A loan that expired had a replacement opened in a pool that opens nothing any more.
  @Test(arguments: [true, false]) func aPoolThatEndsReplacesNothing(isClosed: Bool) {
    let pool = expiring()
    let slot = pool.lend()
    if isClosed { pool.core.shut() } else { pool.core.drain() }
    pool.pass(1000)
    #expect(pool.tasks().isEmpty)
    pool.release(slot)
    pool.upkeep()
    #expect(pool.core.gauges.total == 0)
  }
}
