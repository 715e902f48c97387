import Testing

@testable import PoolCore

/// Three callers of a hosted pool with four operations each, on one or two slots: every interleaving, with the
/// invariants after each step.
@Suite struct HostedExhaustiveTests {
  @Test(arguments: [1, 2], [Interleavings.UpkeepMode.prompt, .late])
  func everyInterleavingKeepsTheInvariants(slots: Int, upkeep: Interleavings.UpkeepMode) {
    for programs in HostedInterleavings.sets {
      let model = HostedInterleavings(slots: slots, upkeep: upkeep, programs: programs)
      model.explore()
      // 12! / (4! * 4! * 4!) orders.
      #expect(model.paths == 34650 || model.failure != nil)
      if let failure = model.failure {
        Issue.record("\(failure) in \(programs) after callers \(model.failedPath)")
        return
      }
    }
  }
}

final class HostedInterleavings {
  /// `collect`: of a ticket. `open`, `fail`: of what was granted as fresh; a loan is discarded by `fail`. `kill`: what is
  /// idle is lost. `vacate`: of what was granted as fresh, only the old object is closed. `fetch`: an object to close.
  enum Operation { case wait, start, collect, giveUp, cancel, open, vacate, fail, put, kill, fetch, confirm }

  static let sets: [[[Operation]]] = [
    [[.wait, .open, .put, .kill], [.wait, .collect, .open, .put], [.start, .cancel, .fetch, .confirm]],
    [[.wait, .open, .put, .kill], [.start, .collect, .open, .fail], [.start, .cancel, .wait, .open]],
    [[.wait, .open, .put, .kill], [.wait, .collect, .fail, .giveUp], [.fetch, .confirm, .start, .cancel]],
    [[.wait, .open, .put, .kill], [.wait, .collect, .vacate, .wait], [.start, .collect, .vacate, .wait]],
    [[.wait, .fail, .wait, .open], [.start, .giveUp, .start, .collect], [.wait, .open, .put, .confirm]],
  ]

  private struct Caller {
    var next = 0
    var ticket: TicketPointer?
    /// Opening or leased.
    var slot: SlotPointer?
    /// The caller was told to close its object.
    var ending: SlotPointer?
  }

  private struct State {
    var bytes: [UInt8]
    var callers: [Caller]
    var line: [TicketPointer]
    var objects: [Bool]
    var now: Instant
  }

  private let pool: TestPool
  private let upkeep: Interleavings.UpkeepMode
  private let programs: [[Operation]]
  private var callers = [Caller](repeating: Caller(), count: 3)
  private var line: [TicketPointer] = []
  /// Whether the host has an object for the slot.
  private var objects: [Bool]
  private var path: [Int] = []
  private(set) var paths = 0
  private(set) var failure: String?
  private(set) var failedPath: [Int] = []

  init(slots: Int, upkeep: Interleavings.UpkeepMode, programs: [[Operation]]) {
    pool = TestPool(tickets: 3) {
      $0.isHosted = true
      $0.maxSize = slots
    }
    objects = [Bool](repeating: false, count: slots)
    self.upkeep = upkeep
    self.programs = programs
  }

  func explore() {
    guard failure == nil else { return }
    var isLeaf = true
    let before = State(bytes: pool.save(), callers: callers, line: line, objects: objects, now: pool.now)
    for caller in 0..<3 where callers[caller].next < programs[caller].count && failure == nil {
      isLeaf = false
      path.append(caller)
      perform(caller)
      check()
      explore()
      path.removeLast()
      restore(before)
    }
    if isLeaf {
      paths += 1
      windUp()
      restore(before)
    }
  }

  private func restore(_ state: State) {
    pool.restore(state.bytes)
    callers = state.callers
    line = state.line
    objects = state.objects
    pool.now = state.now
  }

  private func fail(_ what: String) {
    guard failure == nil else { return }
    failure = what
    failedPath = path
  }

  // MARK: Steps

  private func perform(_ index: Int) {
    let operation = programs[index][callers[index].next]
    callers[index].next += 1
    // Two steps are longer than the pause after one failure.
    pool.pass(60)
    switch operation {
    case .wait: if isFree(index) { acquire(index, isDetached: false) }
    case .start: if isFree(index) { acquire(index, isDetached: true) }
    case .collect: if let ticket = callers[index].ticket { end(index, pool.core.collect(ticket, now: pool.now)) }
    case .giveUp:
      if let ticket = callers[index].ticket {
        line.removeAll { $0 == ticket }
        end(index, pool.core.timeOut(ticket, now: pool.now))
      }
    case .cancel: cancel(index)
    case .open: open(index)
    case .vacate: vacate(index)
    case .fail: giveBackUnfit(index)
    case .put: put(index)
    case .kill: kill()
    case .fetch: if callers[index].ending == nil { callers[index].ending = pool.core.takeStale() }
    case .confirm: confirm(index)
    }
    hear()
    if upkeep == .prompt { runUpkeep() }
  }

  private func isFree(_ index: Int) -> Bool { callers[index].ticket == nil && callers[index].slot == nil }

  private func acquire(_ index: Int, isDetached: Bool) {
    switch pool.core.acquire(deadline: .never, isDetached: isDetached, now: pool.now) {
    case .granted(let slot):
      if !line.isEmpty { fail("overtook a waiter") }
      takes(index, slot)
    case .waiting(let ticket):
      callers[index].ticket = ticket
      if ticket.pointee.state == .granted, !line.isEmpty { fail("overtook a waiter") }
      if ticket.pointee.state == .waiting { line.append(ticket) }
    case .refused, .needsTicket: fail("refused")
    }
  }

  private func takes(_ index: Int, _ slot: SlotPointer) {
    callers[index].slot = slot
    guard slot.pointee.state == .opening else { return }
    pool.core.freshStarted(slot, now: pool.now)
    objects[number(slot)] = false
  }

  private func end(_ index: Int, _ collected: Collected) {
    switch collected {
    case .pending: return
    case .granted(let slot): takes(index, slot)
    case .refused(let refusal): if refusal != .timedOut && refusal != .cannotConnect { fail("\(refusal)") }
    }
    callers[index].ticket = nil
  }

  private func cancel(_ index: Int) {
    guard let ticket = callers[index].ticket else { return }
    line.removeAll { $0 == ticket }
    pool.core.cancel(ticket, now: pool.now)
    callers[index].ticket = nil
  }

  private func open(_ index: Int) {
    guard let slot = callers[index].slot, slot.pointee.state == .opening else { return }
    objects[number(slot)] = true
    pool.core.adopted(slot, now: pool.now)
  }

  private func vacate(_ index: Int) {
    guard let slot = callers[index].slot, slot.pointee.isOccupied else { return giveBackUnfit(index) }
    callers[index].slot = nil
    pool.core.freshVacated(slot, now: pool.now)
  }

  private func giveBackUnfit(_ index: Int) {
    guard let slot = callers[index].slot else { return }
    callers[index].slot = nil
    objects[number(slot)] = false
    if slot.pointee.state == .opening {
      pool.core.freshFailed(slot, .transient, now: pool.now)
    } else {
      pool.core.discardHosted(slot, now: pool.now)
    }
  }

  private func put(_ index: Int) {
    guard let slot = callers[index].slot, slot.pointee.state == .leased else { return }
    callers[index].slot = nil
    if !pool.core.releaseHosted(slot, now: pool.now) { callers[index].ending = slot }
  }

  private func kill() {
    for index in 0..<pool.slotCount where pool.slots[index].state == .idle {
      pool.core.lost(pool.slots + index, now: pool.now)
    }
  }

  private func confirm(_ index: Int) {
    guard let slot = callers[index].ending else { return }
    callers[index].ending = nil
    objects[number(slot)] = false
    pool.core.confirmed(slot)
  }

  /// Those who were decided about must be the first in line, one after the other.
  private func hear() {
    while let ticket = pool.core.takeDecided() {
      guard ticket.pointee.state == .granted else {
        fail("decided and \(ticket.pointee.state)")
        return
      }
      guard let place = line.firstIndex(of: ticket) else { continue }
      if place != 0 { fail("granted out of turn") }
      line.remove(at: place)
    }
  }

  private func runUpkeep() {
    for work in pool.tasks() {
      if work.kind == .close { pool.core.closed(work.slot) } else { fail("\(work.kind) in a hosted pool") }
    }
    if !pool.tasks().isEmpty { fail("upkeep has no end") }
    hear()
  }

  // MARK: Checks

  private func check() {
    let gauges = pool.core.gauges
    let going = count(.closing) + count(.stale) + count(.ending)
    if pool.core.counters.internalErrors != 0 { fail("a broken invariant") }
    if gauges.total != pool.slotCount - count(.empty) { fail("total") }
    if gauges.idle != count(.idle) || gauges.inUse != count(.leased) { fail("idle or in use") }
    if gauges.opening != count(.opening) || pool.core.stale.count != count(.stale) { fail("a list") }
    if gauges.closing != going { fail("closing") }
    if gauges.waiting != line.count { fail("\(gauges.waiting) wait, not \(line.count)") }
    if gauges.waiting > 0, gauges.idle > 0 { fail("somebody waits beside an idle connection") }
    if count(.ending) != callers.count(where: { $0.ending != nil }) { fail("nobody closes what ends") }
    for index in 0..<pool.slotCount {
      let state = pool.slots[index].state
      if objects[index], state == .empty { fail("an object does not count") }
      if !objects[index], state == .stale || state == .idle || state == .leased { fail("\(state) without an object") }
    }
    checkOwners(gauges)
    if upkeep == .prompt { checkNobodyWaitsInVain(gauges) }
  }

  private func count(_ state: SlotState) -> Int {
    var count = 0
    for index in 0..<pool.slotCount where pool.slots[index].state == state { count += 1 }
    return count
  }

  /// A session has one owner: a caller, or a ticket that was granted.
  private func checkOwners(_ gauges: Gauges) {
    var owned: [SlotPointer] = []
    for caller in callers {
      let granted = caller.ticket?.pointee.state == .granted ? caller.ticket?.pointee.slot : nil
      if let slot = caller.slot ?? granted {
        if owned.contains(slot) { fail("two owners") }
        owned.append(slot)
      }
    }
    if owned.count != gauges.inUse + gauges.opening { fail("an owner of nothing") }
    if owned.contains(where: { $0.pointee.state != .leased && $0.pointee.state != .opening }) { fail("nothing owned") }
  }

  private func checkNobodyWaitsInVain(_ gauges: Gauges) {
    guard gauges.waiting > 0, gauges.opening == 0, pool.now >= pool.core.health.retryAt else { return }
    if gauges.total < pool.slotCount || count(.stale) > 0 { fail("somebody waits though there is room") }
  }

  private func number(_ slot: SlotPointer) -> Int { slot - pool.slots }

  /// All callers leave, and what is stale is collected: nothing may be left behind.
  private func windUp() {
    for index in 0..<3 {
      cancel(index)
      put(index)
      giveBackUnfit(index)
      confirm(index)
      hear()
    }
    while let slot = pool.core.takeStale() {
      callers[0].ending = slot
      confirm(0)
    }
    runUpkeep()
    check()
    let gauges = pool.core.gauges
    if gauges.idle != gauges.total || gauges.waiting != 0 { fail("something is left behind") }
    if pool.core.freeTickets.count != pool.ticketCount || pool.core.free.count + gauges.total != pool.slotCount {
      fail("a ticket or slot was lost")
    }
  }
}
