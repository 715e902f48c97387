import PoolRuntime
import Synchronization
import XCTest

/// Adds the next segment, each element with `value` of its index.
private func grow(_ table: Shared<Segments<Int>>) -> Bool {
  guard table.pointer.pointee.prepare(),
    let segment = Memory.allocate(Int.self, count: table.pointer.pointee.nextSegmentCount)
  else { return false }
  return table.pointer.pointee.add(segment) { memory, index in memory.initialize(to: value(index)) }
}

private func value(_ index: Int) -> Int { index &* 0x9E37_79B9 &+ 1 }

final class SegmentsTests: XCTestCase {
  func testSegmentsDouble() {
    let table = Shared(Segments<Int>())
    var counts: [Int] = []
    for _ in 0..<5 {
      XCTAssertTrue(grow(table))
      counts.append(table.pointer.pointee.count)
    }
    XCTAssertEqual(counts, [16, 48, 112, 240, 496])
    XCTAssertEqual(table.pointer.pointee.nextSegmentCount, 512)
  }

  func testEveryIndexHasAnElementOfItsOwn() {
    let table = Shared(Segments<Int>())
    for _ in 0..<7 { XCTAssertTrue(grow(table)) }
    var places = Set<UnsafeMutablePointer<Int>>()
    for index in 0..<table.pointer.pointee.count {
      guard let element = table.pointer.pointee.element(index) else { return XCTFail("no element \(index)") }
      XCTAssertEqual(element.pointee, value(index))
      places.insert(element)
    }
    XCTAssertEqual(places.count, table.pointer.pointee.count)
  }

  func testElementsDoNotMove() {
    let table = Shared(Segments<Int>())
    XCTAssertTrue(grow(table))
    let before = (0..<16).map { table.pointer.pointee.element($0) }
    for _ in 0..<6 { XCTAssertTrue(grow(table)) }
    XCTAssertEqual((0..<16).map { table.pointer.pointee.element($0) }, before)
    XCTAssertFalse(before.contains(nil))
  }

  func testWhatWasNeverMadeIsNil() {
    let table = Shared(Segments<Int>())
    let limit = table.pointer.pointee.limit
    let never = [-1, Int.min, limit, limit + 1, Int.max, Int.max - 15, 1 << 32]
    for index in never + [0, 15, 16] { XCTAssertNil(table.pointer.pointee.element(index), "\(index)") }
    XCTAssertTrue(grow(table))
    XCTAssertNotNil(table.pointer.pointee.element(15))
    for index in never + [16, 47, 48, limit - 1] { XCTAssertNil(table.pointer.pointee.element(index), "\(index)") }
  }

  func testWithoutItsDirectoryNothingIsAdded() throws {
    let table = Shared(Segments<Int>())
    let segment = try XCTUnwrap(Memory.allocate(Int.self, count: 16))
    defer { Memory.free(segment) }
    XCTAssertFalse(table.pointer.pointee.add(segment) { _, _ in XCTFail("made an element") })
    XCTAssertEqual(table.pointer.pointee.count, 0)
  }

  func testPreparingAgainKeepsWhatIsThere() {
    let table = Shared(Segments<Int>())
    XCTAssertTrue(grow(table))
    let first = table.pointer.pointee.element(0)
    XCTAssertTrue(table.pointer.pointee.prepare())
    XCTAssertEqual(table.pointer.pointee.element(0), first)
  }

  /// Elements of no size: the whole table costs nothing, so it can be filled.
  func testAFullTableTakesNoMore() throws {
    let table = Shared(Segments<Void>())
    XCTAssertTrue(table.pointer.pointee.prepare())
    let segment = try XCTUnwrap(Memory.allocate(Void.self, count: 1))
    var segments = 0
    while table.pointer.pointee.count < table.pointer.pointee.limit {
      XCTAssertTrue(table.pointer.pointee.add(segment) { _, _ in })
      segments += 1
    }
    XCTAssertEqual(segments, 20)
    XCTAssertEqual(table.pointer.pointee.count, table.pointer.pointee.limit)
    XCTAssertNotNil(table.pointer.pointee.element(table.pointer.pointee.limit - 1))
    XCTAssertFalse(table.pointer.pointee.add(segment) { _, _ in XCTFail("made an element") })
  }

  func testOthersLookUpWhileItGrows() {
    struct State: ~Copyable {
      let isGrown = Atomic<Bool>(false)
      let wrong = Atomic<Int>(0)
      let found = Atomic<Int>(0)
    }
    for _ in 0..<20 {
      let table = Shared(Segments<Int>())
      let state = Shared(State())
      let crew = Crew()
      crew.start(4) { index in
        var probe = index
        repeat {
          probe = (probe &* 5 &+ 3) & 0x3FFF
          guard let element = table.pointer.pointee.element(probe) else { continue }
          state.pointer.pointee.found.wrappingAdd(1, ordering: .relaxed)
          if element.pointee != value(probe) { state.pointer.pointee.wrong.wrappingAdd(1, ordering: .relaxed) }
        } while !state.pointer.pointee.isGrown.load(ordering: .acquiring)
      }
      for _ in 0..<9 { XCTAssertTrue(grow(table)) }
      state.pointer.pointee.isGrown.store(true, ordering: .releasing)
      crew.join()
      XCTAssertEqual(state.pointer.pointee.wrong.load(ordering: .relaxed), 0)
    }
  }
}
