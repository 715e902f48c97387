import Dispatch
import Foundation
import XCTest

/// Something that never moves and that threads share, as the library's own records are. It is never freed: a thread
/// that a failed test leaves behind may still be using it.
struct Shared<Value: ~Copyable>: @unchecked Sendable {
  // What it points to is synchronised by itself or by the test.
  let pointer: UnsafeMutablePointer<Value>

  init(_ value: consuming Value) {
    pointer = .allocate(capacity: 1)
    pointer.initialize(to: value)
  }
}

/// Threads of a test, with an end to waiting for them.
final class Crew: Sendable {
  private let group = DispatchGroup()

  /// Runs `body` in a thread of its own.
  func start(_ body: @escaping @Sendable () -> Void) {
    group.enter()
    let thread = Thread { [group] in
      body()
      group.leave()
    }
    thread.start()
  }

  func start(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    for index in 0..<count { start { body(index) } }
  }

  /// Fails the test if they do not all end.
  func join(_ message: String = "the threads do not end", file: StaticString = #filePath, line: UInt = #line) {
    XCTAssertEqual(group.wait(timeout: .now() + 60), .success, message, file: file, line: line)
  }
}

/// An event that happens once.
final class Gate: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func open() { semaphore.signal() }

  /// False if it does not happen within a minute.
  func pass() -> Bool {
    guard semaphore.wait(timeout: .now() + 60) == .success else { return false }
    semaphore.signal()
    return true
  }
}
