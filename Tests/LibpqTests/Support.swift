import CLibpq
import CPoolShims
import Foundation
import XCTest

@testable import Libpq

/// A message with memory of its own.
final class MessageBuffer {
  private let buffer: UnsafeMutablePointer<CChar>
  var message: Message

  init(capacity: Int = 1024) {
    buffer = .allocate(capacity: max(capacity, 1))
    message = Message(buffer, capacity: capacity)
  }

  deinit { buffer.deallocate() }

  var text: String { String(cString: message.cString) }
}

struct Split: Equatable {
  var rest = ""
  var options: [[String]] = []
  var isRefused = false
}

func split(_ conninfo: String, refusing refused: String? = nil) -> Split {
  var result = Split()
  let bytes = Array(conninfo.utf8)
  // Exactly what is promised to be enough, so that a sanitizer sees a byte too many.
  let output = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count + 1)
  defer { output.deallocate() }
  let outcome = bytes.withUnsafeBufferPointer { source in
    splitConninfo(source, into: output) { key, value in
      let name = String(decoding: key, as: UTF8.self)
      result.options.append([name, String(decoding: value, as: UTF8.self)])
      return name != refused
    }
  }
  switch outcome {
  case .done(let count):
    XCTAssertEqual(output[count], 0)
    result.rest = String(decoding: output[..<count], as: UTF8.self)
  case .refused: result.isRefused = true
  case .outputTooSmall: XCTFail("the output is as large as promised to be enough")
  }
  return result
}

/// What libpq's parser makes of a conninfo; nil when it refuses.
func libpqValues(_ conninfo: String) -> [String: String]? {
  guard let options = PQconninfoParse(conninfo, nil) else { return nil }
  defer { PQconninfoFree(options) }
  return values(options)
}

func values(_ options: UnsafeMutablePointer<PQconninfoOption>) -> [String: String] {
  var found: [String: String] = [:]
  var option = options
  while let keyword = option.pointee.keyword {
    if let value = option.pointee.val { found[String(cString: keyword)] = String(cString: value) }
    option += 1
  }
  return found
}

/// Runs with no PG* variable but those given. XCTest runs one test at a time, so nobody else reads the environment.
func withEnvironment<T>(_ variables: [String: String] = [:], _ body: () throws -> T) rethrows -> T {
  let saved = ProcessInfo.processInfo.environment.filter { $0.key.hasPrefix("PG") }
  for name in saved.keys { unsetenv(name) }
  for (name, value) in variables { setenv(name, value, 1) }
  defer {
    for name in variables.keys { unsetenv(name) }
    for (name, value) in saved { setenv(name, value, 1) }
  }
  return try body()
}

func withTemporaryFile<T>(_ text: String, _ body: (String) throws -> T) throws -> T {
  let path = NSTemporaryDirectory() + "dbpool-" + UUID().uuidString
  try text.write(toFile: path, atomically: true, encoding: .utf8)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try body(path)
}

enum Expanded {
  case success([String: String], timeout: Int?, usesTLS: Bool)
  case invalid(String)

  var values: [String: String]? {
    if case .success(let values, _, _) = self { return values }
    return nil
  }

  var error: String? {
    if case .invalid(let text) = self { return text }
    return nil
  }
}

func expand(_ conninfo: String, applicationName: String = "fallback") -> Expanded {
  let message = MessageBuffer()
  switch ConnectParameters.expand(
    conninfo: conninfo, fallbackApplicationName: applicationName, message: &message.message)
  {
  case .success(let parameters):
    defer { parameters.free() }
    var found: [String: String] = [:]
    for index in (parameters.expandsFirstName ? 1 : 0)..<parameters.count {
      found[String(cString: parameters.keywords[index]!)] = String(cString: parameters.values[index]!)
    }
    if parameters.expandsFirstName { found["(empty)"] = String(cString: parameters.values[0]!) }
    return .success(found, timeout: parameters.connectTimeoutSeconds, usesTLS: parameters.usesTLS)
  case .invalid:
    return .invalid(message.text)
  case .outOfMemory:
    return .invalid("out of memory")
  }
}

/// The conninfo of the server the tests run against, from the environment.
func serverConninfo() throws -> String {
  guard ProcessInfo.processInfo.environment["PGHOST"] != nil else {
    throw XCTSkip("needs a PostgreSQL server: set PGHOST, PGPORT, PGUSER, ...")
  }
  return ""
}

/// splitmix64: a failing seed can be run again.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var bits = state
    bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
    bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
    return bits ^ (bits >> 31)
  }
}
