import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// From a connection's address to its session: buckets of sessions chained through `nextInBucket`.
///
/// Changed under the pool's lock, read by `pool_put` without it. A reader may meet a chain in the middle of a change and
/// miss its session, or wander into another chain; so it takes only a session whose `lent` is the address it looks for,
/// stops after a few steps, and what it misses is looked for again under the lock. Each link is stored releasing: its
/// session may have been made after the reader came in.
struct ConnectionTable: ~Copyable {
  private let mask: UInt
  /// The table that this one replaced.
  private let previous: UInt
  // The buckets follow.

  private static var headerSize: Int { 16 }

  private static func buckets(_ address: UInt) -> UnsafeMutablePointer<Atomic<UInt>> {
    // Not 0: the callers have checked it.
    UnsafeMutableRawPointer(bitPattern: address &+ UInt(headerSize)).unsafelyUnwrapped
      .assumingMemoryBound(to: Atomic<UInt>.self)
  }

  private static func mask(_ address: UInt) -> UInt {
    UnsafePointer<ConnectionTable>(bitPattern: address).unsafelyUnwrapped.pointee.mask
  }

  private static func bucket(_ table: UInt, _ connection: UInt) -> UnsafeMutablePointer<Atomic<UInt>> {
    // Fibonacci hashing: malloc's addresses differ in their middle bits.
    let hash = (connection &* 0x9E37_79B1) >> 20
    return buckets(table) + Int(hash & mask(table))
  }

  /// Memory for the sessions of a pool; nil when there is none. The old table stays: a reader may be in it.
  static func make(sessions: Int) -> UInt? {
    var size = 16
    // Sparse, so that nearly every session is the first in its bucket.
    while size < 4 * sessions { size *= 2 }
    guard let memory = calloc(1, headerSize + size * MemoryLayout<UInt>.stride) else { return nil }
    memory.storeBytes(of: UInt(size - 1), as: UInt.self)
    return UInt(bitPattern: memory)
  }

  /// Ends the loan of `connection` if its session is the first in its bucket. Without the lock; nil tells nothing.
  @inline(__always)
  static func takeFirst(_ record: RecordPointer, _ connection: UInt) -> SessionPointer? {
    // There is a table: a pool has one before it has a token.
    let table = record.pointee.connections.load(ordering: .acquiring)
    guard let session = SessionPointer(bitPattern: bucket(table, connection).pointee.load(ordering: .acquiring)),
      session.take(connection)
    else { return nil }
    return session
  }

  /// As `takeFirst`, behind the first.
  @inline(never)
  static func takeFurther(_ record: RecordPointer, _ connection: UInt) -> SessionPointer? {
    let table = record.pointee.connections.load(ordering: .acquiring)
    var next = bucket(table, connection).pointee.load(ordering: .acquiring)
    for _ in 0..<32 {
      guard let session = SessionPointer(bitPattern: next) else { return nil }
      if session.pointee.lent.load(ordering: .relaxed) == connection, session.take(connection) { return session }
      next = session.pointee.nextInBucket.load(ordering: .acquiring)
    }
    return nil
  }

  /// The session of `connection`, lent or not. Under the lock.
  static func session(_ record: RecordPointer, _ connection: UInt) -> SessionPointer? {
    let table = record.pointee.connections.load(ordering: .relaxed)
    guard table != 0 else { return nil }
    var next = bucket(table, connection).pointee.load(ordering: .relaxed)
    while let session = SessionPointer(bitPattern: next) {
      if UInt(bitPattern: session.pointee.connection) == connection { return session }
      next = session.pointee.nextInBucket.load(ordering: .relaxed)
    }
    return nil
  }

  /// Under the lock.
  static func insert(_ session: SessionPointer) {
    let table = session.pointee.record.pointee.connections.load(ordering: .relaxed)
    guard table != 0 else { return }
    let bucket = bucket(table, UInt(bitPattern: session.pointee.connection))
    session.pointee.nextInBucket.store(bucket.pointee.load(ordering: .relaxed), ordering: .releasing)
    bucket.pointee.store(UInt(bitPattern: session), ordering: .releasing)
  }

  /// Under the lock.
  static func remove(_ session: SessionPointer) {
    let record = session.pointee.record
    let table = record.pointee.connections.load(ordering: .relaxed)
    guard table != 0 else { return }
    let own = UInt(bitPattern: session)
    let after = session.pointee.nextInBucket.load(ordering: .relaxed)
    let bucket = bucket(table, UInt(bitPattern: session.pointee.connection))
    if bucket.pointee.load(ordering: .relaxed) == own {
      bucket.pointee.store(after, ordering: .releasing)
      return
    }
    var next = bucket.pointee.load(ordering: .relaxed)
    while let earlier = SessionPointer(bitPattern: next) {
      next = earlier.pointee.nextInBucket.load(ordering: .relaxed)
      if next == own {
        earlier.pointee.nextInBucket.store(after, ordering: .releasing)
        return
      }
    }
  }

  /// Makes it the first in its bucket: it is about to be lent. Under the lock.
  static func promote(_ session: SessionPointer) {
    let table = session.pointee.record.pointee.connections.load(ordering: .relaxed)
    let first = bucket(table, UInt(bitPattern: session.pointee.connection)).pointee.load(ordering: .relaxed)
    guard first != UInt(bitPattern: session), session.pointee.isListed else { return }
    remove(session)
    insert(session)
  }

  /// Moves all sessions to a larger table. Under the lock.
  static func replace(_ record: RecordPointer, with table: UInt) {
    let previous = record.pointee.connections.load(ordering: .relaxed)
    UnsafeMutableRawPointer(bitPattern: table)?.storeBytes(
      of: previous, toByteOffset: MemoryLayout<UInt>.stride, as: UInt.self)
    record.pointee.connections.store(table, ordering: .releasing)
    for index in 0..<record.pointee.sessions.count {
      if let session = record.pointee.sessions.element(index), session.pointee.isListed { insert(session) }
    }
  }

  /// Empties it: in a forked child, or for another life of the record. Under the lock.
  static func clear(_ record: RecordPointer) {
    let table = record.pointee.connections.load(ordering: .relaxed)
    guard table != 0 else { return }
    for index in 0...mask(table) { buckets(table)[Int(index)].store(0, ordering: .relaxed) }
  }
}
