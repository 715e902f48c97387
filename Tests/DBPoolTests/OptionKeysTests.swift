import CDBPool
import CPoolShims
import Foundation
import XCTest

@testable import DBPool

final class OptionKeysTests: XCTestCase {
  private func apply(_ key: String, _ value: String, to options: inout Options) -> Int32 {
    // Exactly as many bytes: the texts of a conninfo have no NUL.
    Array(key.utf8).withUnsafeBufferPointer { key in
      Array(value.utf8).withUnsafeBufferPointer { OptionKeys.apply(key, $0, to: &options) }
    }
  }

  /// The number that `key` sets, nil when the value is refused; the message then names key and value.
  private func number(
    _ key: String, _ value: String, _ path: KeyPath<pool_options_t, Int32>, line: UInt = #line
  ) -> Int32? {
    var options = Options()
    let before = options.given[keyPath: path]
    let code = apply(key, value, to: &options)
    if code == POOL_OK { return options.given[keyPath: path] }
    XCTAssertEqual(code, POOL_EINVAL, line: line)
    XCTAssertEqual(options.given[keyPath: path], before, "a refused value leaves the option", line: line)
    // Blanks around a value are not shown, nor what comes behind a character that no value has.
    let plain = value.prefix(100).prefix { $0.isASCII && ($0.isLetter || $0.isNumber || "_-+. ".contains($0)) }
    let shown = plain.trimmingCharacters(in: .whitespaces) + (plain.count < value.count ? "..." : "")
    XCTAssertTrue(lastError.text.hasPrefix("pool_\(key) is \"\(shown)\"; it must be "), lastError.text)
    return nil
  }

  private func milliseconds(_ value: String, line: UInt = #line) -> Int32? {
    number("max_lifetime", value, \.max_lifetime_ms, line: line)
  }

  func testEveryNumberOfTheStructHasItsKey() {
    let values = ["check": "ping", "reset": "discard_all", "queue_mode": "fifo", "exact_times": "on"]
    let words: [String: Int32] = ["check": 3, "reset": 2, "queue_mode": 1, "exact_times": 1]
    for option in numbers {
      let key = option.name.hasSuffix("_ms") ? String(option.name.dropLast(3)) : option.name
      XCTAssertEqual(number(key, values[key] ?? "7", option.path), words[key] ?? 7, key)
      var others = Options()
      XCTAssertEqual(apply(key, values[key] ?? "7", to: &others), POOL_OK)
      for other in numbers where other.name != option.name {
        XCTAssertEqual(
          others.given[keyPath: other.path], Options.defaults[keyPath: other.path], "\(key) set \(other.name)")
      }
    }
  }

  func testUnknownKeysAreNamed() {
    for key in ["", "max_sizes", "max_siz", "Max_Size", "max_lifetime_ms", "size", "log", "context"] {
      var options = Options()
      XCTAssertEqual(apply(key, "1", to: &options), POOL_EINVAL)
      XCTAssertEqual(lastError.text, "unknown option \"pool_\(key)\" in the conninfo")
    }
  }

  func testWhatTheCallerWroteIsCleanedAndCut() {
    var options = Options()
    XCTAssertEqual(apply("a\u{1B}[31m\nb", "1", to: &options), POOL_EINVAL)
    XCTAssertEqual(lastError.text, "unknown option \"pool_a...\" in the conninfo")
    XCTAssertEqual(apply("max_size", String(repeating: "9", count: 5000), to: &options), POOL_EINVAL)
    XCTAssertEqual(
      lastError.text, "pool_max_size is \"\(String(repeating: "9", count: 100))...\"; it must be a whole number")
    XCTAssertEqual(apply("max_size", "20&password=secret", to: &options), POOL_EINVAL)
    XCTAssertEqual(lastError.text, "pool_max_size is \"20...\"; it must be a whole number")
  }

  func testUnits() {
    let cases: [(String, Int32)] = [
      ("0", 0), ("500", 500), ("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("10min", 600_000), ("2h", 7_200_000),
      ("1d", 86_400_000), ("24d", 2_073_600_000), ("007s", 7000),
      ("0us", 0), ("1us", 1), ("1000us", 1), ("1001us", 2),
    ]
    for (text, expected) in cases { XCTAssertEqual(milliseconds(text), expected, text) }
  }

  func testWhatIsNoDurationIsRefused() {
    let wrong = [
      "", "s", "ms", " 1s", "1 s", "1s ", "1S", "1sec", "1.5s", "+1s", "-1s", "-1", "0x10", "1e3", "infinite", "1ss",
      "１s",
    ]
    for text in wrong { XCTAssertNil(milliseconds(text), text) }
  }

  /// A product beyond 64 bits once stopped the program.
  func testWhatDoesNotFitIsRefused() {
    XCTAssertEqual(milliseconds("2147483647"), .max)
    XCTAssertEqual(milliseconds("2147483s"), 2_147_483_000)
    XCTAssertEqual(milliseconds("2147483647000us"), nil, "more than twelve digits")
    XCTAssertEqual(milliseconds("999999999999us"), 1_000_000_000)
    for unit in ["", "ms", "s", "m", "min", "h", "d"] { XCTAssertNil(milliseconds("999999999999\(unit)"), unit) }
    let wrong = [
      "2147483648", "2147484s", "25d", "597h", "106751991168d", "213503982335d", "9999999999999", "0000000000001",
      "99999999999999999999999999d",
    ]
    for text in wrong { XCTAssertNil(milliseconds(text), text) }
  }

  func testWholeNumbers() {
    let cases: [(String, Int32?)] = [
      ("0", 0), ("12", 12), ("-3", -3), ("-0", 0), ("2147483647", .max), ("-2147483648", .min),
      ("2147483648", nil), ("-2147483649", nil), ("999999999999", nil), ("-999999999999", nil), ("9999999999999", nil),
      ("", nil), ("-", nil), ("--1", nil), ("+1", nil), ("1 ", nil), (" 1", nil), ("1s", nil), ("ten", nil),
      ("1\0", nil),
    ]
    for (text, expected) in cases {
      var options = Options()
      let code = apply("max_size", text, to: &options)
      XCTAssertEqual(code == POOL_OK ? options.given.max_size : nil, expected, text)
    }
  }

  func testAnAcquireTimeoutMayBeInfinite() {
    for text in ["infinite", "-1", "-2"] {
      XCTAssertEqual(number("acquire_timeout", text, \.acquire_timeout_ms), POOL_TIMEOUT_INFINITE, text)
    }
    XCTAssertEqual(number("acquire_timeout", "0", \.acquire_timeout_ms), 0)
    XCTAssertEqual(number("acquire_timeout", "2s", \.acquire_timeout_ms), 2000)
    for text in ["-3", "-1s", "never", ""] { XCTAssertNil(number("acquire_timeout", text, \.acquire_timeout_ms), text) }
  }

  func testWords() {
    let words: [(String, KeyPath<pool_options_t, Int32>, [String: Int32])] = [
      ("check", \.check, ["none": 0, "watch": 1, "socket": 2, "ping": 3]),
      ("reset", \.reset, ["none": 0, "rollback": 1, "discard_all": 2, "query": 3]),
      ("queue_mode", \.queue_mode, ["lifo": 0, "fifo": 1]),
      (
        "exact_times", \.exact_times,
        ["1": 1, "true": 1, "on": 1, "yes": 1, "0": 0, "false": 0, "off": 0, "no": 0]
      ),
    ]
    for (key, path, values) in words {
      for (text, expected) in values { XCTAssertEqual(number(key, text, path), expected, "\(key) \(text)") }
      for text in ["", "2", "NONE", "pings", "watc", "discard all", " on"] {
        XCTAssertNil(number(key, text, path), "\(key) \(text)")
      }
    }
  }

  func testARangeErrorNamesTheOptionAsItWasGiven() {
    for (key, value, name) in [
      ("max_size", "0", "pool_max_size is 0"), ("check_timeout", "0", "pool_check_timeout is 0"),
    ] {
      var options = Options()
      XCTAssertEqual(apply(key, value, to: &options), POOL_OK)
      XCTAssertEqual(options.validate(), POOL_EINVAL)
      XCTAssertTrue(lastError.text.hasPrefix(name), lastError.text)
    }
    var options = Options()
    options.given.check_timeout_ms = 0
    XCTAssertEqual(options.validate(), POOL_EINVAL)
    XCTAssertTrue(lastError.text.hasPrefix("check_timeout_ms is 0"), lastError.text)
    options = Options()
    options.given.max_size = 5
    XCTAssertEqual(apply("min_size", "6", to: &options), POOL_OK)
    XCTAssertEqual(options.validate(), POOL_EINVAL)
    XCTAssertEqual(lastError.text, "pool_min_size is 6, more than max_size, which is 5")
  }

  func testTextsAreCopiedAndTheLastOneCounts() {
    var options = Options()
    defer { options.free() }
    for name in ["first", "", "second"] {
      XCTAssertEqual(apply("name", name, to: &options), POOL_OK)
      XCTAssertEqual(options.name.map { String(cString: $0) }, name)
    }
    XCTAssertEqual(apply("reset_query", "select 'ä'", to: &options), POOL_OK)
    XCTAssertEqual(options.resetQuery.map { String(cString: $0) }, "select 'ä'")
  }

  func testATimeoutByKeyIsKnownAsSetEvenIfItIsTheDefault() {
    var options = Options()
    XCTAssertEqual(apply("connect_timeout", "10s", to: &options), POOL_OK)
    XCTAssertTrue(options.hasConnectTimeout)
    XCTAssertEqual(options.given.connect_timeout_ms, 10_000)
  }
}
