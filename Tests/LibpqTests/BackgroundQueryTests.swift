import CLibpq
import CPoolShims
import XCTest

@testable import Libpq

final class BackgroundQueryTests: XCTestCase {
  private func open() throws -> Connection {
    try Attempts(try serverConninfo()).connect().opened(self)
  }

  private func run(_ sql: String, on connection: Connection, _ message: MessageBuffer = MessageBuffer())
    -> BackgroundQuery.Step
  {
    var query = BackgroundQuery(connection)
    var step = query.start(sql, message: &message.message)
    let deadline = pool_clock_now() + 5_000_000_000
    while step == .wantsRead || step == .wantsWrite {
      guard pool_clock_now() < deadline else { return step }
      var entry = pollfd(
        fd: connection.socket, events: Int16(step == .wantsRead ? POLLIN : POLLIN | POLLOUT), revents: 0)
      _ = poll(&entry, 1, 100)
      step = query.step(message: &message.message)
    }
    if step == .succeeded { XCTAssertTrue(query.finish()) }
    return step
  }

  func testQueriesSucceedAndLeaveTheConnectionAsItWas() throws {
    let connection = try open()
    PQclear(PQexec(connection.pointer, "begin"))
    XCTAssertEqual(connection.transactionStatus, .inTransaction)
    for sql in ["rollback", "", "discard all", "select generate_series(1, 20000)", "select 1; select 2"] {
      XCTAssertEqual(run(sql, on: connection), .succeeded, sql)
      XCTAssertEqual(connection.transactionStatus, .idle)
      XCTAssertFalse(connection.isNonblocking)
    }
  }

  func testAnAnswerWithoutAnEndIsCutOff() throws {
    let rows = "select repeat('x', 1000), generate_series(1, 1000000000)"
    let notices = "do $$ begin loop raise info '%', repeat('x', 1000); end loop; end $$"
    for sql in [rows, notices] {
      let message = MessageBuffer()
      XCTAssertEqual(run(sql, on: try open(), message), .failed, sql)
      XCTAssertEqual(message.text, "the answer has no end", sql)
    }
  }

  func testAnErrorIsToldAndCleaned() throws {
    let connection = try open()
    let message = MessageBuffer()
    XCTAssertEqual(run("select 1/0", on: connection, message), .failed)
    XCTAssertEqual(message.text, "ERROR:  division by zero")
  }

  func testACopyIsAFailure() throws {
    let connection = try open()
    for sql in ["copy (select 1) to stdout", "create temp table if not exists t (a int); copy t from stdin"] {
      let other = try open()
      XCTAssertEqual(run(sql, on: other), .failed, sql)
    }
    XCTAssertTrue(connection.isOpen)
  }

  func testALongQueryIsSentInPiecesWithoutWaiting() throws {
    let connection = try open()
    let sql = "select length('" + String(repeating: "x", count: 20_000_000) + "')"
    XCTAssertEqual(run(sql, on: connection), .succeeded)
  }

  func testAKilledSessionFails() throws {
    let connection = try open()
    let killer = try open()
    PQclear(PQexec(killer.pointer, "select pg_terminate_backend(\(connection.backendPID), 5000)"))
    let message = MessageBuffer()
    XCTAssertEqual(run("select 1", on: connection, message), .failed)
    XCTAssertTrue(message.text.contains("terminating connection"), message.text)
  }

  func testClientStateIsRestored() throws {
    let connection = try open()
    let pointer = connection.pointer
    let receiver = connection.noticeReceiver
    let hooks = connection.noticeHooks
    _ = PQsetErrorVerbosity(pointer, PQERRORS_VERBOSE)
    _ = PQsetErrorContextVisibility(pointer, PQSHOW_CONTEXT_ALWAYS)
    _ = PQsetNoticeReceiver(pointer, { _, _ in }, nil)
    PQclear(PQexec(pointer, "listen a; notify a"))
    connection.forgetUser(keeping: hooks, noticeReceiver: receiver, noticeProcessor: { _, _ in }, noticeContext: nil)
    XCTAssertEqual(connection.noticeHooks, hooks)
    connection.restoreClientState()
    XCTAssertNil(PQnotifies(pointer))
    XCTAssertEqual(PQsetErrorVerbosity(pointer, PQERRORS_DEFAULT), PQERRORS_DEFAULT)
    XCTAssertEqual(PQsetErrorContextVisibility(pointer, PQSHOW_CONTEXT_ERRORS), PQSHOW_CONTEXT_ERRORS)
    XCTAssertEqual(
      unsafeBitCast(connection.noticeReceiver, to: UInt.self), unsafeBitCast(receiver, to: UInt.self))
  }

  func testABusyConnectionIsFinishedAtOnce() throws {
    let observer = try open()
    for isInCopy in [true, false] {
      let attempts = try Attempts(try serverConninfo())
      guard case .open(let pointer) = attempts.connect() else { return XCTFail(attempts.text) }
      let connection = Connection(pointer)
      let pid = connection.backendPID
      if isInCopy {
        PQclear(PQexec(pointer, "copy (select generate_series(1, 1000000)) to stdout"))
      } else {
        // A server that sleeps does not read. With the kernel's buffer full, PQfinish alone would wait for room.
        XCTAssertEqual(PQsendQuery(pointer, "select pg_sleep(60)"), 1)
        let filling = [UInt8](repeating: 0, count: 65536)
        while send(connection.socket, filling, filling.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)) > 0 {}
        XCTAssertEqual(errno, EAGAIN)
      }
      let began = pool_clock_now()
      connection.finishWithoutBlocking()
      XCTAssertLessThan(pool_clock_now() - began, 1_000_000_000)
      PQclear(PQexec(observer.pointer, "select pg_terminate_backend(\(pid), 5000)"))
    }
  }
}
