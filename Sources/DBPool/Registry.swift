import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// The records of all pools, and the way from a token to one.
enum Registry {
  enum Lookup {
    case found(RecordPointer)
    case failed(Int32)
  }

  /// The record of a pool, whatever its state; nil for a token that is not in force here and now.
  @inline(__always)
  static func record(_ pool: OpaquePointer?) -> RecordPointer? {
    let token = UInt64(UInt(bitPattern: pool))
    guard token & 1 == 1, let record = at(Token.index(token)),
      record.pointee.token.load(ordering: .acquiring) == token
    else { return nil }
    return record
  }

  /// As `record`, in fewer steps; NULL may find a record without a pool, which has nothing idle and nothing lent.
  @inline(__always)
  static func recordOrVoid(_ pool: OpaquePointer?) -> RecordPointer? {
    let token = UInt64(UInt(bitPattern: pool))
    guard let record = at(Token.index(token)), record.pointee.token.load(ordering: .acquiring) == token else {
      return nil
    }
    return record
  }

  @inline(__always)
  private static func at(_ index: Int) -> RecordPointer? {
    RecordPointer(bitPattern: directory[index].load(ordering: .acquiring))
  }

  /// Of `Token.indexLimit` entries, static and zero-filled, as `Atomic(0)` is.
  @inline(__always)
  private static var directory: UnsafeMutablePointer<Atomic<UInt>> {
    UnsafeMutableRawPointer(pool_records()).assumingMemoryBound(to: Atomic<UInt>.self)
  }

  /// As `record`, and tells why there is none. Revives a pool at its first use in a forked child.
  @inline(never)
  static func find(_ pool: OpaquePointer?) -> Lookup {
    if let record = record(pool) { return .found(record) }
    let token = UInt64(UInt(bitPattern: pool))
    guard Token.isPlausible(token), let record = at(Token.index(token)) else {
      return .failed(POOL_EINVAL)
    }
    let now = record.pointee.token.load(ordering: .acquiring)
    if now == token | Token.forkedBit {
      let code = Revival.revive(record, token: token)
      return code == POOL_OK ? .found(record) : .failed(code)
    }
    // A generation not yet reached was never given out.
    return Token.generation(token) < process.pointee.generation ? .failed(POOL_ECLOSED) : .failed(POOL_EINVAL)
  }

  /// A record for a new pool, without a token yet; nil when there is no memory.
  static func take() -> RecordPointer? {
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    if process.pointee.firstFree == nil { grow() }
    guard let record = process.pointee.firstFree else { return nil }
    process.pointee.firstFree = record.pointee.nextFree
    record.pointee.nextFree = nil
    return record
  }

  /// Gives the record a token: from here on the pool exists.
  static func publish(_ record: RecordPointer) -> UInt64 {
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    let token = Token.make(index: record.pointee.index, generation: process.pointee.generation)
    process.pointee.generation += 1
    record.pointee.token.store(token, ordering: .releasing)
    return token
  }

  /// The number that "pool-N" gets.
  static var nextNumber: Int {
    process.pointee.registryLock.lock()
    defer { process.pointee.registryLock.unlock() }
    return Int(process.pointee.generation) + 1
  }

  static func giveBack(_ record: RecordPointer) {
    process.pointee.registryLock.lock()
    record.pointee.nextFree = process.pointee.firstFree
    process.pointee.firstFree = record
    process.pointee.registryLock.unlock()
  }

  /// Calls `body` for each record that ever was. Under the registry lock, in the upkeep thread, or in a forked child.
  static func visit(_ body: (RecordPointer) -> Void) {
    for index in 0..<process.pointee.records.count {
      if let record = process.pointee.records.element(index) { body(record) }
    }
  }

  private static func grow() {
    guard process.pointee.records.nextSegmentCount <= Token.indexLimit / 2, process.pointee.records.prepare(),
      let segment = Memory.allocate(PoolRecord.self, count: process.pointee.records.nextSegmentCount)
    else { return }
    _ = process.pointee.records.add(segment) { memory, index in
      memory.initialize(to: PoolRecord(index: index))
      directory[index].store(UInt(bitPattern: memory), ordering: .releasing)
      memory.pointee.nextFree = process.pointee.firstFree
      process.pointee.firstFree = memory
    }
  }
}
