import CPoolShims
import PoolCore
import PoolRuntime
import XCTest

final class ClockTests: XCTestCase {
  func testItNeverGoesBack() {
    var last = Clock.now
    for _ in 0..<10_000 {
      let now = Clock.now
      XCTAssertGreaterThanOrEqual(now, last)
      last = now
    }
  }

  func testItIsTheMonotonicClockInNanoseconds() {
    var time = timespec()
    let before = Clock.now
    clock_gettime(CLOCK_MONOTONIC, &time)
    let between = Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    XCTAssertLessThanOrEqual(before, between)
    XCTAssertLessThanOrEqual(between, Clock.now)
  }

  func testTheFarthestDeadlineDoesNotWrapAround() {
    let before = Clock.now
    let farthest = Clock.after(milliseconds: .max)
    XCTAssertGreaterThanOrEqual(farthest, before + Int64(Int32.max) * 1_000_000)
    XCTAssertLessThan(Clock.after(milliseconds: .min), before)
  }

  func testInstantsSaturate() {
    XCTAssertEqual(Instant.milliseconds(.max), .never)
    XCTAssertEqual(Instant.never.after(1), .never)
    XCTAssertEqual(Clock.now.after(.never), .never)
    XCTAssertEqual(Instant(5).after(.milliseconds(2)), 2_000_005)
  }
}
