import XCTest

@testable import Libpq

final class SessionFateTests: XCTestCase {
  private func fate(_ state: String, severity: String? = nil) -> SessionFate {
    Array(state.utf8).withUnsafeBufferPointer { state in
      guard let severity else { return SessionFate(severity: nil, sqlState: state) }
      return Array(severity.utf8).withUnsafeBufferPointer { SessionFate(severity: $0, sqlState: state) }
    }
  }

  func testTheSQLSTATEDecides() {
    let harmless = [
      "22012", "23505", "40001", "42P01", "53300", "57014", "25001", "25P02", "XX000", "XX001", "28P01", "",
    ]
    for state in harmless { XCTAssertEqual(fate(state), .stays, state) }
    let fatal = ["08000", "08003", "08006", "08P01", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"]
    for state in fatal { XCTAssertEqual(fate(state), .ends, state) }
    XCTAssertEqual(fate("25006"), .isReadOnly)
  }

  func testTheSeverityEndsASessionWhateverTheSQLSTATE() {
    for severity in ["FATAL", "PANIC"] {
      for state in ["XX000", "53200", "58000", "25006"] { XCTAssertEqual(fate(state, severity: severity), .ends) }
    }
  }

  /// dblink and postgres_fdw.
  func testAForeignServersLostConnectionIsNotOurs() {
    XCTAssertEqual(fate("08001", severity: "ERROR"), .stays)
    XCTAssertEqual(fate("08006", severity: "ERROR"), .stays)
    XCTAssertEqual(fate("57P01", severity: "ERROR"), .ends)
    XCTAssertEqual(fate("25006", severity: "ERROR"), .isReadOnly)
  }

  func testASQLSTATEIsFiveDigitsOrCapitals() {
    func isState(_ text: String) -> Bool { Array(text.utf8).withUnsafeBufferPointer { isSQLState($0) } }
    for text in ["00000", "57P01", "XX000", "ZZZZZ"] { XCTAssertTrue(isState(text), text) }
    for text in ["", "0000", "000000", "57p01", "57 01", "57P0\n", "ÄÖ0"] { XCTAssertFalse(isState(text), text) }
  }
}
