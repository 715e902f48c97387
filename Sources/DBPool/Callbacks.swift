import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// The callbacks that no attempt makes: `log` and `context_free`. One thread at a time for each pool.
enum Callbacks {
  /// Asks for a connector thread if there is something to call. False: none was to be had, to be asked for again at the
  /// next tick. Upkeep thread only.
  static func start(_ record: RecordPointer) -> Bool {
    record.enter()
    guard !record.pointee.isCallbackRunning, isDue(record) else {
      record.leave()
      return true
    }
    record.pointee.isCallbackRunning = true
    record.pointee.jobs += 1
    record.pointee.callbackJob.kind = .callbacks
    record.pointee.callbackJob.record = record
    record.leave()
    if Connectors.submit(record.callbackJobPointer) == 0 { return true }
    record.enter()
    record.pointee.isCallbackRunning = false
    record.pointee.jobs -= 1
    record.leave()
    return false
  }

  /// Under the lock.
  private static func isDue(_ record: RecordPointer) -> Bool {
    !record.pointee.log.isEmpty || mustFreeContext(record)
  }

  /// Under the lock: no callback runs or can start any more, but for this one.
  private static func mustFreeContext(_ record: RecordPointer) -> Bool {
    record.pointee.core.isFinished && record.pointee.context == .owned
      && record.pointee.jobs == (record.pointee.isCallbackRunning ? 1 : 0)
  }

  /// On a connector thread.
  static func run(_ record: RecordPointer) {
    let options = record.pointee.options.given
    let token = record.pointee.token.load(ordering: .relaxed)
    guard HostCall.run(token, { deliverLog(record, options) }) else { LibpqGate.park() }

    record.enter()
    let isLast = mustFreeContext(record)
    if isLast { record.pointee.context = .gone }
    record.leave()
    if isLast, !HostCall.run(token, { options.context_free?(options.context) }) { LibpqGate.park() }

    record.enter()
    record.pointee.isCallbackRunning = false
    record.pointee.jobs -= 1
    record.leave()
    Upkeep.signal(record)
  }

  private static func deliverLog(_ record: RecordPointer, _ options: pool_options_t) {
    guard let log = options.log, record.pointee.context != .gone else { return }
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: LogQueue.lineSize) { buffer in
      guard let line = buffer.baseAddress else { return }
      while let level = record.pointee.log.pop(into: line) { log(options.context, level, line) }
    }
  }
}
