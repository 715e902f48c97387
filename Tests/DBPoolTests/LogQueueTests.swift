import CDBPool
import Foundation
import PoolRuntime
import Synchronization
import XCTest

@testable import DBPool

extension UnsafeMutablePointer<LogQueue> {
  fileprivate func push(_ text: String, level: Int32 = POOL_LOG_INFO) { pointee.push(level, text) }

  fileprivate func pop() -> (level: Int32, text: String)? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: LogQueue.lineSize) { buffer in
      guard let level = pointee.pop(into: buffer.baseAddress!) else { return nil }
      return (level, String(cString: buffer.baseAddress!))
    }
  }
}

final class LogQueueTests: XCTestCase {
  private func makeQueue() -> UnsafeMutablePointer<LogQueue> {
    let queue = Shared(LogQueue()).pointer
    XCTAssertTrue(queue.pointee.prepare())
    return queue
  }

  func testLinesComeOutAsTheyWentIn() {
    let queue = makeQueue()
    XCTAssertTrue(queue.pointee.isEmpty)
    XCTAssertNil(queue.pop())
    // More than fit at once, so that the ring goes round.
    for number in 0..<200 {
      queue.push("line \(number)", level: Int32(number % 4))
      XCTAssertFalse(queue.pointee.isEmpty)
      let line = queue.pop()
      XCTAssertEqual(line?.text, "line \(number)")
      XCTAssertEqual(line?.level, Int32(number % 4))
    }
    XCTAssertTrue(queue.pointee.isEmpty)
    XCTAssertEqual(queue.pointee.drops, 0)
  }

  func testAFullQueueCountsWhatItDrops() {
    let queue = makeQueue()
    for number in 0..<100 { queue.push("\(number)") }
    XCTAssertEqual(queue.pointee.drops, 36)
    XCTAssertEqual(queue.pop()?.text, "0")
    queue.push("again")
    queue.push("dropped")
    XCTAssertEqual(queue.pointee.drops, 37)
    var rest: [String] = []
    while let line = queue.pop() { rest.append(line.text) }
    XCTAssertEqual(rest, (1..<64).map { "\($0)" } + ["again"])
  }

  func testALongLineIsCut() {
    let queue = makeQueue()
    let long = String(repeating: "x", count: 2000)
    queue.push(long)
    queue.push("short")
    XCTAssertEqual(queue.pop()?.text, String(long.prefix(LogQueue.lineSize - 1)))
    XCTAssertEqual(queue.pop()?.text, "short")
  }

  func testStartingOverForgets() {
    let queue = makeQueue()
    for number in 0..<70 { queue.push("\(number)") }
    queue.pointee.lock.lock()
    queue.pointee.startOver()
    XCTAssertTrue(queue.pointee.isEmpty)
    XCTAssertEqual(queue.pointee.drops, 0)
    queue.push("new")
    XCTAssertEqual(queue.pop()?.text, "new")
  }

  func testWithoutMemoryItTakesNothing() {
    let queue = Shared(LogQueue()).pointer
    queue.push("lost")
    XCTAssertNil(queue.pop())
    XCTAssertTrue(queue.pointee.isEmpty)
    XCTAssertEqual(queue.pointee.drops, 0)
    queue.pointee.startOver()
  }

  func testPreparingAgainKeepsTheLines() {
    let queue = makeQueue()
    queue.push("kept")
    XCTAssertTrue(queue.pointee.prepare())
    XCTAssertEqual(queue.pop()?.text, "kept")
  }

  func testEveryLineOfManyThreadsIsDeliveredOrCounted() {
    struct State: ~Copyable {
      let senders = Atomic<Int>(4)
      let delivered = Atomic<Int>(0)
    }
    let queue = Shared(at: makeQueue())
    let state = Shared(State())
    inThreads(5) { index in
      if index < 4 {
        for _ in 0..<2000 { queue.pointer.push("from \(index)", level: Int32(index)) }
        state.pointer.pointee.senders.wrappingSubtract(1, ordering: .releasing)
        return
      }
      while true {
        let isLast = state.pointer.pointee.senders.load(ordering: .acquiring) == 0
        while let line = queue.pointer.pop() {
          XCTAssertEqual(line.text, "from \(line.level)")
          state.pointer.pointee.delivered.wrappingAdd(1, ordering: .relaxed)
        }
        if isLast { return }
        sched_yield()
      }
    }
    let delivered = state.pointer.pointee.delivered.load(ordering: .relaxed)
    XCTAssertEqual(UInt64(delivered) + queue.pointer.pointee.drops, 8000)
    XCTAssertTrue(queue.pointer.pointee.isEmpty)
  }

  func testALogWithoutACallbackTakesNothing() {
    let record = makeRecord()
    Log.write(record, POOL_LOG_ERROR) { _ in XCTFail("written for nobody") }
    XCTAssertTrue(record.pointee.log.isEmpty)
  }
}
