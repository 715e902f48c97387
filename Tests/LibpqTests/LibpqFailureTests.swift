import CLibpq
import CPoolShims
import XCTest

@testable import Libpq

/// Calls of libpq that fail once, as they do when memory runs out or a connection breaks.
final class LibpqFailureTests: XCTestCase {
  private func withFailing<T>(_ change: (inout pool_libpq) -> Void, _ body: () throws -> T) rethrows -> T {
    let table = pool_libpq_table()!
    let saved = table.pointee
    defer { table.pointee = saved }
    change(&table.pointee)
    return try body()
  }

  private func expansion(_ conninfo: String = "host=h password=s3cret") -> String {
    withEnvironment {
      let message = MessageBuffer()
      switch ConnectParameters.expand(conninfo: conninfo, fallbackApplicationName: "x", message: &message.message) {
      case .success(let parameters):
        parameters.free()
        return "success"
      case .invalid: return "invalid: \(message.text)"
      case .outOfMemory: return "outOfMemory"
      }
    }
  }

  func testExpansionWithoutMemoryIsACode() {
    XCTAssertEqual(expansion(), "success")
    let changes: [(inout pool_libpq) -> Void] = [
      { $0.conninfoParse = { _, _ in nil } },
      { $0.connectStartParams = { _, _, _ in nil } },
      { $0.conninfo = { _ in nil } },
    ]
    for change in changes { XCTAssertEqual(withFailing(change) { expansion() }, "outOfMemory") }
  }

  func testAConnectionThatLibpqDoesNotRefuseIsNoProbe() {
    let change: (inout pool_libpq) -> Void = { $0.status = { _ in CONNECTION_OK } }
    XCTAssertEqual(withFailing(change) { expansion() }.prefix(8), "invalid:")
  }

  func testAnAttemptWithoutMemoryIsACode() throws {
    let attempts = try withEnvironment { try Attempts("host=127.0.0.1 port=\(refusedPort())") }
    let change: (inout pool_libpq) -> Void = { $0.connectStartParams = { _, _, _ in nil } }
    let result = withFailing(change) { attempts.connect() }
    XCTAssertEqual(result.name, "outOfMemory")
    XCTAssertEqual(attempts.hooks.depth, 0)
  }

  func testABackgroundQueryFailsWithAnyOfItsCalls() throws {
    let conninfo = try serverConninfo()
    let changes: [(inout pool_libpq) -> Void] = [
      { $0.setNonblocking = { _, _ in -1 } },
      { $0.sendQuery = { _, _ in 0 } },
      { $0.flush = { _ in -1 } },
      { $0.consumeInput = { _ in 0 } },
      { $0.resultStatus = { _ in PGRES_FATAL_ERROR } },
      { $0.resultStatus = { _ in PGRES_BAD_RESPONSE } },
    ]
    for (index, change) in changes.enumerated() {
      let connection = try Attempts(conninfo).connect().opened(self)
      let message = MessageBuffer()
      let step = withFailing(change) {
        var query = BackgroundQuery(connection)
        var step = query.start("select 1", message: &message.message)
        while step == .wantsRead || step == .wantsWrite {
          var entry = pollfd(fd: connection.socket, events: Int16(POLLIN), revents: 0)
          guard poll(&entry, 1, 5000) == 1 else { break }
          step = query.step(message: &message.message)
        }
        XCTAssertFalse(query.finish())
        return step
      }
      XCTAssertEqual(step, .failed, "change \(index)")
    }
  }
}
