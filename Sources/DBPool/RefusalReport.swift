import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// The error of a get that ended without a connection: why, for how long, and who has the connections.
struct RefusalReport {
  private let record: RecordPointer
  private let refusal: Refusal
  private let waited: Nanoseconds
  private let wasTry: Bool

  /// It waited from `start`, at most until `deadline`: that it was noticed later is not the caller's business.
  init(_ record: RecordPointer, _ refusal: Refusal, since start: Instant, until deadline: Instant, wasTry: Bool) {
    self.record = record
    self.refusal = refusal
    waited = Swift.min(Clock.now, deadline) &- start
    self.wasTry = wasTry
  }

  private var code: Int32 {
    switch refusal {
    case .timedOut: POOL_ETIMEOUT
    case .cannotConnect: POOL_ECONNECT
    case .paused: POOL_EPAUSED
    case .closed: POOL_ECLOSED
    case .full: POOL_EFULL
    case .canceled: POOL_ECANCELED
    }
  }

  /// Fills the thread's slot and returns the code. Under the pool's lock: it only copies text.
  @discardableResult
  func write(_ slot: UnsafeMutablePointer<pool_error_slot>) -> Int32 {
    slot.pointee.code = code
    var message = Failure.message(slot)
    message.append("pool \"")
    message.appendCleaned(cString: record.pointee.options.name)
    message.append("\": ")
    appendReason(&message)
    switch refusal {
    case .timedOut, .cannotConnect, .paused, .full: appendState(&message)
    case .closed, .canceled: break
    }
    return code
  }

  private func appendReason(_ message: inout Message) {
    switch refusal {
    case .timedOut: message.append("no connection came free")
    case .cannotConnect: message.append("no connection could be opened")
    case .paused: message.append("the pool is paused, and was not resumed")
    case .closed: message.append("the pool is closed")
    case .full: message.append("max_waiting callers wait already")
    case .canceled: message.append("the ticket was taken back by pool_get_cancel")
    }
    switch refusal {
    case .timedOut, .cannotConnect, .paused:
      if wasTry { return message.append(" at once") }
      message.append(" within ")
      message.append(Int(waited / 1_000_000))
      message.append(" ms")
    case .closed, .full, .canceled: break
    }
  }

  private func appendState(_ message: inout Message) {
    let gauges = record.pointee.core.gauges
    message.append(" (")
    append(gauges.inUse, " in use, ", &message)
    append(gauges.idle, " idle, ", &message)
    append(gauges.opening, " connecting, ", &message)
    let busy = gauges.background &+ gauges.closing
    if busy > 0 { append(busy, " in reset, check or close, ", &message) }
    append(gauges.waiting, " waiting, max_size ", &message)
    message.append(record.pointee.core.settings.maxSize)
    message.append(")")
    guard let error = record.pointee.lastError.cString, !record.pointee.lastError.isEmpty else {
      if record.pointee.core.sessionsDoNotLast { message.append("; sessions are lost as soon as they are opened") }
      return
    }
    message.append("; last connect error: ")
    message.append(cString: error)
  }

  private func append(_ number: Int, _ text: StaticString, _ message: inout Message) {
    message.append(number)
    message.append(text)
  }
}
