@testable import PoolCore

/// A core with its memory and a clock that the test moves. `upkeep()` performs tasks as a server that is well does.
final class TestPool {
  let slots: UnsafeMutablePointer<Slot>
  let tickets: UnsafeMutablePointer<Ticket>
  let expiries: UnsafeMutablePointer<SlotPointer>
  let deadlines: UnsafeMutablePointer<TicketPointer>
  let slotCount: Int
  let ticketCount: Int
  var core: PoolCore
  var now: Instant = .milliseconds(1000)
  /// Lent ones of which the core has told that they outlived their lifetime.
  var outlived: [SlotPointer] = []

  init(tickets ticketCount: Int = 8, slots extra: Int = 0, _ adjust: (inout Settings) -> Void = { _ in }) {
    var settings = Settings()
    settings.maxSize = 2
    settings.maxLifetime = .never
    settings.idleTimeout = .never
    adjust(&settings)
    slotCount = Swift.max(settings.maxSize, extra)
    self.ticketCount = ticketCount
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: Slot(), count: slotCount)
    tickets = .allocate(capacity: Swift.max(1, ticketCount))
    tickets.initialize(repeating: Ticket(), count: ticketCount)
    expiries = .allocate(capacity: slotCount)
    deadlines = .allocate(capacity: Swift.max(1, ticketCount))
    core = PoolCore(settings: settings)
    _ = core.adoptExpiries(expiries, capacity: slotCount)
    _ = core.adoptDeadlines(deadlines, capacity: ticketCount)
    for index in 0..<slotCount { core.add(slot: slots + index) }
    for index in 0..<ticketCount { core.add(ticket: tickets + index) }
  }

  deinit {
    slots.deallocate()
    tickets.deallocate()
    expiries.deallocate()
    deadlines.deallocate()
  }

  // `#expect` copies what it looks into, and a core cannot be copied.
  var isFinished: Bool { core.isFinished }
  var isOrdinary: Bool { core.isOrdinary }
  var isPaused: Bool { core.isPaused }
  var hasMinimum: Bool { core.hasMinimum }
  var hasFailedForGood: Bool { core.failedForGood }
  var sessionsDoNotLast: Bool { core.sessionsDoNotLast }
  var needsTime: Bool { core.needsTime }
  var needsUpkeep: Bool { core.needsUpkeep(now: now) }
  func isLeaving(_ slot: SlotPointer) -> Bool { core.isLeaving(slot) }
  func refuseTry() -> Refusal { core.refuseTry() }
  func refuseWaiting(limit: Int) -> Bool { core.refuseWaiting(limit: limit) }
  func endCheck(_ ticket: TicketPointer) -> Bool { core.endCheck(ticket, now: now) }

  func pass(_ milliseconds: Int) { now += .milliseconds(milliseconds) }

  // MARK: Callers

  /// Must be granted at once.
  func lend() -> SlotPointer? { core.tryAcquire(now: now) }

  func wait(isDetached: Bool = false, isTry: Bool = false, for milliseconds: Int? = nil) -> TicketPointer? {
    let deadline = milliseconds.map { now + .milliseconds($0) } ?? .never
    switch core.acquire(deadline: deadline, isDetached: isDetached, isTry: isTry, now: now) {
    case .waiting(let ticket): return ticket
    case .granted, .refused, .needsTicket: return nil
    }
  }

  func release(_ slot: SlotPointer?, _ condition: Condition = .idle) {
    if let slot { core.release(slot, condition, now: now) }
  }

  func decided() -> [TicketPointer] {
    var all: [TicketPointer] = []
    while let ticket = core.takeDecided() { all.append(ticket) }
    return all
  }

  func granted(_ ticket: TicketPointer?) -> SlotPointer? {
    guard let ticket, case .granted(let slot) = core.collect(ticket, now: now) else { return nil }
    return slot
  }

  func isPending(_ ticket: TicketPointer?) -> Bool {
    guard let ticket, case .pending = core.collect(ticket, now: now) else { return false }
    return true
  }

  func timedOut(_ ticket: TicketPointer?) -> Refusal? {
    guard let ticket, case .refused(let refusal) = core.timeOut(ticket, now: now) else { return nil }
    return refusal
  }

  func refusal(_ ticket: TicketPointer?) -> Refusal? {
    guard let ticket, case .refused(let refusal) = core.collect(ticket, now: now) else { return nil }
    return refusal
  }

  // MARK: The runtime

  /// All tasks that are due now.
  func tasks() -> [Work] {
    var all: [Work] = []
    while all.count < 1000 {
      switch core.nextTask(now: now) {
      case .none: return all
      case .open(let slot): all.append(Work(kind: .open, slot: slot))
      case .reset(let slot): all.append(Work(kind: .reset, slot: slot))
      case .check(let slot): all.append(Work(kind: .check, slot: slot))
      case .close(let slot): all.append(Work(kind: .close, slot: slot))
      case .forget(let slot):
        all.append(Work(kind: .forget, slot: slot))
        core.closed(slot)
      case .overrun(let slot):
        all.append(Work(kind: .overrun, slot: slot))
        core.backgroundEnded(slot, succeeded: false, now: now)
      case .gaveUp(let slot): all.append(Work(kind: .gaveUp, slot: slot))
      case .outlived(let slot): outlived.append(slot)
      }
    }
    return all
  }

  func start(_ slot: SlotPointer) { core.attemptStarted(slot, now: now) }

  func succeed(_ slot: SlotPointer) {
    core.attemptReached(slot)
    core.opened(slot, now: now)
  }

  /// Performs everything at once and with success, until nothing is left.
  func upkeep() {
    for _ in 0..<1000 {
      let all = tasks()
      if all.isEmpty { return }
      for work in all { perform(work) }
    }
  }

  /// As `upkeep`, but that each session ends the moment it is open. How many were opened.
  func openAndLose() -> Int {
    var opened = 0
    while case let all = tasks(), !all.isEmpty {
      for work in all {
        perform(work)
        guard work.kind == .open else { continue }
        opened += 1
        core.lost(work.slot, now: now)
      }
    }
    return opened
  }

  private func perform(_ work: Work) {
    switch work.kind {
    case .open:
      start(work.slot)
      succeed(work.slot)
    case .reset, .check: core.backgroundEnded(work.slot, succeeded: true, now: now)
    case .close: core.closed(work.slot)
    case .forget, .overrun, .gaveUp: break
    }
  }

  /// Opens `count` connections that are idle then.
  func fill(_ count: Int) {
    let waiting = (0..<count).compactMap { _ in wait() }
    upkeep()
    _ = decided()
    for slot in waiting.map({ granted($0) }) { release(slot) }
  }
}

extension TestPool {
  // The core and its nodes are plain bytes, so that a test can go back to where it was.

  func save() -> [UInt8] {
    var bytes: [UInt8] = []
    for (start, count) in regions() { bytes += UnsafeRawBufferPointer(start: start, count: count) }
    withUnsafeBytes(of: &core) { bytes += $0 }
    return bytes
  }

  func restore(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { saved in
      var offset = 0
      for (start, count) in regions() {
        start.copyMemory(from: saved.baseAddress! + offset, byteCount: count)  // never empty
        offset += count
      }
      withUnsafeMutableBytes(of: &core) { core in
        core.copyMemory(from: UnsafeRawBufferPointer(rebasing: saved[offset...]))
      }
    }
  }

  private func regions() -> [(UnsafeMutableRawPointer, Int)] {
    [
      (UnsafeMutableRawPointer(slots), MemoryLayout<Slot>.stride * slotCount),
      (UnsafeMutableRawPointer(tickets), MemoryLayout<Ticket>.stride * ticketCount),
      (UnsafeMutableRawPointer(expiries), MemoryLayout<SlotPointer>.stride * slotCount),
      (UnsafeMutableRawPointer(deadlines), MemoryLayout<TicketPointer>.stride * ticketCount),
    ]
  }
}

struct Work: Equatable {
  enum Kind { case open, reset, check, close, forget, overrun, gaveUp }
  var kind: Kind
  var slot: SlotPointer
}
