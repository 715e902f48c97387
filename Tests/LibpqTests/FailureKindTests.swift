import XCTest

@testable import Libpq

final class FailureKindTests: XCTestCase {
  private func kind(_ text: String) -> FailureKind {
    let bytes = Array(text.utf8)
    return bytes.withUnsafeBufferPointer { FailureKind(verboseMessage: $0) }
  }

  private func shown(_ text: String) -> String {
    let buffer = MessageBuffer()
    buffer.message.appendCleanedVerbose(cString: text)
    return buffer.text
  }

  private let refused =
    "connection to server at \"a\" (1.1.1.1), port 5432 failed: Connection refused\n\tIs the server running?\n"

  private func fatal(_ state: String) -> String {
    "connection to server at \"b\", port 5432 failed: FATAL:  \(state): words\nLOCATION:  auth_failed, auth.c:338\n"
  }

  func testTheSQLSTATEDecides() {
    for state in ["28P01", "28000", "3D000", "0A000"] { XCTAssertEqual(kind(fatal(state)), .permanent, state) }
    for state in ["57P03", "57P01", "08P01", "XX000", "42501"] { XCTAssertEqual(kind(fatal(state)), .transient, state) }
    XCTAssertEqual(kind(fatal("53300")), .tooManyConnections)
    XCTAssertEqual(kind(refused), .transient)
    XCTAssertEqual(kind(""), .transient)
  }

  func testTheServersLanguageDoesNotMatter() {
    XCTAssertEqual(kind("Verbindung fehlgeschlagen: FATAL:  28P01: Passwort\nORT:  f, a.c:1\n"), .permanent)
    XCTAssertEqual(kind("致命的エラー:  53300: 接続数\n"), .tooManyConnections)
  }

  func testSeveralHostsAreWeighed() {
    // localhost: refused on ::1, wrong password on 127.0.0.1.
    XCTAssertEqual(kind(refused + fatal("28P01")), .permanent)
    XCTAssertEqual(kind(fatal("57P03") + fatal("28P01")), .transient)
    XCTAssertEqual(kind(fatal("28P01") + fatal("57P03")), .transient)
    // First with TLS, then refused without it.
    XCTAssertEqual(kind(fatal("53300") + fatal("28000")), .tooManyConnections)
  }

  func testTextThatOnlyLooksLikeASQLSTATEIsNone() {
    XCTAssertEqual(kind("failed: FATAL:  28p01: words"), .transient)
    XCTAssertEqual(kind("failed: FATAL: 28P01: words"), .transient)
    XCTAssertEqual(kind("failed: FATAL:  28P01 words"), .transient)
    XCTAssertEqual(kind(fatal("3D000").replacingOccurrences(of: "words", with: "x:  53300: y")), .permanent)
  }

  func testTheServersSourceIsNotShown() {
    let text = "connection to server at \"b\", port 5432 failed: FATAL:  28P01: words"
    XCTAssertEqual(shown(fatal("28P01")), text)
    XCTAssertEqual(
      shown("x: FATAL:  28000: w\nDETAIL:  d\nEMPLACEMENT : f, auth.c : 12\n"), "x: FATAL:  28000: w; DETAIL:  d")
    XCTAssertEqual(shown("x\nEMPLACEMENT\u{A0}: f, auth.c\u{A0}: 12\n"), "x")
    XCTAssertEqual(
      shown(refused + fatal("57P03") + fatal("57P03")),
      "connection to server at \"a\" (1.1.1.1), port 5432 failed: Connection refused Is the server running?; "
        + text.replacingOccurrences(of: "28P01", with: "57P03") + "; "
        + text.replacingOccurrences(of: "28P01", with: "57P03"))
    XCTAssertEqual(shown("a\nport 80:80\n"), "a; port 80:80")
  }
}
