import CDBPool
import CPoolShims
import Dispatch
import Foundation
import PoolCore
import XCTest

@testable import DBPool

/// The code and message that the calling thread's last failure left.
var lastError: (code: Int32, text: String) {
  (poolErrcode(), poolErrmsg().map { String(cString: $0) } ?? "")
}

/// A pool's record that no registry knows. As the library's own it is never freed.
func makeRecord(name: String = "test", maxSize: Int = 10) -> RecordPointer {
  let record = RecordPointer.allocate(capacity: 1)
  record.initialize(to: PoolRecord(index: 0))
  record.pointee.options.name = strdup(name)
  var settings = Settings()
  settings.maxSize = maxSize
  record.pointee.core = PoolCore(settings: settings)
  XCTAssertTrue(record.pointee.lastError.prepare())
  XCTAssertTrue(record.pointee.log.prepare())
  XCTAssertTrue(record.pointee.sessions.prepare())
  XCTAssertTrue(record.pointee.waiters.prepare())
  return record
}

/// What threads of a test share: it never moves, is never freed, and is synchronised by itself or by the test.
struct Shared<Value: ~Copyable>: @unchecked Sendable {
  let pointer: UnsafeMutablePointer<Value>

  init(at pointer: UnsafeMutablePointer<Value>) { self.pointer = pointer }

  init(_ value: consuming Value) {
    pointer = .allocate(capacity: 1)
    pointer.initialize(to: value)
  }
}

/// Runs `body` in as many threads and waits for their end, which must come.
func inThreads(
  _ count: Int, file: StaticString = #filePath, line: UInt = #line, _ body: @escaping @Sendable (Int) -> Void
) {
  let group = DispatchGroup()
  for index in 0..<count {
    group.enter()
    let thread = Thread {
      body(index)
      group.leave()
    }
    thread.start()
  }
  XCTAssertEqual(group.wait(timeout: .now() + 60), .success, "the threads do not end", file: file, line: line)
}

/// All members of `pool_options_t` that are numbers and may stand in the conninfo, in their order.
let numbers: [(name: String, path: WritableKeyPath<pool_options_t, Int32> & Sendable)] = [
  ("min_size", \.min_size), ("max_size", \.max_size), ("max_waiting", \.max_waiting),
  ("acquire_timeout_ms", \.acquire_timeout_ms), ("connect_timeout_ms", \.connect_timeout_ms),
  ("connect_concurrency", \.connect_concurrency), ("max_lifetime_ms", \.max_lifetime_ms),
  ("lifetime_jitter_percent", \.lifetime_jitter_percent), ("idle_timeout_ms", \.idle_timeout_ms), ("check", \.check),
  ("check_after_idle_ms", \.check_after_idle_ms), ("check_timeout_ms", \.check_timeout_ms), ("reset", \.reset),
  ("queue_mode", \.queue_mode), ("leak_threshold_ms", \.leak_threshold_ms), ("exact_times", \.exact_times),
]
