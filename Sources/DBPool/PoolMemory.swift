import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// The slots and tickets of a pool: taken by checked calls outside the lock, put in under it, never freed.
enum PoolMemory {
  /// Sees to at least `count` slots; false when there is no memory.
  static func provideSlots(_ record: RecordPointer, _ count: Int) -> Bool {
    while record.pointee.sessions.count < count {
      guard addSlots(record) else { return false }
    }
    return true
  }

  private static func addSlots(_ record: RecordPointer) -> Bool {
    let size = record.pointee.sessions.nextSegmentCount
    let total = record.pointee.sessions.count + size
    guard let segment = Memory.allocate(Session.self, count: size) else { return false }
    let heap = Memory.allocate(SlotPointer.self, count: total)
    let table = ConnectionTable.make(sessions: total)
    let seats = Seats.make(sessions: total)
    guard let heap, let table, let seats else {
      Memory.free(segment)
      Memory.free(heap)
      free(table.flatMap { UnsafeMutableRawPointer(bitPattern: $0) })
      free(seats.flatMap { UnsafeMutableRawPointer(bitPattern: $0) })
      return false
    }
    record.enter()
    guard record.pointee.sessions.nextSegmentCount == size else {
      // Another thread was faster.
      record.leave()
      Memory.free(segment)
      Memory.free(heap)
      free(UnsafeMutableRawPointer(bitPattern: table))
      free(UnsafeMutableRawPointer(bitPattern: seats))
      return true
    }
    let old = record.pointee.core.adoptExpiries(heap, capacity: total)
    let isAdded = record.pointee.sessions.add(segment) { memory, index in
      memory.initialize(to: Session(index: index, record: record))
      if record.pointee.isHosted { Hosting.number(memory) }
      record.pointee.core.add(slot: memory.slotPointer)
    }
    ConnectionTable.replace(record, with: table)
    Seats.replace(record, with: seats)
    record.leave()
    Memory.free(old)
    return isAdded
  }

  /// Adds tickets if there is no free one; false when there is no memory.
  static func provideTickets(_ record: RecordPointer) -> Bool {
    record.enter()
    let isProvided = record.pointee.core.hasFreeTicket
    let size = record.pointee.waiters.nextSegmentCount
    let total = record.pointee.waiters.count + size
    record.leave()
    return isProvided || addTickets(record, size, total)
  }

  private static func addTickets(_ record: RecordPointer, _ size: Int, _ total: Int) -> Bool {
    guard let segment = Memory.allocate(Waiter.self, count: size) else { return false }
    let heap = Memory.allocate(TicketPointer.self, count: total)
    record.enter()
    guard let heap, record.pointee.waiters.nextSegmentCount == size,
      record.pointee.waiters.count < record.pointee.waiters.limit - size
    else {
      let isGrown = record.pointee.waiters.nextSegmentCount != size
      record.leave()
      Memory.free(segment)
      Memory.free(heap)
      return isGrown
    }
    let old = record.pointee.core.adoptDeadlines(heap, capacity: total)
    let isAdded = record.pointee.waiters.add(segment) { memory, index in
      memory.initialize(to: Waiter(index: index))
      record.pointee.core.add(ticket: memory.ticketPointer)
    }
    record.leave()
    Memory.free(old)
    return isAdded
  }

  /// All slots and tickets as new: for another life of the record. Under the lock.
  static func addAll(_ record: RecordPointer) {
    ConnectionTable.clear(record)
    for index in 0..<record.pointee.sessions.count {
      guard let session = record.pointee.sessions.element(index) else { break }
      session.pointee.startOver()
      record.pointee.core.add(slot: session.slotPointer)
    }
    for index in 0..<record.pointee.waiters.count {
      guard let waiter = record.pointee.waiters.element(index) else { break }
      waiter.pointee.ticket.startOver()
      record.pointee.core.add(ticket: waiter.ticketPointer)
    }
  }
}

extension Session {
  /// As new. What it held is gone already, or is a parent process's.
  mutating func startOver() {
    slot.startOver()
    lent.store(0, ordering: .relaxed)
    stackGets.store(0, ordering: .relaxed)
    nextInBucket.store(0, ordering: .relaxed)
    handle = 0
    isDoubtful = false
    connection = nil
    noticeReceiver = nil
    noticeHooks = NoticeHooks()
    attemptSocket = Descriptor()
    descriptor = Descriptor()
    socketNumber = -1
    expectedSocket.store(Session.unfit, ordering: .relaxed)
    backendPID = 0
    target = .any
    finished = 0
    configuring = nil
    trespass = .none
    watchSerial &+= 1
    isLeakReported = false
    isListed = false
    stage = .none
  }
}
