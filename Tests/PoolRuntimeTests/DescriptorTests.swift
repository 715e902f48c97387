import CPoolShims
import Foundation
import PoolRuntime
import XCTest

/// Two sockets that are each other's peers.
func socketPair() throws -> (Int32, Int32) {
  var pair: [Int32] = [-1, -1]
  guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
    throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO)
  }
  return (pair[0], pair[1])
}

func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) >= 0 }

/// What /proc says that the number stands for.
private func target(_ number: Int32) -> String? {
  try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")
}

final class DescriptorTests: XCTestCase {
  private var ours: Int32 = -1
  private var peer: Int32 = -1
  private var null: Int32 = -1

  override func setUpWithError() throws {
    (ours, peer) = try socketPair()
    null = pool_open_null()
    XCTAssertGreaterThanOrEqual(null, 0)
  }

  override func tearDown() {
    for number in [ours, peer, null] where number >= 0 && isOpen(number) { close(number) }
  }

  /// Another file takes over the number of `ours`, as behind closefrom and an open.
  private func takeOver() { XCTAssertEqual(dup2(null, ours), ours) }

  func testNoneIsNotOpen() {
    var none = Descriptor()
    XCTAssertFalse(none.isOpen)
    XCTAssertFalse(none.isOurs)
    XCTAssertFalse(none.describes(-1))
    XCTAssertFalse(none.describes(ours))
    none.replace(with: null)
    none.replace(alias: ours, with: null)
    none.close()
    XCTAssertTrue(isOpen(ours))
    XCTAssertEqual(target(ours)?.hasPrefix("socket:"), true)
  }

  func testANumberThatIsNotOpenIsNotTakenOver() {
    close(peer)
    for number in [peer, -1, Int32.max] {
      XCTAssertFalse(Descriptor(number: number).isOpen, "\(number)")
      XCTAssertFalse(Descriptor(duplicating: number).isOpen, "\(number)")
    }
    XCTAssertEqual(pool_errno(), EBADF)
    peer = -1
  }

  func testItIsClosed() {
    var descriptor = Descriptor(number: ours)
    XCTAssertTrue(descriptor.isOurs)
    XCTAssertEqual(descriptor.number, ours)
    descriptor.close()
    XCTAssertFalse(isOpen(ours))
    XCTAssertFalse(descriptor.isOpen)
    XCTAssertEqual(descriptor.number, -1)
  }

  func testANumberThatBecameSomebodyElsesIsNotClosed() {
    var descriptor = Descriptor(number: ours)
    takeOver()
    XCTAssertTrue(descriptor.isOpen)
    XCTAssertFalse(descriptor.isOurs)
    descriptor.close()
    XCTAssertTrue(isOpen(ours))
    XCTAssertFalse(descriptor.isOpen)
  }

  func testANumberThatWasClosedIsNotOurs() {
    var descriptor = Descriptor(number: ours)
    close(ours)
    XCTAssertFalse(descriptor.isOurs)
    descriptor.replace(with: null)
    XCTAssertFalse(isOpen(ours))
    descriptor.close()
    XCTAssertFalse(isOpen(ours))
  }

  func testAnotherSocketIsSomebodyElses() {
    let descriptor = Descriptor(number: ours)
    XCTAssertFalse(descriptor.describes(peer))
    XCTAssertEqual(dup2(peer, ours), ours)
    XCTAssertFalse(descriptor.isOurs)
  }

  func testADuplicateIsTheSameFileAndCloseOnExec() {
    let standing = Descriptor(number: ours)
    var duplicate = Descriptor(duplicating: ours)
    XCTAssertTrue(duplicate.isOurs)
    XCTAssertNotEqual(duplicate.number, ours)
    XCTAssertGreaterThan(duplicate.number, 2)
    XCTAssertEqual(fcntl(duplicate.number, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC)
    XCTAssertTrue(duplicate.describes(ours))
    XCTAssertTrue(standing.describes(duplicate.number))
    duplicate.close()
    XCTAssertTrue(standing.isOurs)
  }

  func testReplacingEndsTheConnectionThere() throws {
    let descriptor = Descriptor(number: ours)
    descriptor.replace(with: null)
    XCTAssertEqual(target(ours), "/dev/null")
    XCTAssertEqual(fcntl(ours, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC)
    // No other descriptor held the socket, so its peer reads the end.
    var byte: UInt8 = 0
    XCTAssertEqual(read(peer, &byte, 1), 0)
    XCTAssertTrue(isOpen(null))
  }

  func testANumberThatBecameSomebodyElsesIsNotReplaced() throws {
    let descriptor = Descriptor(number: ours)
    XCTAssertEqual(dup2(peer, ours), ours)
    descriptor.replace(with: null)
    XCTAssertEqual(target(ours), target(peer))
  }

  func testAnAliasIsReplacedOnlyWhileItIsTheSameFile() {
    let descriptor = Descriptor(duplicating: ours)
    defer { close(descriptor.number) }
    descriptor.replace(alias: peer, with: null)
    XCTAssertEqual(target(peer)?.hasPrefix("socket:"), true)
    descriptor.replace(alias: -1, with: null)
    descriptor.replace(alias: ours, with: null)
    XCTAssertEqual(target(ours), "/dev/null")
    XCTAssertTrue(descriptor.isOurs)
  }

  func testWithoutDevNullNothingHappens() {
    let descriptor = Descriptor(number: ours)
    descriptor.replace(with: -1)
    XCTAssertTrue(descriptor.isOurs)
  }
}
