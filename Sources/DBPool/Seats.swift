import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// The numbers by which sessions lie on the idle stack: the first 255 slots of a pool have one each.
///
/// A table of addresses, read without the lock; it grows with the pool, and the old ones stay: a reader may be in one.
enum Seats {
  /// Memory for the seats of so many sessions; nil when there is none.
  static func make(sessions: Int) -> UInt? {
    let count = Swift.min(sessions, IdleStackWord.seatLimit) + 1
    return Memory.allocate(UInt.self, count: count).map { UInt(bitPattern: $0) }
  }

  /// Moves to a larger table and seats the sessions that have no seat yet. Under the lock.
  static func replace(_ record: RecordPointer, with table: UInt) {
    guard let addresses = UnsafeMutablePointer<UInt>(bitPattern: table) else { return }
    addresses[0] = 0
    for index in 0..<Swift.min(record.pointee.sessions.count, IdleStackWord.seatLimit) {
      guard let session = record.pointee.sessions.element(index) else { break }
      session.pointee.seat = UInt8(index + 1)
      addresses[index + 1] = UInt(bitPattern: session)
    }
    record.pointee.seats.store(table, ordering: .releasing)
  }

  /// The session of a seat that was found on the stack.
  @inline(__always)
  static func session(_ record: RecordPointer, _ seat: UInt8) -> SessionPointer {
    let table = UnsafePointer<UInt>(bitPattern: record.pointee.seats.load(ordering: .acquiring))
    // Both are there: only seats of the table come onto the stack.
    return SessionPointer(bitPattern: table.unsafelyUnwrapped[Int(seat)]).unsafelyUnwrapped
  }
}
