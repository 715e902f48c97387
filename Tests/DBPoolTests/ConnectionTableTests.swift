import CPoolShims
import Foundation
import PoolCore
import Synchronization
import XCTest

@testable import DBPool

/// A record with sessions whose "connections" are numbers: the table never looks behind them.
private struct Fixture: @unchecked Sendable {
  // Changed under the record's lock.
  let record: RecordPointer

  init(sessions: Int) {
    record = makeRecord()
    XCTAssertTrue(PoolMemory.provideSlots(record, sessions))
  }

  var count: Int { record.pointee.sessions.count }

  func session(_ index: Int) -> SessionPointer { record.pointee.sessions.element(index)! }

  /// As when an attempt has succeeded.
  func list(_ index: Int, _ address: UInt) {
    session(index).pointee.connection = OpaquePointer(bitPattern: address)
    ConnectionTable.insert(session(index))
    session(index).pointee.isListed = true
  }

  /// As before a connection is closed.
  func remove(_ index: Int) {
    ConnectionTable.remove(session(index))
    session(index).pointee.isListed = false
    session(index).pointee.connection = nil
  }

  func lend(_ index: Int) {
    session(index).pointee.lent.store(UInt(bitPattern: session(index).pointee.connection), ordering: .relaxed)
  }

  func find(_ address: UInt) -> SessionPointer? { ConnectionTable.session(record, address) }

  /// As a put without the lock finds it; it is lent as before.
  func findLent(_ address: UInt) -> SessionPointer? {
    let found = ConnectionTable.takeFirst(record, address) ?? ConnectionTable.takeFurther(record, address)
    found?.pointee.lent.store(address, ordering: .relaxed)
    return found
  }

  func locked(_ body: () -> Void) {
    record.pointee.lock.lock()
    body()
    record.pointee.lock.unlock()
  }
}

/// Addresses that fall into one bucket of a table for 16 sessions: found by trying, as the table finds them.
private let colliding: [UInt] = {
  func bucket(_ address: UInt) -> UInt { (address &* 0x9E37_79B1) >> 20 & 63 }
  let first: UInt = 0x5000
  return Array((0..<16000).map { first + 16 * $0 }.filter { bucket($0) == bucket(first) }.prefix(16))
}()

private func address(_ index: Int) -> UInt { 0x7F00_0000_1000 + 0x4A0 * UInt(index) }

final class ConnectionTableTests: XCTestCase {
  func testWithoutATableNothingIsFound() {
    let record = makeRecord()
    XCTAssertNil(ConnectionTable.session(record, 0x1000))
    ConnectionTable.clear(record)
  }

  func testWhatIsInsertedIsFoundUntilItIsRemoved() {
    let fixture = Fixture(sessions: 16)
    for index in 0..<16 { fixture.list(index, address(index)) }
    for index in 0..<16 {
      XCTAssertEqual(fixture.find(address(index)), fixture.session(index))
      XCTAssertNil(fixture.findLent(address(index)), "it is not lent")
      fixture.lend(index)
      XCTAssertEqual(fixture.findLent(address(index)), fixture.session(index))
    }
    for other in [0, 1, address(16), UInt.max, address(0) + 1] {
      XCTAssertNil(fixture.find(other))
      if other != 0 { XCTAssertNil(fixture.findLent(other)) }
    }
    for index in 0..<16 {
      fixture.remove(index)
      XCTAssertNil(fixture.find(address(index)))
      for later in index + 1..<16 { XCTAssertEqual(fixture.find(address(later)), fixture.session(later)) }
    }
  }

  func testACollidingOneIsRemovedFromAnyPlace() {
    XCTAssertEqual(colliding.count, 16)
    // First, last and middle of the chain, which begins with the one inserted last.
    for removed in [15, 0, 7] {
      let fixture = Fixture(sessions: 16)
      for index in 0..<16 { fixture.list(index, colliding[index]) }
      fixture.remove(removed)
      for index in 0..<16 {
        XCTAssertEqual(fixture.find(colliding[index]), index == removed ? nil : fixture.session(index))
      }
      fixture.list(removed, colliding[removed])
      for index in 0..<16 { XCTAssertEqual(fixture.find(colliding[index]), fixture.session(index)) }
    }
  }

  func testAnAddressUsedAgainBelongsToItsNewSession() {
    let fixture = Fixture(sessions: 16)
    fixture.list(0, colliding[0])
    fixture.lend(0)
    fixture.remove(0)
    fixture.session(0).pointee.lent.store(0, ordering: .relaxed)
    fixture.list(1, colliding[0])
    fixture.lend(1)
    XCTAssertEqual(fixture.find(colliding[0]), fixture.session(1))
    XCTAssertEqual(fixture.findLent(colliding[0]), fixture.session(1))
  }

  func testRemovingOneThatIsNotThereChangesNothing() {
    let fixture = Fixture(sessions: 16)
    for index in 0..<3 { fixture.list(index, colliding[index]) }
    fixture.session(3).pointee.connection = OpaquePointer(bitPattern: colliding[3])
    ConnectionTable.remove(fixture.session(3))
    for index in 0..<3 { XCTAssertEqual(fixture.find(colliding[index]), fixture.session(index)) }
  }

  func testGrowthKeepsWhatIsListed() {
    let fixture = Fixture(sessions: 16)
    for index in 0..<16 { fixture.list(index, address(index)) }
    fixture.remove(4)
    fixture.lend(2)
    let before = fixture.record.pointee.connections.load(ordering: .relaxed)
    XCTAssertTrue(PoolMemory.provideSlots(fixture.record, 200))
    XCTAssertGreaterThanOrEqual(fixture.count, 200)
    XCTAssertNotEqual(fixture.record.pointee.connections.load(ordering: .relaxed), before)
    for index in 0..<16 {
      XCTAssertEqual(fixture.find(address(index)), index == 4 ? nil : fixture.session(index))
    }
    XCTAssertEqual(fixture.findLent(address(2)), fixture.session(2))
    for index in 16..<200 { fixture.list(index, address(index)) }
    for index in 0..<200 where index != 4 { XCTAssertEqual(fixture.find(address(index)), fixture.session(index)) }
  }

  func testProvidingFewerKeepsTheTable() {
    let fixture = Fixture(sessions: 48)
    let (table, count) = (fixture.record.pointee.connections.load(ordering: .relaxed), fixture.count)
    for sessions in [0, 1, 48] { XCTAssertTrue(PoolMemory.provideSlots(fixture.record, sessions)) }
    XCTAssertEqual(fixture.record.pointee.connections.load(ordering: .relaxed), table)
    XCTAssertEqual(fixture.count, count)
  }

  func testTheLargestPoolHasItsTable() {
    let fixture = Fixture(sessions: 65_535)
    for index in 0..<65_535 { fixture.list(index, address(index)) }
    var found = 0
    for index in 0..<65_535 where fixture.find(address(index)) == fixture.session(index) { found += 1 }
    XCTAssertEqual(found, 65_535)
  }

  func testALongChainIsLeftToTheLook() {
    let fixture = Fixture(sessions: 16)
    for index in 0..<16 {
      fixture.list(index, colliding[index])
      fixture.lend(index)
    }
    for index in 0..<16 { XCTAssertEqual(fixture.findLent(colliding[index]), fixture.session(index)) }
    // A reader may meet any chain while it is changed, a ring among them: it ends.
    fixture.session(3).pointee.nextInBucket.store(UInt(bitPattern: fixture.session(3)), ordering: .relaxed)
    XCTAssertNil(fixture.findLent(colliding[0]))
  }

  func testClearedItIsEmpty() {
    let fixture = Fixture(sessions: 16)
    for index in 0..<16 { fixture.list(index, address(index)) }
    ConnectionTable.clear(fixture.record)
    for index in 0..<16 { XCTAssertNil(fixture.find(address(index))) }
  }

  /// The holder of a connection looks for it without the lock, while others come and go in the same chains and the
  /// table grows. It may miss it, never find another; under the lock it finds it.
  func testAHolderFindsItsOwnWhileOthersChange() {
    struct State: ~Copyable {
      let isDone = Atomic<Bool>(false)
      let found = Atomic<Int>(0)
      let missed = Atomic<Int>(0)
      let wrong = Atomic<Int>(0)
    }
    let fixture = Fixture(sessions: 16)
    let state = Shared(State())
    for index in 0..<4 {
      fixture.list(index, colliding[index])
      fixture.lend(index)
    }
    inThreads(5) { index in
      if index == 4 {
        for round in 0..<2000 {
          for other in 4..<16 { fixture.locked { fixture.list(other, colliding[other]) } }
          for other in 4..<16 { fixture.locked { fixture.remove(round % 2 == 0 ? other : 19 - other) } }
          if round % 400 == 0 { _ = PoolMemory.provideSlots(fixture.record, fixture.count + 1) }
          // New sessions at the places of old ones.
          let newest = fixture.count - 1
          fixture.locked { fixture.list(newest, colliding[newest % 12 + 4]) }
          fixture.locked { fixture.remove(newest) }
        }
        state.pointer.pointee.isDone.store(true, ordering: .releasing)
        return
      }
      let own = colliding[index]
      repeat {
        switch fixture.findLent(own) {
        case fixture.session(index): state.pointer.pointee.found.wrappingAdd(1, ordering: .relaxed)
        case nil:
          state.pointer.pointee.missed.wrappingAdd(1, ordering: .relaxed)
          fixture.locked { XCTAssertEqual(fixture.find(own), fixture.session(index)) }
        default: state.pointer.pointee.wrong.wrappingAdd(1, ordering: .relaxed)
        }
      } while !state.pointer.pointee.isDone.load(ordering: .acquiring)
    }
    XCTAssertEqual(state.pointer.pointee.wrong.load(ordering: .relaxed), 0)
    XCTAssertGreaterThan(state.pointer.pointee.found.load(ordering: .relaxed), 0)
  }
}
