import CLibpq
import CPoolShims
import Foundation
import XCTest

@testable import Libpq

final class ConnectAttemptTests: XCTestCase {
  /// Blanks the environment, so that only the listeners of the test are reached.
  private func attempts(_ conninfo: String) throws -> Attempts {
    try withEnvironment { try Attempts("user=u dbname=d " + conninfo) }
  }

  // MARK: without a server

  func testARefusedTargetIsTransientAndReadsAsLibpqWordsIt() throws {
    let port = refusedPort()
    let attempts = try attempts("host=127.0.0.1 port=\(port)")
    XCTAssertEqual(attempts.connect().name, "transient")
    XCTAssertTrue(
      attempts.text.hasPrefix("connection to server at \"127.0.0.1\", port \(port) failed: Connection refused"),
      attempts.text)
    XCTAssertFalse(attempts.text.contains("\n"))
    XCTAssertEqual(attempts.hooks.reached, 0)
    XCTAssertEqual(attempts.hooks.depth, 0)
    XCTAssertTrue(attempts.mark.isEmpty)
    XCTAssertEqual(attempts.hooks.sockets.last ?? -1, -1)
  }

  func testASilentServerEndsTheAttemptAndTheNextStartsBehindIt() throws {
    let silent = Listener()
    let port = refusedPort()
    let attempts = try attempts("host=127.0.0.1,127.0.0.1 port=\(silent.port),\(port)")
    XCTAssertEqual(attempts.connect(timeout: 0.3).name, "transient")
    XCTAssertEqual(
      attempts.text, "connection to server at \"127.0.0.1\", port \(silent.port) failed: timeout expired")
    XCTAssertEqual(attempts.hooks.reached, 1)
    XCTAssertEqual(attempts.hooks.depth, 0)
    XCTAssertFalse(attempts.mark.isEmpty)
    XCTAssertGreaterThan(attempts.seconds, 0.29)
    XCTAssertLessThan(attempts.seconds, 1)

    // Refused first now, then the silent one again, with a time of its own.
    XCTAssertEqual(attempts.connect(timeout: 0.3).name, "transient")
    let first = try XCTUnwrap(attempts.text.range(of: "port \(port) failed: Connection refused"))
    let second = try XCTUnwrap(attempts.text.range(of: "port \(silent.port) failed: timeout expired"))
    XCTAssertLessThan(first.lowerBound, second.lowerBound)
    // Each with a socket of its own, though the number is the same; then none.
    XCTAssertGreaterThanOrEqual(attempts.hooks.sockets.count, 3, "\(attempts.hooks.sockets)")
    XCTAssertEqual(attempts.hooks.sockets.last, -1)
  }

  func testAHostThatDropsPacketsEndsTheAttempt() throws {
    // A full backlog: the kernel drops what comes then, as a firewall does.
    let deaf = Listener(backlog: 0)
    var fillers: [Int32] = []
    defer { for filler in fillers { close(filler) } }
    for _ in 0..<4 { fillers.append(connectWithoutWaiting(deaf.port)) }
    let attempts = try attempts("host=127.0.0.1 port=\(deaf.port)")
    XCTAssertEqual(attempts.connect(timeout: 0.3).name, "transient")
    XCTAssertTrue(attempts.text.hasSuffix("timeout expired"), attempts.text)
    XCTAssertEqual(attempts.hooks.reached, 0)
  }

  private func connectWithoutWaiting(_ port: Int) -> Int32 {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    withUnsafeBytes(of: &address) { bytes in
      _ = connect(
        fd, bytes.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
    return fd
  }

  func testAServerThatNeverStopsTalkingEndsAtTheDeadline() throws {
    let listener = Listener()
    listener.serve { peer in
      var start = [UInt8](repeating: 0, count: 1024)
      _ = recv(peer, &start, start.count, 0)
      var words: [UInt8] = [82, 0, 0, 0, 8, 0, 0, 0, 0]
      // AuthenticationOk, then ParameterStatus without end.
      while send(peer, words, words.count, Int32(MSG_NOSIGNAL)) > 0 {
        words = Array(repeating: [83, 0, 0, 0, 8, 97, 0, 98, 0], count: 100).flatMap { $0 }
      }
    }
    let attempts = try attempts("host=127.0.0.1 port=\(listener.port) sslmode=disable gssencmode=disable")
    XCTAssertEqual(attempts.connect(timeout: 0.4).name, "transient")
    XCTAssertTrue(attempts.text.hasSuffix("timeout expired"), attempts.text)
    XCTAssertLessThan(attempts.seconds, 1.5)
  }

  func testAServerThatIsSilentInTheTLSHandshakeEndsAtTheDeadline() throws {
    let listener = Listener()
    listener.serve { peer in
      var start = [UInt8](repeating: 0, count: 1024)
      _ = recv(peer, &start, start.count, 0)
      _ = send(peer, "S", 1, Int32(MSG_NOSIGNAL))
      while recv(peer, &start, start.count, 0) > 0 {}
    }
    let attempts = try attempts("host=127.0.0.1 port=\(listener.port) sslmode=require gssencmode=disable")
    XCTAssertEqual(attempts.connect(timeout: 0.3).name, "transient")
    XCTAssertTrue(attempts.text.hasSuffix("timeout expired"), attempts.text)
    XCTAssertEqual(attempts.hooks.reached, 1)
  }

  func testGarbageIsAFailureWithoutControlCharacters() throws {
    let listener = Listener()
    listener.serve { peer in
      var start = [UInt8](repeating: 0, count: 1024)
      _ = recv(peer, &start, start.count, 0)
      // An error in the style of protocol 2: text that is shown as it is.
      let words = Array("E\u{1B}[31mFATAL:  \u{7}hacked\u{9B}x\u{0}".utf8)
      _ = send(peer, words, words.count, Int32(MSG_NOSIGNAL))
    }
    let attempts = try attempts("host=127.0.0.1 port=\(listener.port) sslmode=disable gssencmode=disable")
    XCTAssertEqual(attempts.connect(timeout: 2).name, "transient")
    XCTAssertFalse(attempts.text.isEmpty)
    XCTAssertFalse(attempts.text.unicodeScalars.contains { $0.value < 32 || (127...159).contains($0.value) })
  }

  func testItStopsWhenAsked() throws {
    let silent = Listener()
    let attempts = try attempts("host=127.0.0.1 port=\(silent.port)")
    for check in [1, 2, 3, 5] {
      XCTAssertEqual(attempts.connect(timeout: 30, hooks: RecordingHooks(stopsAtCheck: check)).name, "stopped")
      XCTAssertEqual(attempts.hooks.depth, 0)
      XCTAssertEqual(attempts.hooks.sockets.last ?? -1, -1)
      XCTAssertLessThan(attempts.seconds, 5)
    }
  }

  func testItTouchesLibpqNoMoreWhenTheProcessExits() throws {
    let silent = Listener()
    let attempts = try attempts("host=127.0.0.1 port=\(silent.port)")
    for call in 1...3 {
      XCTAssertEqual(attempts.connect(timeout: 0.2, hooks: RecordingHooks(exitsAtCall: call)).name, "abandoned")
      XCTAssertEqual(attempts.hooks.libpqCalls, call)
      XCTAssertEqual(attempts.hooks.depth, 0)
    }
  }

  // MARK: with a server

  func testAConnectionOpens() throws {
    let attempts = try Attempts(try serverConninfo())
    let connection = try attempts.connect().opened(self)
    XCTAssertTrue(connection.isOpen)
    XCTAssertEqual(connection.transactionStatus, .idle)
    XCTAssertFalse(connection.isPipelining)
    XCTAssertFalse(connection.isNonblocking)
    XCTAssertGreaterThan(connection.backendPID, 0)
    XCTAssertEqual(attempts.hooks.reached, 1)
    XCTAssertEqual(attempts.hooks.sockets.last, connection.socket)
    XCTAssertEqual(attempts.hooks.depth, 0)
    XCTAssertEqual(attempts.text, "")
    XCTAssertEqual(connection.parameterStatus("application_name").map { String(cString: $0) }, "libpq-tests")
    XCTAssertEqual(PQsetErrorVerbosity(connection.pointer, PQERRORS_DEFAULT), PQERRORS_DEFAULT)
    XCTAssertNotNil(connection.noticeReceiver)
  }

  func testWhatWillNotGoAwayIsPermanent() throws {
    let conninfo = try serverConninfo()
    let password = try Attempts(conninfo + " user=nobody_at_all password=s3cret host=localhost")
    XCTAssertEqual(password.connect().name, "permanent", password.text)
    XCTAssertTrue(password.text.contains(":  28"), password.text)
    XCTAssertFalse(password.text.contains("s3cret"))
    XCTAssertFalse(password.text.contains(".c:"), password.text)
    let none = try Attempts(conninfo + " password='' host=localhost")
    XCTAssertEqual(none.connect().name, "permanent", none.text)
    let database = try Attempts(conninfo + " dbname=no_such_database")
    XCTAssertEqual(database.connect().name, "permanent")
    XCTAssertTrue(
      database.text.hasSuffix("FATAL:  3D000: database \"no_such_database\" does not exist"), database.text)
  }

  func testTheSecondTargetIsReachedBehindASilentFirst() throws {
    _ = try serverConninfo()
    let silent = Listener()
    let port = ProcessInfo.processInfo.environment["PGPORT"] ?? "5432"
    let attempts = try Attempts("host=127.0.0.1,localhost port=\(silent.port),\(port)")
    XCTAssertEqual(attempts.connect(timeout: 0.3).name, "transient")
    XCTAssertFalse(attempts.mark.isEmpty)
    _ = try attempts.connect(timeout: 5).opened(self)
    XCTAssertFalse(attempts.mark.isEmpty, "how long it is passed over is the caller's business")
  }

  func testALoginThatIsRefusedBehindASilentTargetLeavesNoMark() throws {
    let conninfo = try serverConninfo()
    let silent = Listener()
    let port = ProcessInfo.processInfo.environment["PGPORT"] ?? "5432"
    let two = "host=127.0.0.1,localhost port=\(silent.port),\(port) dbname=no_such_database"
    let attempts = try Attempts(conninfo + " " + two)
    XCTAssertEqual(attempts.connect(timeout: 0.3).name, "transient")
    XCTAssertFalse(attempts.mark.isEmpty)
    XCTAssertEqual(attempts.connect(timeout: 5).name, "permanent", attempts.text)
    XCTAssertTrue(attempts.mark.isEmpty, "libpq asks nobody behind a refused login: the first has its turn again")
  }

  func testARefusedFirstTargetIsPassedAtOnce() throws {
    _ = try serverConninfo()
    let port = ProcessInfo.processInfo.environment["PGPORT"] ?? "5432"
    let attempts = try Attempts("host=127.0.0.1,localhost port=\(refusedPort()),\(port)")
    _ = try attempts.connect().opened(self)
    XCTAssertLessThan(attempts.seconds, 3)
  }

  func testTheSessionAttributeIsHonoured() throws {
    let attempts = try Attempts(try serverConninfo() + " target_session_attrs=standby")
    XCTAssertEqual(attempts.connect().name, "transient")
    XCTAssertFalse(attempts.text.isEmpty)
  }
}
