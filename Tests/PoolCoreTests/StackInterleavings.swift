import Testing

@testable import PoolCore

/// Threads that do what `pool_get`, `pool_put` and the upkeep thread do: one step is one access to the word, to the lock or
/// to a parking place, or what is done under the lock, which nobody else sees before it is let go.
///
/// States that were seen before are not looked into again (a hash of 64 bits stands for them), so all orders are covered.
/// What the upkeep thread does is one section under the lock, and attempts succeed within it. The clock stands still.
final class StackInterleavings {
  enum Operation { case get, tryGet, impatientGet, put, putBroken, lose, upkeep, pause, resume, renew, shrink, grow }

  struct Plan: Sendable, CustomTestStringConvertible {
    let slots: Int
    let programs: [[Operation]]

    init(slots: Int, _ programs: [Operation]...) {
      self.slots = slots
      self.programs = programs
    }

    var testDescription: String { "\(slots) slots, \(programs)" }
  }

  enum Fault: CaseIterable {
    case recallForgetsASeat, opensBesideWaiters, popIgnoresWhatCameBetween, pushesAfterShut
    case lossIsNotMarked, displacedIsForgotten
  }

  /// What a thread does under the lock.
  private enum Section: Hashable { case acquire, collect, timeOut, giveBack, release, releaseBroken, change }

  /// Where a thread stands: its next step.
  private enum At: Hashable {
    case start
    case pop(seen: UInt64)
    case look
    case tryLock
    case letGoIdle
    case loadToPush
    case push(seen: UInt64)
    case full
    case lockToDisplace
    case loadToDisplace
    case displace(seen: UInt64)
    case letGo(then: Next)
    case enter(Section)
    case inside(Section)
    case wake(UInt8, then: Next)
    case park
    case asleep
    case over
  }

  private enum Next: Hashable { case finish, park, acquire, release }

  private struct Thread: Hashable {
    var done = 0
    var at = At.start
    var slot: Int?
    var ticket: Int?
  }

  private struct State {
    var bytes: [UInt8]
    var threads: [Thread]
    var word: IdleStackWord
    var holder: Int?
    var isApart: [Bool]
    var wasDecided: [Bool]
  }

  private let plan: Plan
  private let fault: Fault?
  private let pool: TestPool
  private var threads: [Thread]
  private var word = IdleStackWord.shut
  private var holder: Int?
  /// Of each slot: it must not lie on the stack.
  private var isApart: [Bool]
  /// Of each ticket: its parking place has advanced since its owner looked.
  private var wasDecided = [false, false, false]
  private var seen: Set<Int> = []
  private(set) var path: [Int] = []
  private(set) var failure: String?
  private(set) var ends = 0

  var states: Int { seen.count }

  init(_ plan: Plan, fault: Fault? = nil) {
    (self.plan, self.fault) = (plan, fault)
    pool = TestPool(tickets: 3, slots: plan.slots) { $0.maxSize = plan.slots }
    threads = plan.programs.map { _ in Thread() }
    isApart = [Bool](repeating: false, count: plan.slots)
    openAll()
    for index in plan.programs.indices where plan.programs[index].first == .put { lendForStart(index) }
    word = .empty
    if plan.slots > IdleStackWord.capacity { fillStack() }
  }

  private func fillStack() {
    while word.hasRoom, let slot = pool.lend() { word = word.pushing(UInt8(index(slot) + 1)) }
  }

  private func openAll() {
    var lent: [SlotPointer?] = []
    while lent.count < plan.slots {
      let ticket = pool.wait()
      pool.upkeep()
      _ = pool.decided()
      lent.append(pool.granted(ticket))
    }
    for slot in lent { pool.release(slot) }
  }

  private func lendForStart(_ thread: Int) { threads[thread].slot = pool.lend().map { index($0) } }

  private func index(_ slot: SlotPointer) -> Int { slot - pool.slots }

  // MARK: Exploring

  func explore() {
    tidy()
    let before = save()
    guard failure == nil, seen.insert(key(before)).inserted else { return }
    var isEnd = true
    for thread in threads.indices where failure == nil {
      for isTimeOut in [false, true] where canStep(thread, isTimeOut) && failure == nil {
        isEnd = false
        path.append(thread)
        step(thread, isTimeOut)
        check()
        explore()
        if failure == nil { path.removeLast() }
        restore(before)
      }
    }
    if isEnd, failure == nil {
      ends += 1
      windUp()
      restore(before)
    }
  }

  private func canStep(_ thread: Int, _ isTimeOut: Bool) -> Bool {
    switch threads[thread].at {
    case .asleep: isTimeOut && operation(thread) == .impatientGet
    case .enter, .lockToDisplace: holder == nil && !isTimeOut
    case .over: false
    default: !isTimeOut
    }
  }

  private func operation(_ thread: Int) -> Operation? {
    let program = plan.programs[thread]
    return threads[thread].done < program.count ? program[threads[thread].done] : nil
  }

  /// What does not matter for what comes makes no other state.
  private func tidy() {
    if pool.core.counters.internalErrors != 0 { fail("a broken invariant of the core") }
    pool.core.counters = Counters()
    for ticket in 0..<pool.ticketCount { pool.tickets[ticket].generation = 0 }
  }

  private func key(_ state: State) -> Int {
    var hasher = Hasher()
    state.bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    hasher.combine(state.threads)
    hasher.combine(state.word.bits)
    hasher.combine(state.holder)
    hasher.combine(state.isApart)
    hasher.combine(state.wasDecided)
    return hasher.finalize()
  }

  private func save() -> State {
    State(
      bytes: pool.save(), threads: threads, word: word, holder: holder, isApart: isApart, wasDecided: wasDecided)
  }

  private func restore(_ state: State) {
    pool.restore(state.bytes)
    (threads, word, holder) = (state.threads, state.word, state.holder)
    (isApart, wasDecided) = (state.isApart, state.wasDecided)
  }

  private func fail(_ what: String) { if failure == nil { failure = what } }

  // MARK: Steps

  private func step(_ thread: Int, _ isTimeOut: Bool) {
    switch threads[thread].at {
    case .start: start(thread)
    case .pop(let seen): pop(thread, seen)
    case .look: look(thread)
    case .tryLock: tryLock(thread)
    case .letGoIdle:
      holder = nil
      go(thread, threads[thread].slot == nil ? .enter(.acquire) : nil)
    case .loadToPush: toPush(thread)
    case .push(let seen): push(thread, seen)
    case .full: full(thread)
    case .lockToDisplace:
      holder = thread
      threads[thread].at = .loadToDisplace
    case .loadToDisplace: threads[thread].at = word.isShut ? .letGo(then: .release) : .displace(seen: word.bits)
    case .displace(let seen): displace(thread, seen)
    case .enter(let section):
      holder = thread
      recall()
      threads[thread].at = .inside(section)
    case .inside(let section): inside(thread, section)
    case .letGo(let next):
      holder = nil
      proceed(thread, next)
    case .wake(let tickets, let next):
      wake(tickets)
      proceed(thread, next)
    case .park: threads[thread].at = hasNews(thread) ? .enter(.collect) : .asleep
    case .asleep: threads[thread].at = .enter(isTimeOut ? .timeOut : .collect)
    case .over: fail("a step of a thread that is over")
    }
  }

  /// nil: the operation is done.
  private func go(_ thread: Int, _ next: At?) {
    if let next {
      threads[thread].at = next
    } else {
      threads[thread].done += 1
      threads[thread].at = operation(thread) == nil ? .over : .start
    }
  }

  private func proceed(_ thread: Int, _ next: Next) {
    switch next {
    case .finish: go(thread, nil)
    case .park: go(thread, .park)
    case .acquire: go(thread, .enter(.acquire))
    case .release: go(thread, .enter(.release))
    }
  }

  private func start(_ thread: Int) {
    switch operation(thread) {
    case .get, .tryGet, .impatientGet: if threads[thread].slot == nil { toPop(thread) } else { go(thread, nil) }
    case .put:
      guard let slot = threads[thread].slot else { return go(thread, nil) }
      go(thread, isApart[slot] ? .enter(.release) : .loadToPush)
    case .putBroken: go(thread, threads[thread].slot == nil ? nil : .enter(.releaseBroken))
    case .lose, .upkeep, .pause, .resume, .renew, .shrink, .grow: go(thread, .enter(.change))
    case nil: go(thread, .over)
    }
  }

  // MARK: As in IdleStack

  private func toPop(_ thread: Int) { threads[thread].at = word.top == 0 ? .tryLock : .pop(seen: word.bits) }

  private func pop(_ thread: Int, _ seen: UInt64) {
    guard word.bits == seen || fault == .popIgnoresWhatCameBetween else { return toPop(thread) }
    threads[thread].slot = Int(IdleStackWord(bits: seen).top) - 1
    word = IdleStackWord(bits: seen).popped
    threads[thread].at = .look
  }

  private func look(_ thread: Int) {
    guard let slot = threads[thread].slot else { return fail("looks at nothing") }
    guard !isApart[slot] else { return go(thread, .enter(.giveBack)) }
    if pool.slots[slot].isLost || pool.slots[slot].epoch != pool.core.epoch { fail("lent what is lost or renewed") }
    go(thread, nil)
  }

  private func toPush(_ thread: Int) {
    let hasRoom = word.hasRoom || (fault == .pushesAfterShut && word.isShut)
    threads[thread].at = hasRoom ? .push(seen: word.bits) : .full
  }

  private func push(_ thread: Int, _ seen: UInt64) {
    guard word.bits == seen, let slot = threads[thread].slot else { return toPush(thread) }
    word = word.pushing(UInt8(slot + 1))
    threads[thread].slot = nil
    go(thread, nil)
  }

  private func displace(_ thread: Int, _ seen: UInt64) {
    guard word.bits == seen, let slot = threads[thread].slot else {
      threads[thread].at = .loadToDisplace
      return
    }
    let displaced = word.hasRoom ? 0 : word.bottom
    word = (word.hasRoom ? word : word.withoutBottom).pushing(UInt8(slot + 1))
    threads[thread].slot = nil
    if displaced != 0, fault != .displacedIsForgotten { pool.release(pool.slots + Int(displaced) - 1) }
    threads[thread].at = .letGo(then: .finish)
  }

  // MARK: As in Record, Exports, Returning and Borrowing

  private func recall() {
    var rest = word
    word = .shut
    if fault == .recallForgetsASeat { rest = rest.withoutBottom }
    while rest.bottom != 0 {
      pool.release(pool.slots + Int(rest.bottom) - 1)
      rest = rest.withoutBottom
    }
  }

  private func leave() {
    if pool.core.isOrdinary || fault == .opensBesideWaiters { word = .empty }
  }

  private func tryLock(_ thread: Int) {
    guard holder == nil else { return go(thread, .enter(.acquire)) }
    holder = thread
    if let slot = pool.core.tryAcquire(now: pool.now, isTry: true) { isLent(thread, slot) }
    threads[thread].at = .letGoIdle
  }

  private func full(_ thread: Int) {
    let mayDisplace = !word.isShut && !isApart[threads[thread].slot ?? 0]
    threads[thread].at = mayDisplace ? .lockToDisplace : .enter(.release)
  }

  private func isLent(_ thread: Int, _ slot: SlotPointer) {
    threads[thread].slot = index(slot)
    isApart[index(slot)] = slot.pointee.isCondemned
  }

  private func inside(_ thread: Int, _ section: Section) {
    var next = Next.finish
    switch section {
    case .acquire: if acquire(thread) { next = .park }
    case .collect: if !collected(thread, pool.core.collect(ticket(thread), now: pool.now)) { next = .park }
    case .timeOut: if !collected(thread, pool.core.timeOut(ticket(thread), now: pool.now)) { next = .park }
    case .giveBack:
      release(thread, .idle)
      next = .acquire
    case .release: release(thread, .idle)
    case .releaseBroken: release(thread, .broken)
    case .change: change(operation(thread))
    }
    let decided = hear()
    leave()
    threads[thread].at = .letGo(then: next)
    if decided != 0 { letGoAndWake(thread, decided, next) }
  }

  /// The lock is let go before the sleepers are woken, which is a step of its own.
  private func letGoAndWake(_ thread: Int, _ decided: UInt8, _ next: Next) {
    holder = nil
    threads[thread].at = .wake(decided, then: next)
  }

  private func ticket(_ thread: Int) -> TicketPointer { pool.tickets + (threads[thread].ticket ?? 0) }

  private func hasNews(_ thread: Int) -> Bool { threads[thread].ticket.map { wasDecided[$0] } ?? false }

  /// True when it must wait.
  private func acquire(_ thread: Int) -> Bool {
    if operation(thread) == .tryGet {
      if let slot = pool.core.tryAcquire(now: pool.now, isTry: true) {
        isLent(thread, slot)
      } else {
        _ = pool.core.refuseTry()
      }
      return false
    }
    switch pool.core.acquire(deadline: .never, isDetached: false, now: pool.now) {
    case .granted(let slot): isLent(thread, slot)
    case .waiting(let ticket):
      threads[thread].ticket = ticket - pool.tickets
      wasDecided[ticket - pool.tickets] = false
      return true
    case .refused, .needsTicket: fail("refused")
    }
    return false
  }

  private func collected(_ thread: Int, _ found: Collected) -> Bool {
    switch found {
    case .pending:
      wasDecided[threads[thread].ticket ?? 0] = false
      return false
    case .granted(let slot): isLent(thread, slot)
    case .refused(let refusal): if operation(thread) != .impatientGet { fail("refused: \(refusal)") }
    }
    threads[thread].ticket = nil
    return true
  }

  private func release(_ thread: Int, _ condition: Condition) {
    guard let slot = threads[thread].slot else { return fail("released nothing") }
    threads[thread].slot = nil
    pool.release(pool.slots + slot, condition)
  }

  private func change(_ operation: Operation?) {
    switch operation {
    case .lose:
      pool.core.lost(pool.slots, now: pool.now)
      isApart[0] = fault != .lossIsNotMarked
    case .upkeep: pool.upkeep()
    case .pause: pool.core.pause()
    case .resume: pool.core.resume(now: pool.now)
    case .renew:
      pool.core.reconnect(now: pool.now)
      for slot in isApart.indices { isApart[slot] = true }
    case .shrink: pool.core.resize(minSize: 0, maxSize: 1)
    case .grow: pool.core.resize(minSize: 0, maxSize: plan.slots)
    case .get, .tryGet, .impatientGet, .put, .putBroken, nil: fail("no change")
    }
  }

  private func hear() -> UInt8 {
    var decided: UInt8 = 0
    for ticket in pool.decided() {
      wasDecided[ticket - pool.tickets] = true
      decided |= 1 << UInt8(ticket - pool.tickets)
    }
    return decided
  }

  private func wake(_ tickets: UInt8) {
    for thread in threads.indices where threads[thread].at == .asleep {
      guard let ticket = threads[thread].ticket, tickets & 1 << UInt8(ticket) != 0 else { continue }
      threads[thread].at = .enter(.collect)
    }
  }

  // MARK: Checks

  private var onStack: [Int] {
    var (rest, all) = (word, [Int]())
    while rest.bottom != 0 {
      all.append(Int(rest.bottom) - 1)
      rest = rest.withoutBottom
    }
    return all
  }

  private func check() {
    let (stack, gauges) = (onStack, pool.core.gauges)
    let granted = threads.compactMap { $0.ticket }.filter { pool.tickets[$0].state == .granted }
    let owned = stack + threads.compactMap(\.slot) + granted.compactMap { pool.tickets[$0].slot.map(index) }
    if Set(owned).count != owned.count { fail("two have the same connection: \(owned)") }
    if owned.contains(where: { pool.slots[$0].state != .leased }) { fail("somebody has what is not lent: \(owned)") }
    if owned.count != gauges.inUse { fail("\(gauges.inUse) are lent, \(owned.count) of them are somewhere") }
    let waiting = threads.compactMap { $0.ticket }.filter { pool.tickets[$0].state == .waiting }
    if gauges.waiting != waiting.count { fail("\(waiting.count) wait, the core counts \(gauges.waiting)") }
    if !waiting.isEmpty, !pool.isPaused, gauges.idle + stack.count > 0 { fail("somebody waits beside what is idle") }
    let mustSeePuts = !waiting.isEmpty || pool.isPaused
    if holder == nil, mustSeePuts, !word.isShut { fail("the stack is open beside waiters or a pause") }
    if gauges.total != pool.slotCount - pool.core.free.count { fail("a slot is lost") }
  }

  /// Nobody can take a step any more: all are through, but those who wait for what somebody keeps.
  private func windUp() {
    for thread in threads.indices where threads[thread].at != .over {
      if threads[thread].at != .asleep { fail("thread \(thread) is stuck") }
      if hasNews(thread) { fail("thread \(thread) sleeps, though its ticket was decided") }
    }
    recall()
    pool.upkeep()
    _ = hear()
    check()
  }
}
