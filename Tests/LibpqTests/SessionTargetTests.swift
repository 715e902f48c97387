import XCTest

@testable import Libpq

final class SessionTargetTests: XCTestCase {
  private func target(_ attribute: String) -> SessionTarget {
    Array(attribute.utf8).withUnsafeBufferPointer { SessionTarget(attribute: $0) }
  }

  func testTheValuesOfLibpq() {
    XCTAssertEqual(target("read-write"), .readWrite)
    XCTAssertEqual(target("read-only"), .readOnly)
    XCTAssertEqual(target("primary"), .primary)
    XCTAssertEqual(target("standby"), .standby)
    XCTAssertEqual(target("prefer-standby"), .standby)
    XCTAssertEqual(target("any"), .any)
    XCTAssertEqual(target(""), .any)
  }

  /// (in_hot_standby, default_transaction_read_only) of a primary, a primary with read-only default, a standby.
  func testWhatMeetsEach() {
    let servers: [(Bool, Bool)] = [(false, false), (false, true), (true, false), (true, true)]
    func met(_ target: SessionTarget) -> [Bool?] { servers.map { target.isMet(inHotStandby: $0.0, isReadOnly: $0.1) } }
    XCTAssertEqual(met(.readWrite), [true, false, false, false])
    XCTAssertEqual(met(.readOnly), [false, true, true, true])
    XCTAssertEqual(met(.primary), [true, true, false, false])
    XCTAssertEqual(met(.standby), [false, false, true, true])
    XCTAssertEqual(met(.any), [nil, nil, nil, nil])
  }

  func testWhatTheServerDoesNotReportIsNotKnown() {
    for target in [SessionTarget.readWrite, .readOnly, .primary, .standby] {
      XCTAssertNil(target.isMet(inHotStandby: nil, isReadOnly: nil))
    }
    XCTAssertNil(SessionTarget.readWrite.isMet(inHotStandby: false, isReadOnly: nil))
    XCTAssertEqual(SessionTarget.readWrite.isMet(inHotStandby: nil, isReadOnly: true), false)
  }
}
