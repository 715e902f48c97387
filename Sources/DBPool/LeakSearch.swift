import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// Looks for loans older than `leak_threshold_ms`. Upkeep thread only.
enum LeakSearch {
  private static var batch: Int { 64 }

  static func run(_ record: RecordPointer, _ now: Instant) {
    record.enter()
    let threshold = record.pointee.options.given.leak_threshold_ms
    record.leave()
    guard threshold > 0, now >= record.pointee.nextLeakSearch else { return }
    record.pointee.nextLeakSearch = now.after(Swift.max(.milliseconds(Int(threshold) / 4), Upkeep.tick))
    var first = 0
    while first < record.pointee.sessions.count {
      search(record, first, now, .milliseconds(Int(threshold)))
      first += batch
    }
  }

  /// One hold of the lock looks at a few only.
  private static func search(_ record: RecordPointer, _ first: Int, _ now: Instant, _ threshold: Nanoseconds) {
    for index in first..<Swift.min(first + batch, record.pointee.sessions.count) {
      guard let session = record.pointee.sessions.element(index) else { return }
      record.enter()
      let isLeak =
        session.pointee.slot.state == .leased && !session.pointee.isLeakReported
        && session.pointee.lent.load(ordering: .relaxed) != 0 && now - session.pointee.slot.since > threshold
      let (holder, since) = (session.pointee.holder, session.pointee.slot.since)
      if isLeak {
        session.pointee.isLeakReported = true
        record.pointee.leaks &+= 1
      }
      record.leave()
      if isLeak { report(record, holder, now - since, session.pointee.backendPID) }
    }
  }

  private static func report(_ record: RecordPointer, _ holder: Int32, _ age: Nanoseconds, _ pid: Int32) {
    Log.write(record, POOL_LOG_WARNING) {
      $0.append("a connection")
      if pid != 0 {
        $0.append(" (backend ")
        $0.append(Int(pid))
        $0.append(")")
      }
      $0.append(" has been in use for ")
      $0.append(Int(age / 1_000_000))
      $0.append(" ms, borrowed by thread ")
      $0.append(Int(holder))
      $0.append("; is it leaked?")
    }
  }
}
