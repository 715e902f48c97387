import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

enum PoolStatistics {
  /// Fills the caller's struct, as much of it as both sides know.
  static func read(_ record: RecordPointer, _ token: UInt64, _ stats: UnsafeMutablePointer<pool_stats_t>) -> Int32 {
    let size = stats.pointee.size
    guard size >= MemoryLayout<Int>.size, size % MemoryLayout<UInt64>.size == 0, size <= 65_536 else {
      return Failure.set(POOL_EINVAL, "stats: set its size to sizeof(pool_stats_t) before the call")
    }
    record.enter()
    guard record.holds(token), !record.pointee.core.isClosed else {
      record.leave()
      return Failure.set(POOL_ECLOSED)
    }
    let gauges = record.pointee.core.gauges
    let counters = record.pointee.core.counters
    let settings = record.pointee.core.settings
    let isPaused = record.pointee.core.isPaused
    let leaks = record.pointee.leaks
    let gets = gets(record, counters, inUse: UInt64(clamping: gauges.inUse))
    record.leave()

    var result = pool_stats_t()
    fill(&result, gauges, settings, isPaused)
    fill(&result, counters)
    result.gets = gets
    // Not counted: the fast path has enough to do.
    result.puts = gets &- UInt64(clamping: gauges.inUse)
    result.leaks = leaks
    result.log_drops = record.pointee.log.drops
    result.size = size
    withUnsafeBytes(of: &result) { own in
      let memory = UnsafeMutableRawPointer(stats)
      memory.copyMemory(from: own.baseAddress.unsafelyUnwrapped, byteCount: Swift.min(own.count, Int(size)))
      if Int(size) > own.count { memset(memory + own.count, 0, Int(size) - own.count) }
    }
    return POOL_OK
  }

  /// The state machine's gets and those from the idle stack. Who has just popped a session and not counted it yet is in use
  /// already: so neither gets nor puts may fall behind what was told before. Under the lock.
  private static func gets(_ record: RecordPointer, _ counters: Counters, inUse: UInt64) -> UInt64 {
    var gets = counters.gets
    if record.pointee.usesIdleStack {
      for index in 0..<record.pointee.sessions.count {
        gets &+= record.pointee.sessions.element(index)?.pointee.stackGets.load(ordering: .relaxed) ?? 0
      }
    }
    gets = Swift.max(gets, record.pointee.toldGets, record.pointee.toldPuts &+ inUse)
    (record.pointee.toldGets, record.pointee.toldPuts) = (gets, gets &- inUse)
    return gets
  }

  private static func fill(
    _ result: inout pool_stats_t, _ gauges: Gauges, _ settings: Settings, _ isPaused: Bool
  ) {
    result.min_size = Int64(settings.minSize)
    result.max_size = Int64(settings.maxSize)
    result.total = Int64(gauges.total)
    result.idle = Int64(gauges.idle)
    result.in_use = Int64(gauges.inUse)
    result.connecting = Int64(gauges.opening)
    result.resetting = Int64(gauges.background)
    result.closing = Int64(gauges.closing)
    result.waiting = Int64(gauges.waiting)
    result.paused = isPaused ? 1 : 0
    result.stuck_connectors = UInt64(clamping: gauges.stuck)
  }

  private static func fill(_ result: inout pool_stats_t, _ counters: Counters) {
    result.waits = counters.waits
    result.timeouts = counters.timeouts
    result.cancels = counters.cancels
    result.rejected = counters.rejected
    result.opened = counters.opened
    result.connect_failures = counters.connectFailures
    result.lost = counters.lost
    result.expired = counters.expired
    result.idle_closed = counters.idleClosed
    result.discarded = counters.discarded
    result.resets = counters.resets
    result.reset_failures = counters.resetFailures
    result.checks = counters.checks
    result.check_failures = counters.checkFailures
    result.internal_errors = counters.internalErrors
    result.wait_us = microseconds(counters.waitTime)
    result.wait_max_us = microseconds(counters.waitMax)
    result.use_us = microseconds(counters.useTime)
    result.connect_us = microseconds(counters.connectTime)
  }

  private static func microseconds(_ span: Nanoseconds) -> UInt64 { UInt64(clamping: span / 1000) }
}
