import CPoolShims
import Foundation
import PoolRuntime
import Synchronization
import XCTest

final class ParkingTests: XCTestCase {
  // Waiter                        Waker
  // looks at value
  // looks at the state: not yet
  //                               changes the state, advances, wakes
  // parks with the value seen: returns at once
  func testAnEventBetweenLookAndParkIsNotMissed() {
    let spot = Shared(ParkingSpot())
    let seen = spot.pointer.pointee.value
    spot.pointer.pointee.advance()
    spot.pointer.pointee.wake()
    XCTAssertEqual(spot.pointer.pointee.park(seen: seen, until: .max), .woken)
  }

  func testASpotThatWasSetIsNotParkedOn() {
    let spot = Shared(ParkingSpot())
    spot.pointer.pointee.set(7)
    XCTAssertEqual(spot.pointer.pointee.value, 7)
    XCTAssertEqual(spot.pointer.pointee.park(seen: 0, until: .max), .woken)
  }

  func testTheCountWrapsAround() {
    let spot = Shared(ParkingSpot())
    spot.pointer.pointee.set(.max)
    spot.pointer.pointee.advance()
    XCTAssertEqual(spot.pointer.pointee.value, 0)
  }

  /// Two threads hand a turn to and fro; each sleeps without a deadline, so a lost wake-up hangs.
  func testTwoThreadsAlternateWithoutALostWakeUp() {
    let turn = Shared(ParkingSpot())
    let rounds: UInt32 = 20_000
    let crew = Crew()
    crew.start(2) { index in
      for round in 0..<rounds {
        let mine = 2 * round + UInt32(index)
        while true {
          let seen = turn.pointer.pointee.value
          if seen == mine { break }
          _ = turn.pointer.pointee.park(seen: seen, until: .max)
        }
        turn.pointer.pointee.advance()
        turn.pointer.pointee.wake()
      }
    }
    crew.join("a wake-up was lost")
    XCTAssertEqual(turn.pointer.pointee.value, 2 * rounds)
  }

  /// As a ticket: the state is another word, changed before the spot advances.
  func testWhoLooksThenParksSeesEveryChange() {
    struct State: ~Copyable {
      let spot = ParkingSpot()
      let count = Atomic<Int>(0)
    }
    let state = Shared(State())
    let total = 8 * 2000
    let crew = Crew()
    crew.start(4) { _ in
      while true {
        let seen = state.pointer.pointee.spot.value
        if state.pointer.pointee.count.load(ordering: .relaxed) == total { return }
        _ = state.pointer.pointee.spot.park(seen: seen, until: .max)
      }
    }
    crew.start(8) { _ in
      for _ in 0..<2000 {
        state.pointer.pointee.count.wrappingAdd(1, ordering: .relaxed)
        state.pointer.pointee.spot.advance()
        state.pointer.pointee.spot.wake()
      }
    }
    crew.join("a wake-up was lost")
  }

  func testEachWakeOfOneLetsOneGo() {
    let spot = Shared(ParkingSpot())
    let gone = Shared(Atomic<Int>(0))
    let crew = Crew()
    crew.start(6) { _ in
      // Every time-out is followed by another look, so that those not asleep yet when a wake-up came end too.
      while spot.pointer.pointee.value == 0 {
        _ = spot.pointer.pointee.park(seen: 0, until: Clock.after(milliseconds: 5))
      }
      gone.pointer.pointee.wrappingAdd(1, ordering: .relaxed)
    }
    spot.pointer.pointee.advance()
    for _ in 0..<6 { spot.pointer.pointee.wake(1) }
    crew.join()
    XCTAssertEqual(gone.pointer.pointee.load(ordering: .relaxed), 6)
  }

  func testTheDeadlineIsKept() {
    let spot = Shared(ParkingSpot())
    let deadline = Clock.after(milliseconds: 30)
    var end = Wait.woken
    // A spurious wake-up is allowed: the caller looks again.
    while end != .timedOut, Clock.now < deadline + 5_000_000_000 {
      end = spot.pointer.pointee.park(seen: 0, until: deadline)
    }
    XCTAssertEqual(end, .timedOut)
    XCTAssertGreaterThanOrEqual(Clock.now, deadline)
  }

  func testADeadlineThatHasPassedDoesNotSleep() {
    let spot = Shared(ParkingSpot())
    let outcomes = Shared(Outcomes())
    let crew = Crew()
    for (index, deadline) in [0, 1, Clock.now, -1, .min].enumerated() {
      crew.start { outcomes.pointer.pointee.values[index] = spot.pointer.pointee.park(seen: 0, until: deadline) }
      crew.join("a deadline of \(deadline) is none")
      XCTAssertEqual(outcomes.pointer.pointee.values[index], .timedOut, "\(deadline)")
    }
  }

  private struct Outcomes {
    var values = [Wait?](repeating: nil, count: 5)
  }

  func testASignalHandlerInterruptsAWaitWithADeadline() {
    interrupt(flags: 0, until: Clock.after(milliseconds: 60_000))
    interrupt(flags: SA_RESTART, until: Clock.after(milliseconds: 60_000))
  }

  /// futex(2) without a time is started again behind a handler with SA_RESTART, which signal(3) sets.
  func testASignalHandlerInterruptsAWaitWithoutADeadline() {
    interrupt(flags: 0, until: .max)
    interrupt(flags: SA_RESTART, until: .max)
  }

  private struct Sleeper: ~Copyable {
    let spot = ParkingSpot()
    let isDone = Atomic<Bool>(false)
    var thread: pthread_t?
    var end: Wait?
  }

  /// Sends signals to a thread that parks, until it has returned: the first may come before it sleeps.
  private func interrupt(flags: Int32, until deadline: Int64, line: UInt = #line) {
    var action = sigaction()
    var before = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    action.sa_flags = flags
    sigaction(SIGUSR1, &action, &before)
    defer { sigaction(SIGUSR1, &before, nil) }

    let sleeper = Shared(Sleeper())
    let (ready, leave) = (Gate(), Gate())
    let crew = Crew()
    crew.start {
      sleeper.pointer.pointee.thread = pthread_self()
      ready.open()
      let end = sleeper.pointer.pointee.spot.park(seen: 0, until: deadline)
      sleeper.pointer.pointee.end = end
      sleeper.pointer.pointee.isDone.store(true, ordering: .releasing)
      // The thread must exist while it is sent signals.
      XCTAssertTrue(leave.pass())
    }
    guard ready.pass(), let thread = sleeper.pointer.pointee.thread else { return XCTFail("no thread", line: line) }
    let patience = Clock.after(milliseconds: 10_000)
    while !sleeper.pointer.pointee.isDone.load(ordering: .acquiring), Clock.now < patience {
      pthread_kill(thread, SIGUSR1)
      sched_yield()
    }
    let isInterrupted = sleeper.pointer.pointee.isDone.load(ordering: .acquiring)
    XCTAssertTrue(isInterrupted, "the handler ran, and the wait went on", line: line)
    sleeper.pointer.pointee.spot.advance()
    sleeper.pointer.pointee.spot.wake()
    leave.open()
    crew.join()
    if isInterrupted { XCTAssertEqual(sleeper.pointer.pointee.end, .interrupted, line: line) }
  }
}
