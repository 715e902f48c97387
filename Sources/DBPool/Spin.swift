import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// A caller's last look around before it joins the queue: it naps a few times and tries the idle stack again.
///
/// Without it, loans of microseconds under more threads than processors end in a convoy: whoever queues is handed its
/// connection while it sleeps, so each loan costs a switch of threads, and whoever comes next has to queue too. Those who
/// have not queued overtake nobody: while somebody waits, the stack is shut. Naps rather than turns of a loop: the
/// connections are with threads that want a processor.
///
/// It is worth while only if connections come back that soon. `credit` learns it: a success adds to it, a failure takes
/// more; without credit one caller in `probes` tries. The counts need not be exact.
enum Spin {
  private static var naps: Int { 3 }
  private static var fullCredit: Int32 { 64 }
  private static var penalty: Int32 { 8 }
  private static var probes: Int32 { 64 }

  /// A session popped from the stack, not lent yet; nil when there came none.
  static func take(_ record: RecordPointer, until deadline: Instant) -> SessionPointer? {
    guard record.pointee.usesIdleStack else { return nil }
    let credit = record.pointee.spinCredit.load(ordering: .relaxed)
    guard credit > 0 else {
      record.pointee.spinCredit.store(credit <= -probes ? 1 : credit - 1, ordering: .relaxed)
      return nil
    }
    for _ in 0..<naps where Clock.now < deadline {
      pool_nap()
      let seat = record.pointee.idleStack.pop()
      guard seat == 0 else {
        record.pointee.spinCredit.store(Swift.min(credit + 1, fullCredit), ordering: .relaxed)
        return Seats.session(record, seat)
      }
    }
    record.pointee.spinCredit.store(Swift.max(0, credit - penalty), ordering: .relaxed)
    return nil
  }
}
