import PoolCore
import PoolRuntime
import Synchronization
import XCTest

final class IdleStackTests: XCTestCase {
  private static let seats = 7

  /// A stack, its lock, and for each seat whoever has it: 0 nobody, else a thread.
  private struct Table: ~Copyable {
    let stack = IdleStack()
    let lock = Lock()
    let owners = InlineArray<8, Atomic<Int>> { _ in Atomic<Int>(0) }
    let faults = Atomic<Int>(0)
    let passes = Atomic<Int>(0)

    func take(_ seat: UInt8, _ who: Int) {
      if owners[Int(seat)].exchange(who, ordering: .relaxed) != 0 { faults.wrappingAdd(1, ordering: .relaxed) }
    }

    func leave(_ seat: UInt8, _ who: Int) {
      if owners[Int(seat)].exchange(0, ordering: .relaxed) != who { faults.wrappingAdd(1, ordering: .relaxed) }
    }
  }

  func testANewOneIsShut() {
    let stack = Shared(IdleStack())
    XCTAssertTrue(stack.pointer.pointee.isShut)
    XCTAssertFalse(stack.pointer.pointee.push(1))
    XCTAssertNil(stack.pointer.pointee.pushDisplacing(1))
    XCTAssertEqual(stack.pointer.pointee.pop(), 0)
    XCTAssertEqual(stack.pointer.pointee.shut(), .empty)
  }

  func testShuttingHandsOverWhatLayThere() {
    let stack = Shared(IdleStack())
    stack.pointer.pointee.open()
    for seat in 1...7 { XCTAssertTrue(stack.pointer.pointee.push(UInt8(seat))) }
    XCTAssertFalse(stack.pointer.pointee.push(8), "it is full")
    XCTAssertEqual(stack.pointer.pointee.pushDisplacing(8), 1)
    XCTAssertEqual(stack.pointer.pointee.pop(), 8)
    XCTAssertEqual(stack.pointer.pointee.pushDisplacing(9), 0, "there is room")
    let content = stack.pointer.pointee.shut()
    XCTAssertEqual(content.bottom, 2)
    XCTAssertEqual(content.top, 9)
    XCTAssertEqual(stack.pointer.pointee.pop(), 0)
    stack.pointer.pointee.open()
    XCTAssertEqual(stack.pointer.pointee.pop(), 0)
  }

  /// Borrowers pop and push while others take the lock and recall, as the upkeep thread and those who wait do.
  func testASeatNeverHasTwoOwnersAndNoneIsLost() {
    let table = Shared(Table())
    table.pointer.pointee.stack.open()
    for seat in 1...Self.seats { _ = table.pointer.pointee.stack.push(UInt8(seat)) }
    let crew = Crew()
    crew.start(6) { index in
      let me = index + 1
      for round in 0..<20_000 {
        if index < 4 {
          let seat = table.pointer.pointee.stack.pop()
          if seat == 0 { continue }
          table.pointer.pointee.take(seat, me)
          table.pointer.pointee.passes.wrappingAdd(1, ordering: .relaxed)
          table.pointer.pointee.leave(seat, me)
          while !table.pointer.pointee.stack.push(seat) {}
        } else if round % 8 == 0 {
          table.pointer.pointee.lock.lock()
          var content = table.pointer.pointee.stack.shut()
          let kept = content
          while content.bottom != 0 {
            table.pointer.pointee.take(content.bottom, me)
            content = content.withoutBottom
          }
          content = kept
          while content.bottom != 0 {
            table.pointer.pointee.leave(content.bottom, me)
            content = content.withoutBottom
          }
          table.pointer.pointee.stack.open()
          content = kept
          while content.bottom != 0 {
            _ = table.pointer.pointee.stack.push(content.bottom)
            content = content.withoutBottom
          }
          table.pointer.pointee.lock.unlock()
        }
      }
    }
    crew.join()
    XCTAssertEqual(table.pointer.pointee.faults.load(ordering: .relaxed), 0)
    XCTAssertGreaterThan(table.pointer.pointee.passes.load(ordering: .relaxed), 0)
    var left = Set<UInt8>()
    while true {
      let seat = table.pointer.pointee.stack.pop()
      if seat == 0 { break }
      XCTAssertTrue(left.insert(seat).inserted, "twice")
    }
    XCTAssertEqual(left.count, Self.seats)
  }
}
