import CPoolShims
import Dispatch
import Foundation
import PoolRuntime
import XCTest

/// pthread_getattr_np, which the headers hide without _GNU_SOURCE.
private let getAttributes: (@convention(c) (pthread_t, UnsafeMutablePointer<pthread_attr_t>) -> Int32)? = {
  guard let symbol = dlsym(nil, "pthread_getattr_np") else { return nil }
  return unsafeBitCast(symbol, to: (@convention(c) (pthread_t, UnsafeMutablePointer<pthread_attr_t>) -> Int32).self)
}()

final class ThreadsTests: XCTestCase {
  /// What a thread that the library started finds out about itself.
  private struct Findings: ~Copyable {
    var unblocked: [Int32] = []
    var stackSize = 0
    var detachState: Int32 = -1
    var usedBytes = 0
    let done = Gate()
  }

  func testAThreadIsDetachedAndTakesNoSignals() throws {
    let findings = try run { pointer in
      let findings = pointer.assumingMemoryBound(to: Findings.self)
      var mask = sigset_t()
      pthread_sigmask(SIG_SETMASK, nil, &mask)
      // 32 and 33 are glibc's own; SIGKILL and SIGSTOP cannot be blocked.
      for signal in 1...64 as ClosedRange<Int32> where ![SIGKILL, SIGSTOP, 32, 33].contains(signal) {
        if sigismember(&mask, signal) != 1 { findings.pointee.unblocked.append(signal) }
      }
      var attributes = pthread_attr_t()
      guard let getAttributes, getAttributes(pthread_self(), &attributes) == 0 else { return }
      pthread_attr_getstacksize(&attributes, &findings.pointee.stackSize)
      pthread_attr_getdetachstate(&attributes, &findings.pointee.detachState)
      pthread_attr_destroy(&attributes)
    }
    XCTAssertEqual(findings.pointer.pointee.unblocked, [])
    XCTAssertEqual(findings.pointer.pointee.detachState, Int32(PTHREAD_CREATE_DETACHED))
    XCTAssertGreaterThanOrEqual(findings.pointer.pointee.stackSize, 512 * 1024)
  }

  func testTheStackCanBeUsed() throws {
    let findings = try run { pointer in
      let findings = pointer.assumingMemoryBound(to: Findings.self)
      withUnsafeTemporaryAllocation(byteCount: 400 * 1024, alignment: 16) { memory in
        for offset in stride(from: 0, to: memory.count, by: 1024) { memory[offset] = 1 }
        for offset in stride(from: 0, to: memory.count, by: 1024) { findings.pointee.usedBytes += Int(memory[offset]) }
      }
    }
    XCTAssertEqual(findings.pointer.pointee.usedBytes, 400)
  }

  func testTheStartersOwnMaskIsRestored() throws {
    var before = sigset_t()
    var after = sigset_t()
    pthread_sigmask(SIG_SETMASK, nil, &before)
    _ = try run { _ in }
    pthread_sigmask(SIG_SETMASK, nil, &after)
    for signal in 1...64 as ClosedRange<Int32> {
      XCTAssertEqual(sigismember(&before, signal), sigismember(&after, signal), "\(signal)")
    }
  }

  private typealias Look = @convention(c) (UnsafeMutableRawPointer) -> Void

  private struct Start {
    let look: Look
    let findings: Shared<Findings>
  }

  private func run(_ look: @escaping Look) throws -> Shared<Findings> {
    let findings = Shared(Findings())
    let start = Shared(Start(look: look, findings: findings))
    let error = Threads.start(
      { argument in
        guard let start = argument?.assumingMemoryBound(to: Start.self) else { return nil }
        start.pointee.look(start.pointee.findings.pointer)
        start.pointee.findings.pointer.pointee.done.open()
        return nil
      }, start.pointer)
    XCTAssertEqual(error, 0)
    _ = try XCTUnwrap(findings.pointer.pointee.done.pass() ? true : nil, "the thread does not end")
    return findings
  }
}
