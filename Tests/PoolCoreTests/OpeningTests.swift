import Testing

@testable import PoolCore

@Suite struct OpeningTests {
  @Test func oneAttemptFeelsItsWayUntilItHasReachedTheServer() {
    let pool = TestPool { $0.maxSize = 5 }
    for _ in 0..<5 { _ = pool.wait() }
    let first = pool.tasks()
    #expect(first.map(\.kind) == [.open])
    for item in first { pool.core.attemptReached(item.slot) }
    #expect(pool.tasks().count == 4)
  }

  @Test func connectConcurrencyIsKept() {
    let pool = TestPool {
      $0.maxSize = 5
      $0.connectConcurrency = 2
    }
    for _ in 0..<5 { _ = pool.wait() }
    for item in pool.tasks() { pool.core.attemptReached(item.slot) }
    #expect(pool.tasks().count == 1)
  }

  @Test func oneProbeAtATimeWhileTheServerIsDown() {
    let pool = TestPool { $0.maxSize = 5 }
    for _ in 0..<5 { _ = pool.wait() }
    var pauses: [Nanoseconds] = []
    for _ in 0..<6 {
      let all = pool.tasks()
      #expect(all.map(\.kind) == [.open])
      for item in all { pool.core.openFailed(item.slot, .transient, now: pool.now) }
      #expect(pool.tasks().isEmpty)
      let next = pool.core.nextDeadline(now: pool.now)
      pauses.append(next - pool.now)
      pool.now = next
    }
    for (pause, longest) in zip(pauses, [100, 200, 400, 800, 800, 800]) {
      #expect(pause <= .milliseconds(longest) && pause >= .milliseconds(longest * 9 / 10))
    }
  }

  /// A proxy without a server behind it lets in and closes.
  @Test func aServerWhoseSessionsEndAtOnceIsNotStormed() {
    let pool = TestPool { ($0.minSize, $0.maxSize) = (5, 10) }
    var opened = 0
    let end = pool.now + .milliseconds(10_000)
    while pool.now < end {
      opened += pool.openAndLose()
      pool.now = Swift.max(pool.now + .milliseconds(1), pool.core.nextDeadline(now: pool.now))
    }
    #expect(opened <= 20)
    #expect(pool.sessionsDoNotLast)
  }

  @Test func oneThatLivesOpensTheWayForOthers() {
    let pool = TestPool { ($0.minSize, $0.maxSize) = (5, 10) }
    for _ in 0..<4 {
      _ = pool.openAndLose()
      pool.pass(800)
    }
    var opened = 0
    let end = pool.now + .milliseconds(150)
    while pool.now < end {
      for item in pool.tasks() where item.kind == .open {
        pool.succeed(item.slot)
        opened += 1
      }
      pool.pass(10)
    }
    #expect(opened == 5)
    #expect(!pool.sessionsDoNotLast)
  }

  @Test func theWindowDoublesWithEachSuccess() {
    let pool = TestPool(tickets: 16) { $0.maxSize = 16 }
    for _ in 0..<16 { _ = pool.wait() }
    for item in pool.tasks() { pool.core.openFailed(item.slot, .transient, now: pool.now) }
    pool.pass(100)
    for expected in [1, 2, 4, 8] {
      let all = pool.tasks()
      #expect(all.count == expected)
      for item in all.prefix(1) { pool.succeed(item.slot) }
      for item in all.dropFirst() { pool.core.openAbandoned(item.slot) }
    }
  }

  @Test func whatWillNotGoAwayIsTriedAgainAfterFiveSeconds() {
    let pool = TestPool()
    _ = pool.wait()
    for item in pool.tasks() { pool.core.openFailed(item.slot, .permanent, now: pool.now) }
    #expect(pool.hasFailedForGood)
    #expect(pool.core.nextDeadline(now: pool.now) == pool.now + .milliseconds(5000))
    pool.core.reconnect(now: pool.now)
    #expect(!pool.hasFailedForGood && pool.tasks().map(\.kind) == [.open])
  }

  @Test func anAttemptThatReachesNoServerIsGivenUp() {
    let pool = TestPool()
    _ = pool.wait()
    let slot = pool.tasks()[0].slot
    let number = slot.pointee.attempt
    pool.start(slot)
    pool.pass(10_249)
    #expect(pool.tasks().isEmpty)
    pool.pass(1)
    #expect(pool.tasks().first?.kind == .gaveUp)
    #expect(slot.pointee.attempt != number && pool.core.gauges.stuck == 1)
    pool.core.stuckReturned()
    #expect(pool.core.gauges.stuck == 0)
  }

  @Test func anAttemptThatWasNotStartedIsNotGivenUp() {
    let pool = TestPool()
    _ = pool.wait()
    _ = pool.tasks()
    pool.pass(60_000)
    #expect(pool.tasks().isEmpty)
  }

  @Test func atMostSixteenAttemptsHaveReachedNoServer() {
    let pool = TestPool(tickets: 40) { $0.maxSize = 40 }
    for _ in 0..<40 { _ = pool.wait() }
    for item in pool.tasks() { pool.succeed(item.slot) }
    for item in pool.tasks() { pool.core.attemptReached(item.slot) }
    var unreached = 0
    for _ in 0..<6 {
      pool.core.opening.first.map { pool.succeed($0) }
      unreached += pool.tasks().count
    }
    #expect(unreached <= 16 && pool.core.unreached <= 16)
  }

  /// With the server full, a session that goes is not replaced unasked: others need the room more.
  @Test func nothingIsReplacedUnaskedAtAServerThatIsFull() {
    let pool = TestPool()
    pool.fill(1)
    guard let slot = pool.lend() else { return }
    let ticket = pool.wait(for: 5)
    for item in pool.tasks() { pool.core.openFailed(item.slot, .tooManyConnections, now: pool.now) }
    pool.pass(5)
    if let ticket { _ = pool.core.timeOut(ticket, now: pool.now) }
    pool.core.release(slot, .discarded, now: pool.now)
    #expect(pool.core.owed == 0)
    pool.pass(1000)
    pool.upkeep()
    #expect(pool.core.gauges.total == 0 && !pool.needsUpkeep)
  }

  /// A corrected password, then `pool_reconnect`: the refusal of the old one comes late.
  @Test func aFailureFromBeforeAReconnectDelaysNothing() {
    let pool = TestPool()
    let ticket = pool.wait()
    let late = pool.tasks()
    pool.core.reconnect(now: pool.now)
    for item in late { pool.core.openFailed(item.slot, .permanent, now: pool.now) }
    #expect(!pool.hasFailedForGood && pool.core.counters.connectFailures == 1)
    pool.upkeep()
    #expect(pool.granted(ticket) != nil)
  }

  @Test func aFailureLeavesTheCallerInTheQueue() {
    let pool = TestPool()
    let ticket = pool.wait()
    for item in pool.tasks() { pool.core.openFailed(item.slot, .tooManyConnections, now: pool.now) }
    #expect(ticket?.pointee.state == .waiting)
    pool.pass(1000)
    pool.upkeep()
    #expect(pool.granted(ticket) != nil)
  }

  @Test func anAttemptOutlivesItsCallerAndFeedsThePool() {
    let pool = TestPool()
    let ticket = pool.wait(for: 5)
    let all = pool.tasks()
    pool.pass(5)
    if let ticket { _ = pool.core.timeOut(ticket, now: pool.now) }
    for item in all { pool.succeed(item.slot) }
    #expect(pool.core.gauges.idle == 1)
  }

  @Test func theMinimumIsOpenedUnasked() {
    let pool = TestPool { $0.minSize = 2 }
    #expect(pool.needsUpkeep && !pool.hasMinimum)
    pool.upkeep()
    #expect(pool.hasMinimum && pool.core.gauges.idle == 2)
  }

  /// With nothing open and nobody waiting, the pause after a failure had no end.
  @Test func timeIsKeptForAMinimumThatCouldNotBeOpened() {
    let pool = TestPool { $0.minSize = 1 }
    for item in pool.tasks() { pool.core.openFailed(item.slot, .transient, now: pool.now) }
    #expect(pool.core.gauges.total == 0)
    #expect(pool.needsTime && pool.core.nextDeadline(now: pool.now) != .never)
  }

  @Test func aLostIdleConnectionIsNotLent() {
    let pool = TestPool()
    pool.fill(1)
    pool.core.lost(pool.slots, now: pool.now)
    #expect(pool.lend() == nil)
    #expect(pool.core.counters.lost == 1)
  }

  @Test func aLostLoanIsClosedWhenItIsPutBack() {
    let pool = TestPool()
    pool.fill(1)
    let slot = pool.lend()
    pool.core.lost(pool.slots, now: pool.now)
    pool.release(slot)
    #expect(pool.core.gauges.closing == 1 && pool.core.gauges.idle == 0)
  }
}
