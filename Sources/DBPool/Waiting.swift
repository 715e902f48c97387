import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// `pool_wait` and `pool_drain`: waits for the pool as a whole.
///
/// No change is missed: a waiter counts itself in `watchers` before it looks, and takes the value of `changes` under the
/// lock; whoever changes something does so under the lock, then looks at `watchers` and advances `changes`.
struct PoolWait {
  enum Look {
    case done
    case failed(Int32)
    case notYet
  }

  let record: RecordPointer
  let token: UInt64
  let deadline: Instant
  private let startedAt: Instant

  /// nil when it cannot wait here; the code is set.
  init?(_ record: RecordPointer, _ token: UInt64, timeout: Int32) {
    guard timeout >= POOL_TIMEOUT_INFINITE else {
      Failure.set(POOL_EINVAL, "timeout_ms is below -2; give milliseconds, 0 or POOL_TIMEOUT_INFINITE")
      return nil
    }
    guard pool_callback_get() != token else {
      Failure.set(POOL_EDEADLOCK)
      return nil
    }
    let effective = timeout == POOL_TIMEOUT_DEFAULT ? record.pointee.options.given.acquire_timeout_ms : timeout
    self.record = record
    self.token = token
    startedAt = Clock.now
    deadline = Deadline.after(effective, from: startedAt)
  }

  /// `pool_wait`: until `min_size` connections are open.
  func untilFilled() -> Int32 {
    wait { core in
      if core.isClosed { return .failed(POOL_ECLOSED) }
      if core.isDrained { return .failed(POOL_EPAUSED) }
      if core.hasMinimum { return .done }
      return core.failedForGood ? .failed(POOL_ECONNECT) : .notYet
    }
  }

  /// `pool_drain`: until nothing is left.
  func untilEmpty() -> Int32 {
    wait { core in
      if core.isClosed { return .failed(POOL_ECLOSED) }
      if !core.isDrained { return .failed(POOL_ECANCELED) }
      return core.total == 0 ? .done : .notYet
    }
  }

  private func wait(_ look: (borrowing PoolCore) -> Look) -> Int32 {
    record.pointee.watchers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    defer { record.pointee.watchers.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
    let slot = pool_error_slot_take()
    var isOver = false
    while true {
      record.enter()
      guard record.holds(token) else {
        record.leave()
        return Failure.set(POOL_ECLOSED)
      }
      let seen = record.pointee.changes.value
      switch look(record.pointee.core) {
      case .done:
        record.leave()
        return POOL_OK
      case .failed(let code):
        return fail(code, slot)
      case .notYet:
        if isOver { return fail(POOL_ETIMEOUT, slot) }
      }
      record.leave()
      isOver = record.pointee.changes.park(seen: seen, until: deadline) == .timedOut
    }
  }

  /// Under the lock; lets go of it.
  private func fail(_ code: Int32, _ slot: UnsafeMutablePointer<pool_error_slot>?) -> Int32 {
    var code = code
    if code == POOL_ETIMEOUT || code == POOL_ECONNECT {
      let isFilling = !record.pointee.core.isDrained
      let cannot = isFilling && (record.pointee.core.hasConnectFailure || record.pointee.core.isEmpty)
      let refusal: Refusal = code == POOL_ECONNECT || cannot ? .cannotConnect : .timedOut
      code = refusal == .cannotConnect ? POOL_ECONNECT : POOL_ETIMEOUT
      if let slot { RefusalReport(record, refusal, since: startedAt, until: deadline, wasTry: false).write(slot) }
      record.leave()
    } else {
      record.leave()
      if code == POOL_ECANCELED {
        Failure.set(code, "the pool was resumed while it was being drained")
      } else {
        Failure.set(code)
      }
    }
    return code
  }
}
