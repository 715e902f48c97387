import PoolRuntime
import XCTest

final class MemoryTests: XCTestCase {
  func testASizeBeyond64BitsIsNil() {
    XCTAssertNil(Memory.allocate(Int.self, count: .max))
    XCTAssertNil(Memory.allocate(Int.self, count: .max / 8 + 1))
    // As a product of 64 bits these two are small.
    XCTAssertNil(Memory.allocate(Int.self, count: 1 << 61))
    XCTAssertNil(Memory.allocate((Int, Int).self, count: 1 << 60 | 1))
  }

  func testANegativeCountIsNil() {
    for count in [-1, -1000, Int.min] {
      let memory = Memory.allocate(Int.self, count: count)
      XCTAssertNil(memory, "\(count)")
      Memory.free(memory)
    }
  }

  func testEveryByteCanBeWritten() throws {
    for count in [0, 1, 7, 4096] {
      let memory = try XCTUnwrap(Memory.allocate(UInt16.self, count: count))
      memory.initialize(repeating: 0xA5A5, count: count)
      for index in 0..<count { XCTAssertEqual(memory[index], 0xA5A5) }
      Memory.free(memory)
    }
  }

  func testACopyIsItsOwn() throws {
    var text: [CChar] = [104, 105, 0]
    let copy = try XCTUnwrap(Memory.copy(&text))
    text[0] = 0
    XCTAssertEqual(String(cString: copy), "hi")
    Memory.free(copy)
  }

  func testNothingIsFreed() { Memory.free(nil) }
}
