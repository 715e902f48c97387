import XCTest

@testable import Libpq

final class MessageTests: XCTestCase {
  func testTextAndNumbersAreAppended() {
    let buffer = MessageBuffer()
    buffer.message.append("a ")
    buffer.message.append(Int.min)
    buffer.message.append(" ")
    buffer.message.append(0)
    buffer.message.append(cString: " b")
    buffer.message.append(cString: nil)
    XCTAssertEqual(buffer.text, "a -9223372036854775808 0 b")
    XCTAssertEqual(buffer.message.count, buffer.text.utf8.count)
    buffer.message.clear()
    XCTAssertEqual(buffer.text, "")
  }

  func testAFullMessageEndsAtACharacter() {
    for capacity in 1...12 {
      let buffer = MessageBuffer(capacity: capacity)
      buffer.message.append("aé€𝄞z")
      buffer.message.append("tail")
      let fitting = "aé€𝄞ztail".unicodeScalars.reduce(into: "") { text, scalar in
        if text.utf8.count + String(scalar).utf8.count < capacity, "aé€𝄞ztail".hasPrefix(text + String(scalar)) {
          text.unicodeScalars.append(scalar)
        }
      }
      XCTAssertTrue("aé€𝄞z".hasPrefix(buffer.text), buffer.text)
      XCTAssertLessThan(buffer.message.count, capacity)
      if capacity <= 11 { XCTAssertEqual(buffer.text, String(fitting.prefix(buffer.text.count))) }
      XCTAssertGreaterThan(buffer.message.count, capacity - 5)
    }
  }

  func testNothingIsWrittenWithoutRoom() {
    var byte: CChar = 77
    var message = Message(&byte, capacity: 0)
    message.append("x")
    XCTAssertEqual(byte, 77)
    XCTAssertEqual(message.count, 0)
  }

  func testServerTextIsPutOnOneLineWithoutControls() {
    let cases = [
      ("FATAL:  no\n", "FATAL:  no"),
      ("one\ntwo\n\n", "one; two"),
      ("failed: refused\n\tIs the server running?\nnext\n", "failed: refused Is the server running?; next"),
      ("\u{1B}[31mred\u{7F}\u{7}\r\n", "[31mred"),
      ("a\u{9B}31mb\u{202E}c", "a31mbc"),
      ("  lead", "lead"),
      ("é€𝄞", "é€𝄞"),
      ("", ""),
      ("\n \t\n", ""),
    ]
    for (raw, clean) in cases {
      let buffer = MessageBuffer()
      buffer.message.appendCleaned(cString: raw)
      XCTAssertEqual(buffer.text, clean)
    }
  }

  func testBytesThatAreNoUTF8AreReplaced() {
    let cases: [([UInt8], String)] = [
      ([0x61, 0xE9, 0x62], "a?b"),
      ([0x9B, 0x41], "?A"),
      ([0xC0, 0xAF], "??"),
      ([0xED, 0xA0, 0x80], "???"),
      ([0xF5, 0x80, 0x80, 0x80], "????"),
      ([0x61, 0xE2, 0x82], "a??"),
      ([0xF0, 0x9D, 0x84, 0x9E], "𝄞"),
    ]
    for (raw, clean) in cases {
      let buffer = MessageBuffer()
      raw.withUnsafeBufferPointer { buffer.message.appendCleaned(bytes: $0.baseAddress!, count: $0.count) }
      XCTAssertEqual(buffer.text, clean)
    }
  }
}
