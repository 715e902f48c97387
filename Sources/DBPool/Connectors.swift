import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// The threads that may block: in a resolver, in a callback, in the arithmetic of SCRAM. They come when there is work
/// and go a second after the last.
///
/// At most `limit` for the process, but a pool that has none at work always gets one: threads stuck for one pool hold
/// up no other.
enum Connectors {
  static var limit: Int { 64 }
  private static var idleTime: Nanoseconds { .milliseconds(1000) }

  /// Queues the job. 0, or an errno value when there is no thread for it and none can be started: the job is not
  /// queued then.
  static func submit(_ job: UnsafeMutablePointer<Job>) -> Int32 {
    process.pointee.connectorLock.lock()
    job.pointee.isQueued = true
    process.pointee.jobs.append(job)
    let isFirstOfPool = job.pointee.record?.pointee.running == 0
    if process.pointee.idleConnectors >= process.pointee.jobs.count {
      process.pointee.work.advance()
      process.pointee.connectorLock.unlock()
      process.pointee.work.wake(1)
      return 0
    }
    guard process.pointee.connectors < limit || isFirstOfPool else {
      process.pointee.connectorLock.unlock()
      return 0
    }
    process.pointee.connectors += 1
    process.pointee.connectorLock.unlock()
    let error = Threads.start({ _ in Connectors.run() }, nil, callsHost: true)
    return error == 0 ? 0 : startFailed(job, error)
  }

  /// A thread without work will do the job; otherwise it is taken back: those at work may hang.
  private static func startFailed(_ job: UnsafeMutablePointer<Job>, _ error: Int32) -> Int32 {
    process.pointee.connectorLock.lock()
    defer { process.pointee.connectorLock.unlock() }
    process.pointee.connectors -= 1
    guard process.pointee.idleConnectors == 0, job.pointee.isQueued else { return 0 }
    job.pointee.isQueued = false
    process.pointee.jobs.remove(job)
    return error
  }

  /// `by` threads less, or more, are at work for the pool: one whose attempt was given up does not count until it is back,
  /// or the threads that hang for some pools would be all there are for the others.
  static func discount(_ record: RecordPointer, by count: Int) {
    process.pointee.connectorLock.lock()
    record.pointee.running -= count
    process.pointee.connectors -= count
    process.pointee.connectorLock.unlock()
  }

  private static func run() -> UnsafeMutableRawPointer? {
    process.pointee.connectorLock.lock()
    while let job = waitForJob() {
      let (kind, session, attempt) = (job.pointee.kind, job.pointee.session, job.pointee.attempt)
      guard let record = job.pointee.record else { continue }
      record.pointee.running += 1
      process.pointee.connectorLock.unlock()
      switch kind {
      case .attempt: if let session { ConnectorAttempt(session, attempt).run() }
      case .callbacks: Callbacks.run(record)
      }
      process.pointee.connectorLock.lock()
      record.pointee.running -= 1
    }
    process.pointee.connectors -= 1
    process.pointee.connectorLock.unlock()
    if LibpqGate.enter() {
      pool_tls_thread_end()
      LibpqGate.leave()
    }
    return nil
  }

  /// Under `connectorLock`, as at return; nil when there was nothing to do for a second.
  private static func waitForJob() -> UnsafeMutablePointer<Job>? {
    let deadline = Clock.now.after(idleTime)
    var isOver = false
    while true {
      if let job = nextJob() {
        job.pointee.isQueued = false
        process.pointee.jobs.remove(job)
        return job
      }
      if isOver { return nil }
      let seen = process.pointee.work.value
      process.pointee.idleConnectors += 1
      process.pointee.connectorLock.unlock()
      isOver = process.pointee.work.park(seen: seen, until: deadline) == .timedOut
      process.pointee.connectorLock.lock()
      process.pointee.idleConnectors -= 1
    }
  }

  /// The oldest job of a pool that has no thread at work, as when it came its pool's last thread may not have been back
  /// yet; then the oldest, unless there are threads above the limit.
  private static func nextJob() -> UnsafeMutablePointer<Job>? {
    var job = process.pointee.jobs.first
    while let candidate = job {
      if candidate.pointee.record?.pointee.running == 0 { return candidate }
      job = candidate.pointee.next
    }
    return process.pointee.connectors > limit ? nil : process.pointee.jobs.first
  }
}
