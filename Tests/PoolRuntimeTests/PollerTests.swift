import CPoolShims
import Foundation
import PoolRuntime
import XCTest

final class PollerTests: XCTestCase {
  private struct Event: Equatable {
    let token: UInt64
    let isEnd: Bool
  }

  private var poller = Poller()
  private var ours: Int32 = -1
  private var peer: Int32 = -1

  override func setUpWithError() throws {
    (ours, peer) = try socketPair()
    XCTAssertEqual(poller.open(), 0)
  }

  override func tearDown() {
    poller.close()
    closePeer()
    close(ours)
  }

  private func closePeer() {
    if peer >= 0 { close(peer) }
    peer = -1
  }

  private func send(line: UInt = #line) { XCTAssertEqual(write(peer, "x", 1), 1, line: line) }

  /// What there is within a minute, or at once.
  private func events(atOnce: Bool = false) -> [Event] {
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 8) { buffer in
      let count = poller.wait(buffer.baseAddress!, capacity: 8, milliseconds: atOnce ? 0 : 60_000)
      XCTAssertGreaterThanOrEqual(count, 0)
      return (0..<max(Int(count), 0)).map { index in
        Event(token: pool_epoll_token(&buffer[index]), isEnd: Poller.isEnd(buffer[index].events))
      }
    }
  }

  func testTheEndOfThePeerIsReportedOnce() {
    XCTAssertEqual(poller.watch(ours, token: 5), 0)
    XCTAssertEqual(events(atOnce: true), [])
    closePeer()
    XCTAssertEqual(events(), [Event(token: 5, isEnd: true)])
    XCTAssertEqual(events(atOnce: true), [], "edge-triggered")
  }

  func testAPeerThatEndedBeforeTheWatchIsReported() {
    closePeer()
    XCTAssertEqual(poller.watch(ours, token: 6), 0)
    XCTAssertEqual(events(), [Event(token: 6, isEnd: true)])
  }

  func testAHalfClosedPeerIsAnEnd() {
    XCTAssertEqual(poller.watch(ours, token: 7), 0)
    XCTAssertEqual(shutdown(peer, Int32(SHUT_WR)), 0)
    XCTAssertEqual(events(), [Event(token: 7, isEnd: true)])
  }

  func testAResetOfTheConnectionIsAnEnd() throws {
    let (client, server) = try tcpPair()
    defer { close(client) }
    XCTAssertEqual(poller.watch(client, token: 8), 0)
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
    close(server)
    XCTAssertEqual(events(), [Event(token: 8, isEnd: true)])
  }

  func testTrafficDoesNotWake() {
    XCTAssertEqual(poller.watch(ours, token: 9), 0)
    for _ in 0..<3 {
      send()
      XCTAssertEqual(events(atOnce: true), [])
    }
    closePeer()
    XCTAssertEqual(events(), [Event(token: 9, isEnd: true)], "unread input hides no end")
  }

  func testListeningReportsInputForAsLongAsItIsThere() {
    XCTAssertEqual(poller.watch(ours, token: 10), 0)
    XCTAssertEqual(poller.listen(ours, writing: false, token: 11), 0)
    XCTAssertEqual(events(atOnce: true), [])
    send()
    XCTAssertEqual(events(), [Event(token: 11, isEnd: false)])
    XCTAssertEqual(events(), [Event(token: 11, isEnd: false)])
    XCTAssertEqual(poller.listen(ours, writing: true, token: 12), 0)
    XCTAssertEqual(events(), [Event(token: 12, isEnd: false)])
  }

  func testListeningForRoomToWriteReportsIt() {
    XCTAssertEqual(poller.watch(ours, token: 13), 0)
    XCTAssertEqual(poller.listen(ours, writing: true, token: 13), 0)
    XCTAssertEqual(events(), [Event(token: 13, isEnd: false)])
    XCTAssertEqual(poller.listen(ours, writing: false, token: 13), 0)
    XCTAssertEqual(events(atOnce: true), [])
  }

  func testWatchingAgainReportsAnEndThatCameBefore() {
    XCTAssertEqual(poller.watch(ours, token: 14), 0)
    XCTAssertEqual(poller.listen(ours, writing: false, token: 14), 0)
    closePeer()
    XCTAssertEqual(events(), [Event(token: 14, isEnd: true)])
    XCTAssertEqual(poller.rewatch(ours, token: 15), 0)
    XCTAssertEqual(events(), [Event(token: 15, isEnd: true)])
    XCTAssertEqual(events(atOnce: true), [])
    XCTAssertEqual(poller.rewatch(ours, token: 16), 0)
    XCTAssertEqual(events(), [Event(token: 16, isEnd: true)])
  }

  func testWatchingAgainOverlooksInput() {
    XCTAssertEqual(poller.watch(ours, token: 17), 0)
    XCTAssertEqual(poller.listen(ours, writing: true, token: 17), 0)
    send()
    XCTAssertEqual(poller.rewatch(ours, token: 17), 0)
    XCTAssertEqual(events(atOnce: true), [])
  }

  func testWhatIsIgnoredIsNotReported() {
    XCTAssertEqual(poller.watch(ours, token: 18), 0)
    poller.ignore(ours)
    closePeer()
    XCTAssertEqual(events(atOnce: true), [])
    poller.ignore(ours)
    XCTAssertEqual(poller.watch(ours, token: 19), 0, "it can be watched again")
  }

  func testEachWatchHasItsOwnToken() throws {
    let (other, otherPeer) = try socketPair()
    defer { close(other) }
    XCTAssertEqual(poller.watch(ours, token: 20), 0)
    XCTAssertEqual(poller.watch(other, token: Poller.wakeToken - 1), 0)
    closePeer()
    close(otherPeer)
    XCTAssertEqual(events().map(\.token).sorted(), [20, Poller.wakeToken - 1])
  }

  func testAWrongDescriptorIsAnErrorNumber() {
    XCTAssertEqual(poller.watch(-1, token: 1), EBADF)
    XCTAssertEqual(poller.rewatch(ours, token: 1), ENOENT)
    XCTAssertEqual(poller.listen(ours, writing: false, token: 1), ENOENT)
    XCTAssertEqual(poller.watch(ours, token: 1), 0)
    XCTAssertEqual(poller.watch(ours, token: 1), EEXIST)
  }

  func testAWakeUpStaysUntilItIsCleared() {
    XCTAssertEqual(events(atOnce: true), [])
    poller.wake()
    poller.wake()
    for _ in 0..<2 { XCTAssertEqual(events(atOnce: true).map(\.token), [Poller.wakeToken]) }
    poller.clearWake()
    XCTAssertEqual(events(atOnce: true), [], "two wake-ups are one")
    poller.clearWake()
    poller.wake()
    XCTAssertEqual(events(atOnce: true).map(\.token), [Poller.wakeToken])
  }

  func testAnotherThreadWakesIt() {
    let shared = Shared(poller)
    for _ in 0..<200 {
      let crew = Crew()
      crew.start { shared.pointer.pointee.wake() }
      XCTAssertEqual(events().map(\.token), [Poller.wakeToken])
      poller.clearWake()
      crew.join()
    }
  }

  func testItTimesOut() {
    XCTAssertEqual(events(atOnce: true), [])
    let start = Clock.now
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 1) {
      XCTAssertEqual(poller.wait($0.baseAddress!, capacity: 1, milliseconds: 20), 0)
    }
    XCTAssertGreaterThanOrEqual(Clock.now - start, 19_000_000)
  }

  func testItsDescriptorsAreClosedOnExec() {
    XCTAssertEqual(fcntl(poller.set, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC)
  }

  func testAClosedOneAnswersWithAnError() {
    let set = poller.set
    poller.close()
    XCTAssertFalse(isOpen(set))
    XCTAssertEqual(poller.set, -1)
    XCTAssertEqual(poller.watch(ours, token: 1), EBADF)
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 1) {
      XCTAssertEqual(poller.wait($0.baseAddress!, capacity: 1, milliseconds: 0), -EBADF)
    }
    poller.wake()
    poller.clearWake()
    poller.close()
    XCTAssertEqual(poller.open(), 0)
    poller.wake()
    XCTAssertEqual(events().map(\.token), [Poller.wakeToken])
  }

  func testAForgottenSetStaysOpen() {
    let set = poller.set
    var forgetful = poller
    forgetful.forget()
    XCTAssertEqual(forgetful.set, -1)
    XCTAssertTrue(isOpen(set))
    poller.wake()
    XCTAssertEqual(events().map(\.token), [Poller.wakeToken])
  }

  /// Both descriptors or none: the second is refused by the limit of the process.
  func testWithoutDescriptorsItStaysClosed() throws {
    poller.close()
    var before = rlimit()
    XCTAssertEqual(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before), 0)
    // The lowest free number is the next to be given.
    let free = dup(ours)
    close(free)
    for room in 0...1 as ClosedRange<rlim_t> {
      var limit = rlimit(rlim_cur: rlim_t(free) + room, rlim_max: before.rlim_max)
      XCTAssertEqual(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit), 0)
      let error = poller.open()
      XCTAssertEqual(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before), 0)
      XCTAssertEqual(error, EMFILE)
      XCTAssertEqual(poller.set, -1)
      XCTAssertFalse(isOpen(free), "a descriptor is left")
    }
    XCTAssertEqual(poller.open(), 0)
  }

  /// A connection over TCP: only there a peer can reset it.
  private func tcpPair() throws -> (Int32, Int32) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let isConnected = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, $0, &size) == 0
          && connect(client, $0, size) == 0
      }
    }
    let server = accept(listener, nil, nil)
    guard isConnected, server >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    return (client, server)
  }

  func testWhoseNumbersTheHostHasClosedWatchesNothing() {
    // What a program that closes all descriptors it does not know leaves: the set's number may be one of its own then.
    poller.close()
    let others = Set(descriptors(of: "pipe"))
    XCTAssertEqual(poller.open(), 0)
    for end in Set(descriptors(of: "pipe")).subtracting(others) { close(end) }
    XCTAssertFalse(poller.isOurs)
    XCTAssertEqual(poller.watch(ours, token: 5), EBADF)
    close(poller.set)
    poller.abandon()
    XCTAssertEqual(poller.open(), 0)
    XCTAssertEqual(poller.watch(ours, token: 5), 0)
  }

  private func descriptors(of kind: String) -> [Int32] {
    (Int32(0)..<1024).filter {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?.hasPrefix(kind) == true
    }
  }
}
