import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// fork(): the handlers of `pthread_atfork`, registered twice; for each fork those called first do the work.
///
/// When the library is loaded, for a fork that begins before the first pool and meets it half-way. And by the first pool, as
/// what is registered last is called first: by then an allocator has registered its own, which take its locks, so ours wait
/// for those inside before that. In the parent and the child ours may run before theirs: they neither allocate nor free.
///
/// Before the fork the forking thread sees to it that no thread of ours is inside libpq, and takes every lock of the library, in the order given at `PoolRecord`, so the child
/// gets consistent memory; critical sections are short and never wait, so fork does not either. In the child every lock
/// is set free by storing 0, and each inherited socket is replaced by /dev/null: the child can neither speak on a
/// connection of its parent nor keep it open, and PQfinish is never called on one. Everything else waits for the pool's
/// first use in the child (`Revival`).
enum Fork {
  /// By each pool. 0, or an errno value: then the next call tries again.
  static func register() -> Int32 {
    if process.pointee.hasForkHandlers.exchange(true, ordering: .relaxed) { return 0 }
    let error = registerHandlers()
    if error != 0 { process.pointee.hasForkHandlers.store(false, ordering: .relaxed) }
    return error
  }

  fileprivate static func registerHandlers() -> Int32 {
    pool_at_fork({ Fork.prepare() }, { Fork.parent() }, { Fork.child() })
  }

  static func prepare() {
    LibpqGate.shutForFork()
    process.pointee.registryLock.lock()
    Registry.visit {
      $0.enter()
      $0.pointee.log.lock.lock()
    }
    process.pointee.connectorLock.lock()
  }

  static func parent() {
    process.pointee.connectorLock.unlock()
    Registry.visit {
      $0.pointee.log.lock.unlock()
      $0.leave()
    }
    process.pointee.registryLock.unlock()
    LibpqGate.open()
  }

  static func child() {
    process.pointee.forkCount.wrappingAdd(1, ordering: .relaxed)
    forgetThreads()
    if process.pointee.isPrepared { leaveSessions() }
    Registry.visit {
      $0.pointee.log.lock.startOver()
      $0.pointee.lock.startOver()
    }
    pool_callback_set(0)
    process.pointee.connectorLock.startOver()
    process.pointee.registryLock.startOver()
  }

  private static func leaveSessions() {
    // The one opened with the first pool, unless the host has closed it since.
    var spare = Descriptor()
    if !process.pointee.null.isOurs { spare = Descriptor(number: pool_open_null()) }
    let null = spare.isOpen ? spare.number : process.pointee.null.number
    Registry.visit { leave($0, null) }
    spare.close()
  }

  private static func forgetThreads() {
    process.pointee.poller.forget()
    process.pointee.isUpkeepRunning = false
    process.pointee.firstSignalled.store(0, ordering: .relaxed)
    process.pointee.jobs.removeAll()
    process.pointee.connectors = 0
    process.pointee.idleConnectors = 0
    LibpqGate.startOver()
  }

  private static func leave(_ record: RecordPointer, _ null: Int32) {
    let token = record.pointee.token.load(ordering: .relaxed)
    if token != 0 { record.pointee.token.store(token | Token.forkedBit, ordering: .relaxed) }
    record.pointee.isSignalled.store(false, ordering: .relaxed)
    record.pointee.watchers.store(0, ordering: .relaxed)
    record.pointee.running = 0
    for index in 0..<record.pointee.sessions.count {
      guard let session = record.pointee.sessions.element(index) else { return }
      let socket = session.pointee.socketNumber
      let descriptor = session.pointee.descriptor
      if descriptor.isOpen {
        descriptor.replace(alias: socket, with: null)
        descriptor.replace(with: null)
      }
      session.pointee.attemptSocket.replace(with: null)
    }
  }
}

/// Called by the loader.
@_cdecl("pool_on_load")
public func poolOnLoad() {
  _ = Fork.registerHandlers()
}
