import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// The one thread that serves all pools and never blocks: it watches sockets, runs resets, checks and closes in the
/// background, keeps lifetimes, idle times and delays, and hands attempts and callbacks to connector threads.
///
/// Who wants it signals the pool: the pool is put on a stack (`firstSignalled`), and whoever finds the stack empty
/// wakes the thread. No signal is lost: the thread clears the event, then takes the whole stack; a pool marks itself
/// before it looks at the stack, and is unmarked before it is served, so what happens during the service signals anew.
enum Upkeep {
  /// How often the clock for use and idle times advances, and how late a timer is seen that nobody signalled.
  static var tick: Nanoseconds { .milliseconds(100) }

  // MARK: Signals

  /// Asks the upkeep thread to look at this pool. Any thread, not under the pool's lock.
  static func signal(_ record: RecordPointer) {
    if record.pointee.isSignalled.exchange(true, ordering: .acquiringAndReleasing) { return }
    let own = UInt32(truncatingIfNeeded: record.pointee.index + 1)
    var head = process.pointee.firstSignalled.load(ordering: .relaxed)
    while true {
      record.pointee.nextSignalled.store(head, ordering: .relaxed)
      let (done, found) = process.pointee.firstSignalled.weakCompareExchange(
        expected: head, desired: own, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed)
      if done { break }
      head = found
    }
    if head == 0 { process.pointee.poller.wake() }
  }

  // MARK: The thread

  /// Starts the thread, once in each process. 0, or an errno value. Under the registry lock.
  static func start() -> Int32 {
    if process.pointee.isUpkeepRunning { return 0 }
    let error = process.pointee.poller.open()
    guard error == 0 else { return error }
    process.pointee.coarseNow.store(Clock.now, ordering: .relaxed)
    let failed = Threads.start({ _ in Upkeep.run() }, nil)
    if failed != 0 { process.pointee.poller.close() }
    process.pointee.isUpkeepRunning = failed == 0
    return failed
  }

  private static func run() -> UnsafeMutableRawPointer? {
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { events in
      guard let start = events.baseAddress else { return }
      var nextDue = Instant.never
      while true {
        let count = process.pointee.poller.wait(start, capacity: 64, milliseconds: patience(nextDue))
        guard LibpqGate.enter() else { LibpqGate.park() }
        let now = Clock.now
        process.pointee.coarseNow.store(now, ordering: .relaxed)
        if count < 0 || !process.pointee.poller.isOurs { survive(-count) }
        var index = 0
        while index < Int(count) {
          handle(start[index])
          index += 1
        }
        nextDue = Swift.min(nextDue, serveSignalled())
        if nextDue <= now { nextDue = serveAll() }
        LibpqGate.leave()
      }
    }
    return nil
  }

  /// Milliseconds until `due`, rounded up, at most a second: so long a process whose descriptors were closed by the
  /// host goes without the thread.
  private static func patience(_ due: Instant) -> Int32 {
    guard due != .never else { return 1000 }
    let left = due &- Clock.now
    return left <= 0 ? 0 : Int32(Swift.min(1000, (left &+ 999_999) / 1_000_000))
  }

  /// epoll failed. A host that closed our descriptors (closefrom) gets a new set; its sessions went with it.
  private static func survive(_ error: Int32) {
    if error == EINTR, process.pointee.poller.isOurs { return }
    process.pointee.poller.abandon()
    if process.pointee.poller.open() == 0 {
      Registry.visit { Watch.renew($0) }
    } else {
      pool_sleep(100)
    }
  }

  private static func handle(_ event: epoll_event) {
    var event = event
    let token = pool_epoll_token(&event)
    if token == Poller.wakeToken {
      process.pointee.poller.clearWake()
    } else {
      Watch.handle(token, event.events)
    }
  }

  private static func serveSignalled() -> Instant {
    var due = Instant.never
    var next = process.pointee.firstSignalled.exchange(0, ordering: .acquiringAndReleasing)
    while next != 0, let record = process.pointee.records.element(Int(next) - 1) {
      next = record.pointee.nextSignalled.load(ordering: .relaxed)
      record.pointee.isSignalled.store(false, ordering: .releasing)
      due = Swift.min(due, serve(record))
    }
    return due
  }

  private static func serveAll() -> Instant {
    var due = Instant.never
    Registry.visit { record in
      guard record.pointee.token.load(ordering: .acquiring) != 0 else { return }
      due = Swift.min(due, serve(record))
    }
    return due
  }

  /// Does what is due for one pool; returns when to look again.
  private static func serve(_ record: RecordPointer) -> Instant {
    for _ in 0..<256 {
      record.enter()
      let token = record.pointee.token.load(ordering: .relaxed)
      guard token != 0, token & Token.forkedBit == 0 else {
        record.leave()
        return .never
      }
      let now = Clock.now
      let work = Work(record.pointee.core.nextTask(now: now))
      guard let work else { return rest(record, now) }
      record.unlockAndWake()
      work.perform()
    }
    // Others have their turn first.
    signal(record)
    return .never
  }

  /// Nothing is left to do at once. Under the lock; lets go of it.
  private static func rest(_ record: RecordPointer, _ now: Instant) -> Instant {
    var due = record.pointee.core.nextDeadline(now: now)
    record.pointee.core.sampleUse(now: now)
    if record.pointee.core.needsTime { due = Swift.min(due, now.after(tick)) }
    let awaitsHosts = record.pointee.isHosted && record.pointee.core.isAwaitingEnds
    let isOver = record.pointee.core.isFinished && record.pointee.jobs == 0
    record.unlockAndWake()
    record.notifyChanges()
    if awaitsHosts { Watch.hurry(record, since: now &- tick) }
    LeakSearch.run(record, now)
    if !Callbacks.start(record) { due = Swift.min(due, now.after(tick)) }
    if isOver { PoolLife.retire(record) }
    return due
  }
}
