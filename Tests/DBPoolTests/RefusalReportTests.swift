import CDBPool
import CPoolShims
import PoolCore
import XCTest

@testable import DBPool

final class RefusalReportTests: XCTestCase {
  private let state = " (0 in use, 0 idle, 0 connecting, 0 waiting, max_size 7)"

  private func report(
    _ record: RecordPointer, _ refusal: Refusal, waited: Nanoseconds = 0, wasTry: Bool = false
  ) -> (code: Int32, text: String) {
    guard let slot = pool_error_slot_take() else { return (0, "no memory") }
    let code = RefusalReport(record, refusal, since: 0, until: waited, wasTry: wasTry).write(slot)
    XCTAssertEqual(lastError.code, code)
    return (code, lastError.text)
  }

  func testEveryRefusalHasItsCodeAndText() {
    let record = makeRecord(name: "shop", maxSize: 7)
    let cases: [(Refusal, Int32, String)] = [
      (.timedOut, POOL_ETIMEOUT, "no connection came free within 1500 ms" + state),
      (.cannotConnect, POOL_ECONNECT, "no connection could be opened within 1500 ms" + state),
      (.paused, POOL_EPAUSED, "the pool is paused, and was not resumed within 1500 ms" + state),
      (.full, POOL_EFULL, "max_waiting callers wait already" + state),
      (.closed, POOL_ECLOSED, "the pool is closed"),
      (.canceled, POOL_ECANCELED, "the ticket was taken back by pool_get_cancel"),
    ]
    for (refusal, code, text) in cases {
      let reported = report(record, refusal, waited: 1_500_999_999)
      XCTAssertEqual(reported.code, code)
      XCTAssertEqual(reported.text, "pool \"shop\": " + text)
    }
  }

  func testANameCannotForgeALine() {
    let text = report(makeRecord(name: "a\nERROR: \u{1b}[31mb", maxSize: 7), .closed).text
    XCTAssertEqual(text, "pool \"a; ERROR: [31mb\": the pool is closed")
  }

  func testATryIsNotSaidToHaveWaited() {
    let record = makeRecord(name: "shop", maxSize: 7)
    XCTAssertEqual(
      report(record, .timedOut, wasTry: true).text, "pool \"shop\": no connection came free at once" + state)
    XCTAssertEqual(
      report(record, .cannotConnect, wasTry: true).text, "pool \"shop\": no connection could be opened at once" + state)
    XCTAssertEqual(report(record, .closed, wasTry: true).text, "pool \"shop\": the pool is closed")
  }

  func testThoseWhoWaitAreCounted() {
    let record = makeRecord(maxSize: 1)
    XCTAssertTrue(PoolMemory.provideTickets(record))
    for _ in 0..<3 { _ = record.pointee.core.acquire(deadline: .never, isDetached: false, now: 0) }
    let text = report(record, .timedOut).text
    XCTAssertTrue(text.hasSuffix("within 0 ms (0 in use, 0 idle, 0 connecting, 3 waiting, max_size 1)"), text)
  }

  func testThoseInTheBackgroundAreTold() throws {
    let record = makeRecord(maxSize: 2)
    XCTAssertTrue(PoolMemory.provideSlots(record, 2) && PoolMemory.provideTickets(record))
    _ = record.pointee.core.acquire(deadline: .never, isDetached: false, now: 0)
    guard case .open(let slot) = record.pointee.core.nextTask(now: 0) else { return XCTFail("nothing is opened") }
    record.pointee.core.opened(slot, now: 0)
    record.pointee.core.release(slot, .broken, now: 0)
    let text = report(record, .timedOut).text
    XCTAssertTrue(text.contains("0 connecting, 1 in reset, check or close, 0 waiting"), text)
  }

  func testTheServersLastWordsAreTold() {
    let record = makeRecord(maxSize: 7)
    let words = "; last connect error: FATAL:  no"
    record.pointee.lastError.set("FATAL:  no")
    for refusal in [.timedOut, .cannotConnect, .paused, .full] as [Refusal] {
      XCTAssertTrue(report(record, refusal).text.hasSuffix(state + words), "\(refusal)")
    }
    XCTAssertFalse(report(record, .closed).text.contains(words))
    record.pointee.lastError.clear()
    XCTAssertTrue(report(record, .cannotConnect).text.hasSuffix(state))
  }

  func testTheLongestNameAndErrorFit() {
    let record = makeRecord(name: String(repeating: "n", count: Int(POOL_NAME_LIMIT)), maxSize: 65_535)
    record.pointee.lastError.set(String(repeating: "e", count: 2000))
    let text = report(record, .paused, waited: .never).text
    XCTAssertLessThan(text.utf8.count, Int(POOL_MESSAGE_SIZE))
    XCTAssertTrue(text.hasSuffix(String(repeating: "e", count: FixedText.capacity - 1)), text)
  }
}

final class FixedTextTests: XCTestCase {
  func testWithoutMemoryItStaysEmpty() {
    let text = FixedText()
    text.set("lost")
    text.clear()
    XCTAssertTrue(text.isEmpty)
    XCTAssertNil(text.cString)
  }

  func testItKeepsTheLastText() {
    var text = FixedText()
    XCTAssertTrue(text.prepare())
    XCTAssertTrue(text.isEmpty)
    text.set("longer")
    text.set("one")
    XCTAssertTrue(text.prepare())
    XCTAssertEqual(text.cString.map { String(cString: $0) }, "one")
    text.clear()
    XCTAssertTrue(text.isEmpty)
  }
}
