import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// What the library does once for a process, at fork and at exit.
enum ProcessLife {
  /// Sees to the handlers and the upkeep thread. 0, or a code whose message is set.
  static func start(usesTLS: Bool) -> Int32 {
    // Without the lock: it may take those of the loader, and of fork.
    if usesTLS, !process.pointee.isTLSReady.load(ordering: .acquiring) { prepareTLS() }
    var code = prepareFork()
    guard code == POOL_OK else { return code }
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    code = prepareExit(usesTLS: usesTLS)
    guard code == POOL_OK else { return code }
    let error = Upkeep.start()
    return error == 0 ? POOL_OK : Failure.system(error, "cannot start the upkeep thread")
  }

  private static func prepareTLS() {
    guard let forkCount = LibpqGate.enterFromHost() else { return }
    // A second thread may do it too; a child forked meanwhile does it again.
    pool_tls_prepare()
    process.pointee.isTLSReady.store(true, ordering: .releasing)
    LibpqGate.leave(since: forkCount)
  }

  private static func prepareFork() -> Int32 {
    // Without the lock: before glibc 2.36 this waits for a fork under way, and that fork for the lock.
    let error = Fork.register()
    guard error == 0 else { return Failure.system(error, "cannot register the handlers for fork") }
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    // Again if there was no descriptor left at the first pool, or the host has closed it.
    if !process.pointee.null.isOurs { process.pointee.null = Descriptor(number: pool_open_null()) }
    if process.pointee.isPrepared { return POOL_OK }
    process.pointee.poller = Poller()
    process.pointee.isPrepared = true
    return POOL_OK
  }

  /// Sees to it that libpq is there, for a pool that connects by itself, and that a fork waits for those at the gate.
  /// 0, or a code whose message is set.
  static func findLibpq() -> Int32 {
    let code = prepareFork()
    guard code == POOL_OK else { return code }
    if pool_libpq_is_complete() { return POOL_OK }
    // A child forked in the middle of this would inherit a loader that has half loaded a library.
    guard let forkCount = LibpqGate.enterFromHost() else { return Failure.exiting() }
    defer { LibpqGate.leave(since: forkCount) }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(POOL_MESSAGE_SIZE)) { why in
      guard let start = why.baseAddress else { return Failure.set(POOL_EINTERNAL) }
      return pool_libpq_load(start, why.count)
        ? POOL_OK
        : Failure.set(POOL_ESYSTEM) {
          $0.append("a pool that connects by itself needs libpq, 14 or later, which cannot be used here: ")
          $0.append(cString: start)
          $0.append(" (the package is libpq5 in Debian and Ubuntu, libpq in Fedora)")
        }
    }
  }

  /// Registers our exit handler, which must run before OpenSSL's, so be registered after it: OpenSSL registers its own
  /// when it is first used, and is therefore made ready here, in the thread that makes the pool.
  private static func prepareExit(usesTLS: Bool) -> Int32 {
    if process.pointee.hasExitHandler, process.pointee.hasTLSHandler || !usesTLS { return POOL_OK }
    let error = pool_at_exit({ ProcessLife.exit() })
    guard error == 0 else { return Failure.system(error, "cannot register the handler for exit") }
    process.pointee.hasExitHandler = true
    process.pointee.hasTLSHandler = process.pointee.hasTLSHandler || usesTLS
    return POOL_OK
  }

  /// At exit: no thread of ours enters libpq or a callback any more, and those inside are waited for, at most a second.
  /// Sessions end with the process: their sockets are closed by the system.
  private static func exit() {
    LibpqGate.shutForExit(isInCallback: pool_callback_get() != 0)
  }
}
