import CDBPool
import CPoolShims
import PoolCore
import Synchronization
import XCTest

@testable import DBPool

/// What the code takes for granted about memory.
final class LayoutTests: XCTestCase {
  func testASlotsAddressIsItsSessions() {
    let record = makeRecord()
    XCTAssertTrue(PoolMemory.provideSlots(record, 16))
    guard let session = record.pointee.sessions.element(3) else { return XCTFail("no session") }
    // By its member, not by the address.
    withUnsafeMutablePointer(to: &session.pointee.slot) { slot in
      XCTAssertEqual(UnsafeMutableRawPointer(slot), UnsafeMutableRawPointer(session))
      XCTAssertEqual(Session.of(slot), session)
      XCTAssertEqual(session.slotPointer, slot)
    }
    session.slotPointer.pointee.due = 77
    XCTAssertEqual(session.pointee.slot.due, 77)
    XCTAssertEqual(session.pointee.index, 3)
    withUnsafeMutablePointer(to: &session.pointee.job) { XCTAssertEqual(session.jobPointer, $0) }
  }

  func testATicketsAddressIsItsWaiters() {
    let record = makeRecord()
    XCTAssertTrue(PoolMemory.provideTickets(record))
    guard let waiter = record.pointee.waiters.element(5) else { return XCTFail("no waiter") }
    withUnsafeMutablePointer(to: &waiter.pointee.ticket) { ticket in
      XCTAssertEqual(UnsafeMutableRawPointer(ticket), UnsafeMutableRawPointer(waiter))
      XCTAssertEqual(Waiter.of(ticket), waiter)
      XCTAssertEqual(waiter.ticketPointer, ticket)
    }
    waiter.ticketPointer.pointee.due = 88
    XCTAssertEqual(waiter.pointee.ticket.due, 88)
    XCTAssertEqual(waiter.pointee.index, 5)
  }

  func testTheJobOfTheCallbacksStaysInItsRecord() {
    let record = makeRecord()
    withUnsafeMutablePointer(to: &record.pointee.callbackJob) { XCTAssertEqual(record.callbackJobPointer, $0) }
  }

  func testTheProcessFitsItsMemory() {
    XCTAssertLessThanOrEqual(MemoryLayout<DBPool.Process>.size, Int(POOL_PROCESS_SIZE))
    XCTAssertLessThanOrEqual(MemoryLayout<DBPool.Process>.alignment, 64)
    XCTAssertEqual(Int(bitPattern: pool_process()) % 64, 0)
  }

  func testZeroFilledMemoryIsAProcess() throws {
    let memory = try XCTUnwrap(calloc(1, Int(POOL_PROCESS_SIZE)))
    defer { free(memory) }
    let process = memory.assumingMemoryBound(to: DBPool.Process.self)
    XCTAssertTrue(process.pointee.registryLock.tryLock())
    XCTAssertTrue(process.pointee.connectorLock.tryLock())
    XCTAssertNil(process.pointee.firstFree)
    XCTAssertNil(process.pointee.records.element(0))
    XCTAssertEqual(process.pointee.records.count, 0)
    XCTAssertFalse(process.pointee.isPrepared)
    XCTAssertFalse(process.pointee.isUpkeepRunning)
    XCTAssertTrue(process.pointee.jobs.isEmpty)
    XCTAssertNil(process.pointee.jobs.first)
    XCTAssertEqual(process.pointee.firstSignalled.load(ordering: .relaxed), 0)
    XCTAssertEqual(process.pointee.work.value, 0)
  }

  func testTheDirectoryOfRecordsHasWordsOfItsSize() {
    XCTAssertEqual(MemoryLayout<Atomic<UInt>>.size, MemoryLayout<UInt>.size)
    XCTAssertEqual(MemoryLayout<Atomic<UInt>>.stride, MemoryLayout<UInt>.stride)
    XCTAssertEqual(Token.indexLimit & (Token.indexLimit - 1), 0, "used as a mask")
    XCTAssertEqual(Int(bitPattern: pool_records()) % MemoryLayout<Atomic<UInt>>.alignment, 0)
  }

  func testMallocsAlignmentIsEnough() {
    XCTAssertLessThanOrEqual(MemoryLayout<PoolRecord>.alignment, 16)
    XCTAssertLessThanOrEqual(MemoryLayout<Session>.alignment, 16)
    XCTAssertLessThanOrEqual(MemoryLayout<Waiter>.alignment, 16)
  }

  func testThePublicStructsHaveNoPadding() {
    XCTAssertEqual(MemoryLayout<pool_options_t>.size, 8 * 8 + 18 * 4)
    XCTAssertEqual(MemoryLayout<pool_options_t>.offset(of: \.reserved), Options.firstSize - 4)
    XCTAssertEqual(MemoryLayout<pool_stats_t>.size, 35 * 8)
    XCTAssertEqual(MemoryLayout<pool_options_t>.offset(of: \.size), 0)
    XCTAssertEqual(MemoryLayout<pool_stats_t>.offset(of: \.size), 0)
    for (position, number) in numbers.enumerated() {
      XCTAssertEqual(MemoryLayout<pool_options_t>.offset(of: number.path), 64 + 4 * position, number.name)
    }
  }

  func testTheErrorSlotsMessageIsFoundAtItsOffset() {
    let slot = pool_error_slot_take()
    XCTAssertNotNil(slot)
    XCTAssertEqual(Int(pool_error_message_offset()), 4)
    XCTAssertEqual(MemoryLayout<pool_error_slot>.size, 4 + Int(POOL_MESSAGE_SIZE))
  }

  func testWatchTokensDiffer() {
    let record = makeRecord()
    XCTAssertTrue(PoolMemory.provideSlots(record, 48))
    var tokens = Set<UInt64>()
    for index in 0..<48 {
      guard let session = record.pointee.sessions.element(index) else { return XCTFail("no session") }
      for serial in [0, 1, 0xFF_FFFF] as [UInt32] {
        session.pointee.watchSerial = serial
        tokens.insert(session.pointee.watchToken)
      }
    }
    XCTAssertEqual(tokens.count, 48 * 3)
  }
}
