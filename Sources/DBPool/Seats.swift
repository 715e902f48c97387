import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// The numbers by which sessions lie on the idle stack. There are 255: in a pool of more slots those that are lent get them, of
/// others that are not.
///
/// A table of addresses, read without the lock; it grows with the pool, and the old ones stay: a reader may be in one. Its
/// entry 0, which is nobody's seat, is the table that it replaced.
enum Seats {
  /// Memory for the seats of so many sessions; nil when there is none.
  static func make(sessions: Int) -> UInt? {
    let count = Swift.min(sessions, IdleStackWord.seatLimit) + 1
    return Memory.allocate(UInt.self, count: count).map { UInt(bitPattern: $0) }
  }

  /// Moves to a larger table and seats the sessions that have no seat yet. Under the lock.
  static func replace(_ record: RecordPointer, with table: UInt) {
    guard let addresses = UnsafeMutablePointer<UInt>(bitPattern: table) else { return }
    let previous = record.pointee.seats.load(ordering: .relaxed)
    if let old = UnsafePointer<UInt>(bitPattern: previous) {
      addresses.update(from: old, count: record.pointee.seatCount + 1)
    }
    addresses[0] = previous
    // Those that have a seat are left alone: others read theirs without the lock.
    for index in record.pointee.seatCount..<Swift.min(record.pointee.sessions.count, IdleStackWord.seatLimit) {
      guard let session = record.pointee.sessions.element(index) else { break }
      session.pointee.seat = UInt8(index + 1)
      addresses[index + 1] = UInt(bitPattern: session)
      record.pointee.seatCount = index + 1
    }
    record.pointee.seats.store(table, ordering: .releasing)
  }

  /// Finds a seat for a session that the state machine is about to lend, if there is one soon enough. Under the lock. No
  /// seat is taken from a session that is lent: only its borrower and the stack use it.
  static func assign(_ session: SessionPointer) {
    let record = session.pointee.record
    guard let table = UnsafeMutablePointer<UInt>(bitPattern: record.pointee.seats.load(ordering: .relaxed)) else {
      return
    }
    for _ in 0..<8 {
      let seat = record.pointee.nextSeat
      record.pointee.nextSeat = seat == UInt8(IdleStackWord.seatLimit) ? 1 : seat + 1
      guard let holder = SessionPointer(bitPattern: table[Int(seat)]), holder.pointee.slot.state != .leased else {
        continue
      }
      holder.pointee.seat = 0
      session.pointee.seat = seat
      table[Int(seat)] = UInt(bitPattern: session)
      return
    }
  }

  /// The session of a seat that was found on the stack.
  @inline(__always)
  static func session(_ record: RecordPointer, _ seat: UInt8) -> SessionPointer {
    let table = UnsafePointer<UInt>(bitPattern: record.pointee.seats.load(ordering: .acquiring))
    // Both are there: only seats of the table come onto the stack.
    return SessionPointer(bitPattern: table.unsafelyUnwrapped[Int(seat)]).unsafelyUnwrapped
  }
}
