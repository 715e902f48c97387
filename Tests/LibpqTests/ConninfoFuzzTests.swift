import XCTest

@testable import Libpq

/// libpq's own parser is the measure: with our key renamed to one of its own it must read the same value, and without
/// our keys the same rest.
final class ConninfoFuzzTests: XCTestCase {
  private static let seed: UInt64 = 20_241_114
  private static let rounds = 50_000

  private static let keywordPieces = [
    "KEY=", "KEY = ", "KEY", "=", " ", "  ", "\t", "\n", "'", "\\", "\\'", "''", "host=", "password=", "port=1 ", "a",
    "é", "x y",
    "dbname='d d' ", "KEY='v' ", "KEY=v ", "KEY='a\\'b'", "\u{B}",
  ]
  private static let uriPieces = [
    "KEY=", "KEY", "=", "&", "?", "/", "@", ":", ",", "[", "]", "[::1]", "host=h", "%41", "%", "%zz", "%00", "%c3%a9",
    "a", "é", "'",
    "&KEY=v", "?KEY=v", "user=u&", "+", "\\",
  ]

  func testRandomKeywordsAreReadAsLibpqReadsThem() {
    XCTAssertGreaterThan(compare("", Self.keywordPieces), Self.rounds / 100)
  }

  func testRandomURIsAreReadAsLibpqReadsThem() {
    XCTAssertGreaterThan(compare("postgresql://", Self.uriPieces), Self.rounds / 100)
  }

  /// Returns how many conninfos libpq accepted.
  private func compare(_ prefix: String, _ pieces: [String]) -> Int {
    var generator = SeededGenerator(state: Self.seed)
    var accepted = 0
    for round in 0..<Self.rounds {
      var template = prefix
      for _ in 0..<Int.random(in: 0...12, using: &generator) { template += pieces.randomElement(using: &generator)! }
      let ours = template.replacingOccurrences(of: "KEY", with: "pool_krbsrvname")
      let result = split(ours)
      if result.options.isEmpty { XCTAssertEqual(result.rest, ours, "round \(round)") }
      guard let expected = libpqValues(template.replacingOccurrences(of: "KEY", with: "krbsrvname")) else { continue }
      accepted += 1
      var rest = expected
      rest["krbsrvname"] = nil
      let last = result.options.last.map { renamed($0[1]) }
      XCTAssertEqual(last, expected["krbsrvname"], "round \(round): \(ours)")
      let passedOn = libpqValues(result.rest)?.mapValues(renamed)
      XCTAssertEqual(passedOn, rest, "round \(round): \(ours) gave \(result.rest)")
    }
    return accepted
  }

  /// Our key can also stand in a value.
  private func renamed(_ text: String) -> String {
    text.replacingOccurrences(of: "pool_krbsrvname", with: "krbsrvname")
  }

  func testRandomBytesNeverCrash() {
    var generator = SeededGenerator(state: Self.seed)
    let pieces: [[UInt8]] = [Array("postgres://".utf8), Array("pool_a=".utf8), Array("password=".utf8)]
    for _ in 0..<Self.rounds {
      var bytes: [UInt8] = Bool.random(using: &generator) ? pieces[0] : []
      for _ in 0..<Int.random(in: 0...20, using: &generator) {
        if Int.random(in: 0..<6, using: &generator) == 0 {
          bytes += pieces.randomElement(using: &generator)!
        } else {
          bytes.append(UInt8.random(in: 1...255, using: &generator))
        }
      }
      let output = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count + 1)
      defer { output.deallocate() }
      var length = 0
      let result = bytes.withUnsafeBufferPointer { source in
        splitConninfo(source, into: output) { key, value in
          length += key.count + value.count
          return true
        }
      }
      guard case .done(let count) = result else { return XCTFail("refused") }
      XCTAssertLessThanOrEqual(count + length, bytes.count)
    }
  }
}
