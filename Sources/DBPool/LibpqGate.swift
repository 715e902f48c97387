import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// The gate that every thread of ours passes on its way into libpq, and with it into OpenSSL, or into the resolver; one of
/// the host's too while `pool_create` loads libpq, makes OpenSSL ready and reads the conninfo.
///
/// At exit it shuts for good, and the exit handler waits for those inside: the handlers that run after it, OpenSSL's
/// among them, find no thread of ours. Around a fork it is shut, and the forking thread waits for those inside: no lock
/// of libpq, OpenSSL, the loader or the resolver is held by a thread that the child does not have. Steps in libpq do not
/// wait for the network, so neither wait is long; both are bounded. A lookup does wait for it, but without its locks: those
/// it takes for moments, mostly at once, so a fork waits for it a tenth of a second and an exit not at all.
///
/// Nobody slips through: a thread counts itself, then looks; who shuts the gate says so, then looks at the count.
enum LibpqGate {
  /// False when the process exits: the caller must not touch libpq any more.
  static func enter() -> Bool { enter(process.pointee.inLibpq) }

  static func enterResolver() -> Bool { enter(process.pointee.inResolver) }

  @inline(never)
  private static func enter(_ inside: borrowing Atomic<Int>) -> Bool {
    var patience = 20
    defer { if patience <= 0 { process.pointee.overdue.wrappingSubtract(1, ordering: .relaxed) } }
    while true {
      inside.wrappingAdd(1, ordering: .sequentiallyConsistent)
      if process.pointee.isExiting.load(ordering: .sequentiallyConsistent) {
        inside.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        return false
      }
      if process.pointee.forking.load(ordering: .sequentiallyConsistent) == 0 || patience <= -longest { return true }
      inside.wrappingSubtract(1, ordering: .sequentiallyConsistent)
      waitForFork()
      patience -= 1
      // Forks that follow each other without a gap must not keep us out for ever: the next one lets us in first.
      if patience == 0 { process.pointee.overdue.wrappingAdd(1, ordering: .relaxed) }
    }
  }

  /// As `enter`, for a thread of the host's without a lock of ours: the count of forks, for `leave(since:)`.
  static func enterFromHost() -> UInt32? {
    enter() ? process.pointee.forkCount.load(ordering: .relaxed) : nil
  }

  /// A signal handler may have forked meanwhile: the child has counted nobody.
  static func leave(since forkCount: UInt32) {
    if process.pointee.forkCount.load(ordering: .relaxed) == forkCount { leave() }
  }

  static func leaveResolver() {
    process.pointee.inResolver.wrappingSubtract(1, ordering: .sequentiallyConsistent)
  }

  static func leave() {
    process.pointee.inLibpq.wrappingSubtract(1, ordering: .sequentiallyConsistent)
  }

  /// Forks that one waits for after that: the process does hardly anything else then.
  private static var longest: Int { 200 }

  private static func waitForFork() {
    let seen = process.pointee.forkOver.value
    guard process.pointee.forking.load(ordering: .sequentiallyConsistent) != 0 else { return }
    _ = process.pointee.forkOver.park(seen: seen, until: Clock.now.after(.milliseconds(50)))
  }

  /// Before a fork.
  static func shutForFork() {
    waitUntilEmpty(process.pointee.overdue, until: Clock.now.after(.milliseconds(100)))
    process.pointee.forking.wrappingAdd(1, ordering: .sequentiallyConsistent)
    waitUntilEmpty(process.pointee.inLibpq, until: Clock.now.after(.milliseconds(500)))
    waitUntilEmpty(process.pointee.inResolver, until: Clock.now.after(.milliseconds(100)))
  }

  /// In the parent, after it.
  static func open() {
    process.pointee.forking.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    process.pointee.forkOver.advance()
    process.pointee.forkOver.wake()
  }

  /// At exit. Callbacks may be in libpq too; the thread that exits may be in one. Most of the second is for libpq: a
  /// step of SCRAM is milliseconds of CPU, and on a starved machine it takes long; so does the rest of the exit there.
  static func shutForExit(isInCallback: Bool) {
    if process.pointee.isExiting.exchange(true, ordering: .sequentiallyConsistent) { return }
    let start = Clock.now
    waitUntilEmpty(process.pointee.inLibpq, until: start.after(.milliseconds(700)))
    // A server may ask for millions of rounds of SCRAM, which libpq computes in one step.
    if process.pointee.inLibpq.load(ordering: .sequentiallyConsistent) > 0 { pool_tls_keep() }
    if !isInCallback { waitUntilEmpty(process.pointee.inCallback, until: start.after(.milliseconds(800))) }
  }

  /// In a forked child: its only thread is the host's.
  static func startOver() {
    process.pointee.inLibpq.store(0, ordering: .relaxed)
    process.pointee.inResolver.store(0, ordering: .relaxed)
    process.pointee.inCallback.store(0, ordering: .relaxed)
    process.pointee.overdue.store(0, ordering: .relaxed)
    process.pointee.forking.store(0, ordering: .relaxed)
    process.pointee.isExiting.store(false, ordering: .relaxed)
  }

  /// Parks the calling thread of ours for the rest of the process.
  static func park() -> Never {
    while true { pool_sleep(-1) }
  }

  private static func waitUntilEmpty(_ count: borrowing Atomic<Int>, until deadline: Instant) {
    while count.load(ordering: .sequentiallyConsistent) > 0, Clock.now < deadline { pool_nap() }
  }
}

/// Calls of the host's functions, on connector threads.
enum HostCall {
  /// Runs `body` as a callback of the pool `token`; false when the process exits. In a child that the host forked from
  /// inside the callback this thread has no business any more, and does not come back.
  static func run(_ token: UInt64, _ body: () -> Void) -> Bool {
    process.pointee.inCallback.wrappingAdd(1, ordering: .sequentiallyConsistent)
    if process.pointee.isExiting.load(ordering: .sequentiallyConsistent) {
      process.pointee.inCallback.wrappingSubtract(1, ordering: .sequentiallyConsistent)
      return false
    }
    let forkCount = process.pointee.forkCount.load(ordering: .relaxed)
    pool_callback_set(token)
    body()
    pool_callback_set(0)
    if process.pointee.forkCount.load(ordering: .relaxed) != forkCount { pool_thread_exit() }
    process.pointee.inCallback.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    return true
  }
}
