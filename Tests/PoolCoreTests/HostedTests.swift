import Testing

@testable import PoolCore

/// Pools whose host opens and closes the sessions; here a caller opens what it is granted as fresh.
@Suite struct HostedTests {
  private let pool = TestPool {
    $0.isHosted = true
    $0.maxSize = 3
  }

  // MARK: Grants of fresh slots

  @Test func whoOpensASessionBorrowsIt() throws {
    let slot = try #require(pool.fresh())
    #expect(pool.core.gauges.opening == 1 && pool.core.gauges.total == 1 && pool.core.counters.gets == 0)
    pool.adopt(slot)
    #expect(pool.core.gauges.inUse == 1 && pool.core.counters.gets == 1 && pool.core.counters.opened == 1)
    #expect(pool.put(slot) && pool.lend() == slot)
  }

  @Test func oneTriesUntilTheServerIsKnownToAnswer() throws {
    let slot = try #require(pool.fresh())
    #expect(pool.fresh() == nil)
    let waiting = (0..<3).compactMap { _ in pool.wait() }
    #expect(pool.decided().isEmpty && !pool.needsUpkeep)
    pool.adopt(slot)
    // Two more have room, in their order.
    #expect(pool.decided() == Array(waiting.prefix(2)) && pool.core.gauges.opening == 2)
  }

  @Test func aFailureHoldsBackTheNext() throws {
    let slot = try #require(pool.fresh())
    let ticket = pool.wait()
    pool.core.freshFailed(slot, .transient, now: pool.now)
    #expect(pool.core.total == 0 && pool.decided().isEmpty && !pool.needsUpkeep && pool.needsTime)
    pool.pass(100)
    #expect(pool.core.nextDeadline(now: 0) <= pool.now && pool.needsUpkeep)
    #expect(pool.tasks().isEmpty && pool.decided() == [ticket].compactMap { $0 })
    #expect(pool.granted(ticket)?.pointee.state == .opening)
  }

  @Test func whatCannotSucceedIsHeldBackForLonger() throws {
    let slot = try #require(pool.fresh())
    pool.core.freshFailed(slot, .permanent, now: pool.now)
    pool.pass(4999)
    #expect(pool.fresh() == nil && pool.refuseTry() == .cannotConnect && pool.hasFailedForGood)
    pool.pass(1)
    #expect(pool.fresh() != nil)
  }

  @Test func whatIsSpoiledGoesWhenItIsPut() throws {
    let slot = try #require(pool.fresh())
    pool.adopt(slot)
    #expect(!pool.isLeaving(slot))
    pool.core.spoiled(slot)
    #expect(pool.isLeaving(slot))
    #expect(!pool.put(slot) && slot.pointee.state == .ending)
    #expect(pool.core.counters.discarded == 1 && pool.core.counters.lost == 0 && pool.core.counters.expired == 0)
  }

  @Test func whatIsSpoiledAndDiscardedIsCountedOnce() throws {
    let slot = try #require(pool.fresh())
    pool.adopt(slot)
    pool.core.spoiled(slot)
    pool.core.discardHosted(slot, now: pool.now)
    #expect(pool.core.counters.discarded == 1)
    pool.upkeep()
    let next = try #require(pool.fresh())
    pool.adopt(next)
    #expect(!pool.isLeaving(next))
  }

  @Test func nobodyIsGrantedAFreshSlotBeforeThoseWhoWait() throws {
    pool.openAll(3)
    let waiting = (0..<2).compactMap { _ in pool.wait() }
    let slot = try #require(pool.leased.first)
    pool.core.discardHosted(slot, now: pool.now)
    pool.upkeep()
    #expect(pool.fresh() == nil && pool.decided() == Array(waiting.prefix(1)))
  }

  // MARK: Objects that must go

  @Test func aStaleObjectIsGrantedAsFreshToWhoeverComes() throws {
    pool.openAll(1)
    let slot = try #require(pool.leased.first)
    #expect(pool.put(slot))
    pool.core.lost(slot, now: pool.now)
    #expect(slot.pointee.state == .stale && pool.core.gauges.closing == 1 && pool.core.counters.lost == 1)
    #expect(pool.fresh() == slot && !pool.hasCollectable && pool.core.total == 1 && !slot.pointee.isOccupied)
  }

  @Test func aSlotWhoseObjectWasClosedFirstCountsUntilTheServerHasClosedItToo() throws {
    pool.openAll(3)
    for slot in pool.leased { #expect(pool.put(slot)) }
    pool.core.reconnect(now: pool.now)
    let slot = try #require(pool.fresh())
    #expect(slot.pointee.isOccupied)
    pool.core.freshStarted(slot, now: pool.now)
    pool.core.freshVacated(slot, now: pool.now)
    #expect(pool.tasks() == [Work(kind: .close, slot: slot)] && pool.core.total == 3)
    #expect(pool.core.counters.connectFailures == 0 && pool.core.counters.discarded == 0)
    #expect(!pool.core.isOpening && pool.core.gauges.closing == 3)
    pool.core.closed(slot)
    #expect(pool.core.total == 2 && !pool.core.isAwaitingEnds)
  }

  @Test func aGrantTakenBackLeavesTheObjectWithTheHost() throws {
    pool.openAll(1)
    let slot = try #require(pool.leased.first)
    #expect(pool.put(slot))
    pool.core.lost(slot, now: pool.now)
    let ticket = try #require(pool.wait(isDetached: true))
    #expect(ticket.pointee.slot == slot && slot.pointee.state == .opening)
    pool.core.cancel(ticket, now: pool.now)
    #expect(slot.pointee.state == .stale && pool.takeNews() && pool.takeStale() == slot)
  }

  @Test func anObjectThatWasClosedIsNotClosedAgain() throws {
    pool.openAll(1)
    let slot = try #require(pool.leased.first)
    #expect(pool.put(slot))
    pool.core.lost(slot, now: pool.now)
    pool.confirm(pool.takeStale())
    #expect(slot.pointee.state == .empty)
    let ticket = try #require(pool.wait(isDetached: true))
    #expect(ticket.pointee.slot == slot)
    pool.core.cancel(ticket, now: pool.now)
    #expect(slot.pointee.state == .empty && pool.core.total == 0 && !pool.hasCollectable)
  }

  @Test func whoeverCollectsIsToldOnce() throws {
    pool.openAll(2)
    for slot in pool.leased { #expect(pool.put(slot)) }
    #expect(!pool.takeNews())
    pool.core.reconnect(now: pool.now)
    #expect(pool.takeNews() && !pool.takeNews() && pool.hasCollectable)
    pool.confirm(pool.takeStale())
    pool.confirm(pool.takeStale())
    #expect(pool.takeStale() == nil && !pool.hasCollectable && pool.core.total == 0)
  }

  @Test func anObjectCountsUntilTheHostAndTheServerHaveClosedIt() throws {
    pool.openAll(1)
    let slot = try #require(pool.leased.first)
    pool.core.reconnect(now: pool.now)
    #expect(!pool.put(slot))
    #expect(slot.pointee.state == .ending && pool.core.total == 1)
    pool.core.confirmed(slot)
    #expect(pool.tasks() == [Work(kind: .close, slot: slot)] && pool.core.total == 1)
    pool.core.closed(slot)
    #expect(pool.core.total == 0)
  }

  @Test func allThatIsTooMuchGoesInOneTurn() {
    pool.openAll(3)
    for slot in pool.leased { #expect(pool.put(slot)) }
    pool.core.resize(minSize: 0, maxSize: 1)
    #expect(pool.tasks().isEmpty && !pool.needsUpkeep)
    #expect(pool.core.gauges.idle == 1 && pool.core.counters.idleClosed == 2)
  }

  @Test func theEndOfAnOldSessionIsNotThatOfTheNewOne() throws {
    let slot = try #require(pool.fresh())
    pool.core.lost(slot, now: pool.now)
    pool.adopt(slot)
    #expect(pool.put(slot) && slot.pointee.state == .idle)
    pool.core.lost(slot, now: pool.now)
    #expect(slot.pointee.state == .stale)
  }

  // MARK: The whole pool

  @Test func aRestartOfTheServerHealsWithoutAPut() throws {
    pool.openAll(3)
    for slot in pool.leased { #expect(pool.put(slot)) }
    for index in 0..<3 { pool.core.lost(pool.slots + index, now: pool.now) }
    var waiting = (0..<3).compactMap { _ in pool.wait(isDetached: true) }
    while let ticket = waiting.first(where: { $0.pointee.state == .granted }) {
      waiting.removeAll { $0 == ticket }
      pool.adopt(try #require(pool.granted(ticket)))
    }
    #expect(waiting.isEmpty && pool.core.gauges.inUse == 3 && pool.core.total == 3 && !pool.hasCollectable)
  }

  @Test func aClosedPoolHasNothingOpened() throws {
    let ticket = try #require(pool.wait(isDetached: true))
    pool.core.shut()
    #expect(pool.refusal(ticket) == .closed && pool.isFinished)
  }

  @Test func aClosedPoolEndsWhenAllObjectsAreClosed() throws {
    pool.openAll(2)
    let slot = try #require(pool.leased.first)
    #expect(pool.put(slot))
    pool.core.shut()
    pool.confirm(pool.takeStale())
    #expect(!pool.isFinished)
    for slot in pool.leased {
      #expect(!pool.put(slot))
      pool.confirm(slot)
    }
    #expect(pool.isFinished)
  }

  @Test func aTooLateSessionOfAClosedPoolIsGivenUp() throws {
    let slot = try #require(pool.fresh())
    pool.core.shut()
    #expect(!pool.isFinished)
    pool.core.freshAbandoned(slot)
    #expect(pool.isFinished && pool.core.counters.opened == 0 && pool.core.counters.connectFailures == 0)
  }

  @Test func aChildOfForkBeginsWithNothing() {
    pool.openAll(2)
    pool.core.reconnect(now: pool.now)
    pool.core.startOver()
    for index in 0..<pool.slotCount {
      pool.slots[index].startOver()
      pool.core.add(slot: pool.slots + index)
    }
    #expect(pool.core.total == 0 && pool.core.gauges.closing == 0 && !pool.hasCollectable && !pool.takeNews())
    #expect(pool.fresh() != nil)
  }

  @Test func aPausedOrDrainedPoolGrantsNothing() {
    pool.core.pause()
    #expect(pool.fresh() == nil && pool.refuseTry() == .paused)
    let ticket = pool.wait()
    pool.core.drain()
    #expect(pool.tasks().isEmpty && !pool.needsUpkeep)
    pool.core.resume(now: pool.now)
    #expect(pool.granted(ticket)?.pointee.state == .opening)
  }
}

extension TestPool {
  var hasCollectable: Bool { core.hasCollectable }
  func takeNews() -> Bool { core.takeStaleNews() }
  func takeStale() -> SlotPointer? { core.takeStale() }

  var leased: [SlotPointer] { (0..<slotCount).map { slots + $0 }.filter { $0.pointee.state == .leased } }

  /// Must be granted at once.
  func fresh() -> SlotPointer? { core.tryAcquireFresh(now: now) }

  /// The host opens a session at once.
  func adopt(_ slot: SlotPointer) {
    core.freshStarted(slot, now: now)
    core.adopted(slot, now: now)
  }

  /// False: the host is to close the object.
  func put(_ slot: SlotPointer) -> Bool { core.releaseHosted(slot, now: now) }

  /// The host has closed the object, and the server its end.
  func confirm(_ slot: SlotPointer?) {
    if let slot { core.confirmed(slot) }
    upkeep()
  }

  /// `count` callers open a session each, and keep it.
  func openAll(_ count: Int) {
    for _ in 0..<count {
      if let slot = fresh() { adopt(slot) }
    }
  }
}
