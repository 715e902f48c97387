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
    if usesTLS, !process.pointee.isTLSReady.exchange(true, ordering: .acquiringAndReleasing) { pool_tls_prepare() }
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    if !process.pointee.isPrepared {
      let error = pool_at_fork({ Fork.prepare() }, { Fork.parent() }, { Fork.child() })
      guard error == 0 else { return Failure.system(error, "cannot register the handlers for fork") }
      process.pointee.poller = Poller()
      process.pointee.null = Descriptor(number: pool_open_null())
      process.pointee.isPrepared = true
    }
    let code = prepareExit(usesTLS: usesTLS)
    guard code == POOL_OK else { return code }
    let error = Upkeep.start()
    return error == 0 ? POOL_OK : Failure.system(error, "cannot start the upkeep thread")
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
