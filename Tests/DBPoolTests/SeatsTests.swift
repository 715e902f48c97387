import CPoolShims
import XCTest

@testable import DBPool
@testable import PoolCore

final class SeatsTests: XCTestCase {
  /// With more slots than seats.
  private func large() -> RecordPointer {
    let record = makeRecord(maxSize: 300)
    XCTAssertTrue(PoolMemory.provideSlots(record, 300))
    return record
  }

  private func session(_ record: RecordPointer, _ index: Int) -> SessionPointer {
    record.pointee.sessions.element(index)!
  }

  func testTheFirstSlotsHaveASeatEach() {
    let record = large()
    for index in 0..<255 {
      XCTAssertEqual(session(record, index).pointee.seat, UInt8(index + 1))
      XCTAssertEqual(Seats.session(record, UInt8(index + 1)), session(record, index))
    }
    XCTAssertEqual(session(record, 255).pointee.seat, 0)
  }

  func testOneWithoutASeatGetsThatOfOneThatIsNotLent() {
    let record = large()
    session(record, 0).pointee.slot.state = .leased
    Seats.assign(session(record, 299))
    XCTAssertEqual(session(record, 299).pointee.seat, 2)
    XCTAssertEqual(Seats.session(record, 2), session(record, 299))
    XCTAssertEqual(session(record, 1).pointee.seat, 0)
    XCTAssertEqual(session(record, 0).pointee.seat, 1)
  }

  func testNobodyWhoIsLentLosesASeat() {
    let record = large()
    for index in 0..<255 { session(record, index).pointee.slot.state = .leased }
    for _ in 0..<40 { Seats.assign(session(record, 299)) }
    XCTAssertEqual(session(record, 299).pointee.seat, 0)
    for index in 0..<255 { XCTAssertEqual(session(record, index).pointee.seat, UInt8(index + 1)) }
  }

  func testAPoolThatGrowsKeepsItsSeats() {
    let record = large()
    Seats.assign(session(record, 299))
    XCTAssertTrue(PoolMemory.provideSlots(record, 1000))
    XCTAssertEqual(Seats.session(record, 1), session(record, 299))
    XCTAssertEqual(session(record, 0).pointee.seat, 0)
  }
}
