import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// A pool's first use in a forked child: it starts empty, with its options and limits.
enum Revival {
  /// 0, or a code whose message is set; then the next use tries again.
  static func revive(_ record: RecordPointer, token: UInt64) -> Int32 {
    let code = ProcessLife.start(usesTLS: record.pointee.usesTLS)
    guard code == POOL_OK else { return code }
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    // Another thread of the child was faster.
    guard record.pointee.token.load(ordering: .relaxed) == token | Token.forkedBit else { return POOL_OK }
    guard let loans = ForkedLoans(of: record) else { return Failure.set(POOL_ENOMEM) }
    record.pointee.forkedLoans?.free()
    record.pointee.forkedLoans = loans

    record.enter()
    record.pointee.core.startOver()
    if record.pointee.isHosted { Hosting.noteForked(record) }
    PoolMemory.addAll(record)
    if record.pointee.isHosted { Hosting.numberOn(record) }
    record.pointee.loginTurns = LoginTurns()
    record.pointee.jobs = 0
    record.pointee.leaks = 0
    (record.pointee.toldGets, record.pointee.toldPuts) = (0, 0)
    record.pointee.isCallbackRunning = false
    record.pointee.log.startOver()
    record.pointee.lastError.clear()
    record.pointee.token.store(token, ordering: .releasing)
    record.leave()
    Upkeep.signal(record)
    return POOL_OK
  }
}

/// The addresses of connections that were lent before a fork, in this process or in those it comes from.
struct ForkedLoans {
  private var addresses: UnsafeMutablePointer<UInt>
  private var count = 0

  /// Those known so far and those lent now; nil when there is no memory.
  init?(of record: RecordPointer) {
    let earlier = record.pointee.forkedLoans
    let limit = (earlier?.count ?? 0) + record.pointee.sessions.count
    guard let memory = Memory.allocate(UInt.self, count: limit) else { return nil }
    addresses = memory
    if let earlier {
      for index in 0..<earlier.count { append(earlier.addresses[index]) }
    }
    for index in 0..<record.pointee.sessions.count {
      guard let session = record.pointee.sessions.element(index) else { break }
      let address = session.pointee.lent.load(ordering: .relaxed)
      if address != 0 { append(address) }
    }
  }

  private mutating func append(_ address: UInt) {
    addresses[count] = address
    count += 1
  }

  func contains(_ address: UInt) -> Bool {
    for index in 0..<count where addresses[index] == address { return true }
    return false
  }

  func free() { Memory.free(addresses) }
}
