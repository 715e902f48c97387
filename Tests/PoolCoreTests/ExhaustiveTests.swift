import Testing

@testable import PoolCore

/// Three callers with four operations each, on one or two slots: every interleaving, with the invariants after each step.
@Suite struct ExhaustiveTests {
  @Test(arguments: [1, 2], [Interleavings.UpkeepMode.prompt, .late])
  func everyInterleavingKeepsTheInvariants(slots: Int, upkeep: Interleavings.UpkeepMode) {
    let programs = Interleavings.programs
    var paths = 0
    for first in programs.indices {
      for second in first..<programs.count - 1 {
        for third in second + 1..<programs.count {
          let model = Interleavings(
            slots: slots, upkeep: upkeep, check: (first + third) % 2 == 0 ? .watch : .ping,
            programs: [programs[first], programs[second], programs[third]])
          model.explore()
          paths += model.paths
          if let failure = model.failure {
            Issue.record("\(failure) in \(first), \(second), \(third) after callers \(model.failedPath)")
            return
          }
        }
      }
    }
    // 12! / (4! * 4! * 4!) orders for each set of programs.
    #expect(paths % 34650 == 0 && paths > 0)
  }
}

final class Interleavings {
  enum UpkeepMode { case prompt, late }
  enum Operation { case wait, start, tryGet, collect, giveUp, cancel, put, putDirty, putBroken, upkeep }

  static let programs: [[Operation]] = [
    [.wait, .giveUp, .put, .wait],
    [.wait, .collect, .putDirty, .giveUp],
    [.start, .cancel, .wait, .giveUp],
    [.start, .collect, .putBroken, .upkeep],
  ]

  private struct Caller {
    var next = 0
    var ticket: TicketPointer?
    var slot: SlotPointer?
  }

  /// Everything that can change; the core and its nodes are plain bytes.
  private struct State {
    var bytes: [UInt8]
    var callers: [Caller]
    var line: [TicketPointer]
    var now: Instant
  }

  private let pool: TestPool
  private let upkeep: UpkeepMode
  private let programs: [[Operation]]
  private var callers = [Caller](repeating: Caller(), count: 3)
  private var line: [TicketPointer] = []
  private var path: [Int] = []
  private(set) var paths = 0
  private(set) var failure: String?
  private(set) var failedPath: [Int] = []

  init(slots: Int, upkeep: UpkeepMode, check: CheckMode, programs: [[Operation]]) {
    pool = TestPool(tickets: 3) {
      $0.maxSize = slots
      $0.check = check
      $0.checkAfterIdle = .milliseconds(2)
    }
    self.upkeep = upkeep
    self.programs = programs
  }

  func explore() {
    guard failure == nil else { return }
    var isLeaf = true
    let before = save()
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

  private func fail(_ what: String) {
    guard failure == nil else { return }
    failure = what
    failedPath = path
  }

  // MARK: Steps

  private func perform(_ index: Int) {
    let operation = programs[index][callers[index].next]
    callers[index].next += 1
    pool.pass(1)
    switch operation {
    case .wait: if isFree(index) { acquire(index, isDetached: false) }
    case .start: if isFree(index) { acquire(index, isDetached: true) }
    case .tryGet: if isFree(index) { callers[index].slot = pool.core.tryAcquire(now: pool.now, isTry: true) }
    case .collect: if let ticket = callers[index].ticket { end(index, pool.core.collect(ticket, now: pool.now)) }
    case .giveUp:
      if let ticket = callers[index].ticket {
        line.removeAll { $0 == ticket }
        end(index, pool.core.timeOut(ticket, now: pool.now))
      }
    case .cancel:
      if let ticket = callers[index].ticket {
        line.removeAll { $0 == ticket }
        pool.core.cancel(ticket, now: pool.now)
        callers[index].ticket = nil
      }
    case .put: release(index, .idle)
    case .putDirty: release(index, .inTransaction)
    case .putBroken: release(index, .broken)
    case .upkeep: runUpkeep()
    }
    hear()
    if upkeep == .prompt { runUpkeep() }
  }

  private func isFree(_ index: Int) -> Bool { callers[index].ticket == nil && callers[index].slot == nil }

  private func acquire(_ index: Int, isDetached: Bool) {
    switch pool.core.acquire(deadline: .never, isDetached: isDetached, now: pool.now) {
    case .granted(let slot):
      if !line.isEmpty { fail("overtook a waiter") }
      callers[index].slot = slot
    case .waiting(let ticket):
      callers[index].ticket = ticket
      if ticket.pointee.state == .waiting { line.append(ticket) }
    case .refused, .needsTicket: fail("refused")
    }
  }

  private func end(_ index: Int, _ collected: Collected) {
    switch collected {
    case .pending: return
    case .granted(let slot): callers[index].slot = slot
    case .refused(let refusal): if refusal != .timedOut && refusal != .cannotConnect { fail("\(refusal)") }
    }
    callers[index].ticket = nil
  }

  private func release(_ index: Int, _ condition: Condition) {
    guard let slot = callers[index].slot else { return }
    callers[index].slot = nil
    pool.core.release(slot, condition, now: pool.now)
  }

  /// Those who were decided about must be the first in line, one after the other.
  private func hear() {
    while let ticket = pool.core.takeDecided() {
      if ticket.pointee.state != .granted { fail("decided and \(ticket.pointee.state)") }
      if let place = line.firstIndex(of: ticket) {
        if place != 0 { fail("granted out of turn") }
        line.remove(at: place)
      }
    }
  }

  private func runUpkeep() {
    for _ in 0..<100 {
      let all = pool.tasks()
      hear()
      if all.isEmpty { return }
      for work in all {
        switch work.kind {
        case .open:
          pool.start(work.slot)
          pool.succeed(work.slot)
        case .reset, .check: pool.core.backgroundEnded(work.slot, succeeded: true, now: pool.now)
        case .close: pool.core.closed(work.slot)
        case .forget, .overrun, .gaveUp: break
        }
        hear()
      }
    }
    fail("upkeep has no end")
  }

  // MARK: Checks

  private func check() {
    let gauges = pool.core.gauges
    if pool.core.counters.internalErrors != 0 { fail("a broken invariant") }
    if gauges.total != pool.slotCount - count(.empty) { fail("total") }
    if gauges.idle != count(.idle) || gauges.inUse != count(.leased) { fail("gauges") }
    if gauges.closing != count(.closing) || gauges.opening != count(.opening) { fail("gauges") }
    if gauges.waiting != line.count { fail("\(gauges.waiting) wait, not \(line.count)") }
    checkOwners(gauges.inUse)
    if gauges.waiting > 0, gauges.idle > 0, count(.checking) < gauges.waiting {
      fail("somebody waits beside an idle connection")
    }
    if upkeep == .prompt, gauges.waiting > 0, gauges.inUse < pool.slotCount {
      fail("somebody waits though there is room")
    }
  }

  private func count(_ state: SlotState) -> Int {
    var count = 0
    for index in 0..<pool.slotCount where pool.slots[index].state == state { count += 1 }
    return count
  }

  /// A connection has one owner: a caller, or a ticket that was granted.
  private func checkOwners(_ inUse: Int) {
    let granted = callers.compactMap { $0.ticket?.pointee.state == .granted ? $0.ticket?.pointee.slot : nil }
    let owned = callers.compactMap(\.slot) + granted
    if Set(owned).count != owned.count { fail("two owners") }
    if owned.count != inUse || owned.contains(where: { $0.pointee.state != .leased }) { fail("an owner of nothing") }
  }

  /// All callers leave: nothing may be left behind.
  private func windUp() {
    for index in 0..<3 {
      if let ticket = callers[index].ticket {
        line.removeAll { $0 == ticket }
        pool.core.cancel(ticket, now: pool.now)
        callers[index].ticket = nil
      }
      release(index, .idle)
      hear()
    }
    runUpkeep()
    check()
    let gauges = pool.core.gauges
    if gauges.idle != gauges.total || gauges.waiting != 0 { fail("something is left behind") }
    if pool.core.freeTickets.count != pool.ticketCount || pool.core.free.count + gauges.total != pool.slotCount {
      fail("a ticket or slot was lost")
    }
  }

  // MARK: State

  private func save() -> State { State(bytes: pool.save(), callers: callers, line: line, now: pool.now) }

  private func restore(_ state: State) {
    pool.restore(state.bytes)
    callers = state.callers
    line = state.line
    pool.now = state.now
  }
}
