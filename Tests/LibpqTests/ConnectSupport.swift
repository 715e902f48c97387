import CLibpq
import CPoolShims
import Foundation
import XCTest

@testable import Libpq

/// Remembers what it is told.
struct RecordingHooks: ConnectHooks {
  var sockets: [Int32] = []
  var reached = 0
  var depth = 0
  var libpqCalls = 0
  var stopChecks = 0
  var stopsAtCheck = Int.max
  var exitsAtCall = Int.max

  func now() -> Int64 { pool_clock_now() }
  mutating func socketChanged(_ fd: Int32) { sockets.append(fd) }
  mutating func reachedServer() { reached += 1 }

  mutating func enterLibpq() -> Bool {
    libpqCalls += 1
    guard libpqCalls < exitsAtCall else { return false }
    depth += 1
    return true
  }

  mutating func leaveLibpq() { depth -= 1 }

  mutating func shouldStop() -> Bool {
    stopChecks += 1
    return stopChecks >= stopsAtCheck
  }
}

/// One attempt after the other with the same parameters, as a pool makes them.
final class Attempts {
  private let parameters: ConnectParameters
  var mark = TargetMark()
  var hooks = RecordingHooks()
  var text = ""
  var seconds = 0.0

  init(_ conninfo: String) throws {
    let message = MessageBuffer()
    guard
      case .success(let parameters) = ConnectParameters.expand(
        conninfo: conninfo, fallbackApplicationName: "libpq-tests", message: &message.message)
    else { throw XCTSkip("refused: \(message.text)") }
    self.parameters = parameters
  }

  deinit { parameters.free() }

  func connect(timeout: Double = 5, hooks start: RecordingHooks = RecordingHooks()) -> ConnectResult {
    let message = MessageBuffer()
    hooks = start
    let began = pool_clock_now()
    let result = ConnectAttempt.run(
      parameters, mark: &mark, perTargetTimeout: Int64(timeout * 1e9), noticeProcessor: { _, _ in }, noticeContext: nil,
      hooks: &hooks, message: &message.message)
    seconds = Double(pool_clock_now() - began) / 1e9
    text = message.text
    return result
  }
}

extension ConnectResult {
  var name: String {
    switch self {
    case .open: "open"
    case .failed(let kind): "\(kind)"
    case .outOfMemory: "outOfMemory"
    case .stopped: "stopped"
    case .abandoned: "abandoned"
    }
  }

  /// The connection of an attempt that must have succeeded; finished at the end of the test.
  func opened(_ test: XCTestCase, file: StaticString = #filePath, line: UInt = #line) throws -> Connection {
    guard case .open(let pointer) = self else {
      XCTFail("not open but \(name)", file: file, line: line)
      throw XCTSkip("no connection")
    }
    let connection = Connection(pointer)
    nonisolated(unsafe) let owned = connection
    test.addTeardownBlock { owned.finishWithoutBlocking() }
    return connection
  }
}

/// A listening socket on 127.0.0.1 that the test serves, or leaves silent.
final class Listener {
  let fd: Int32
  let port: Int

  init(backlog: Int32 = 16) {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutableBytes(of: &address) { bytes in
      let generic = bytes.assumingMemoryBound(to: sockaddr.self).baseAddress
      XCTAssertEqual(bind(fd, generic, size), 0)
      XCTAssertEqual(getsockname(fd, generic, &size), 0)
    }
    XCTAssertEqual(listen(fd, backlog), 0)
    self.fd = fd
    port = Int(UInt16(bigEndian: address.sin_port))
  }

  deinit { close(fd) }

  /// Accepts one connection on a thread and hands its descriptor to the body, which runs until writing fails.
  func serve(_ body: @escaping @Sendable (Int32) -> Void) {
    let fd = self.fd
    Thread.detachNewThread {
      let peer = accept(fd, nil, nil)
      guard peer >= 0 else { return }
      body(peer)
      close(peer)
    }
  }
}

/// A port of 127.0.0.1 on which nobody listens.
func refusedPort() -> Int { Listener().port }
