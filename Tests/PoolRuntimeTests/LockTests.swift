import PoolRuntime
import Synchronization
import XCTest

final class LockTests: XCTestCase {
  /// A plain counter beside its lock: an increment is lost when two threads are inside at once.
  private struct Guarded: ~Copyable {
    let lock = Lock()
    let count = Shared(0)
    let inside = Atomic<Int>(0)
    let overlaps = Atomic<Int>(0)

    func visit() {
      if inside.wrappingAdd(1, ordering: .relaxed).oldValue != 0 { overlaps.wrappingAdd(1, ordering: .relaxed) }
      count.pointer.pointee += 1
      inside.wrappingSubtract(1, ordering: .relaxed)
    }
  }

  func testOneThreadAtATimeIsInside() {
    let guarded = Shared(Guarded())
    let crew = Crew()
    crew.start(8) { _ in
      for _ in 0..<20_000 {
        guarded.pointer.pointee.lock.lock()
        guarded.pointer.pointee.visit()
        guarded.pointer.pointee.lock.unlock()
      }
    }
    crew.join()
    XCTAssertEqual(guarded.pointer.pointee.count.pointer.pointee, 160_000)
    XCTAssertEqual(guarded.pointer.pointee.overlaps.load(ordering: .relaxed), 0)
  }

  func testTryLockTakesOnlyAFreeLock() {
    let lock = Shared(Lock())
    XCTAssertTrue(lock.pointer.pointee.tryLock())
    XCTAssertFalse(lock.pointer.pointee.tryLock())
    let crew = Crew()
    crew.start { XCTAssertFalse(lock.pointer.pointee.tryLock()) }
    crew.join()
    lock.pointer.pointee.unlock()
    XCTAssertTrue(lock.pointer.pointee.tryLock())
    lock.pointer.pointee.unlock()
  }

  func testTryLockExcludesThoseWhoLock() {
    let guarded = Shared(Guarded())
    let taken = Shared(Atomic<Int>(0))
    let crew = Crew()
    crew.start(8) { index in
      for _ in 0..<10_000 {
        if index % 2 == 0 {
          guarded.pointer.pointee.lock.lock()
        } else if !guarded.pointer.pointee.lock.tryLock() {
          continue
        }
        taken.pointer.pointee.wrappingAdd(1, ordering: .relaxed)
        guarded.pointer.pointee.visit()
        guarded.pointer.pointee.lock.unlock()
      }
    }
    crew.join()
    XCTAssertEqual(guarded.pointer.pointee.count.pointer.pointee, taken.pointer.pointee.load(ordering: .relaxed))
    XCTAssertEqual(guarded.pointer.pointee.overlaps.load(ordering: .relaxed), 0)
  }

  /// Whoever holds the lock keeps it for longer than the others spin, so that they sleep: a lost wake-up hangs.
  func testASleeperIsAlwaysWoken() {
    let guarded = Shared(Guarded())
    let crew = Crew()
    crew.start(16) { _ in
      for _ in 0..<500 {
        guarded.pointer.pointee.lock.lock()
        guarded.pointer.pointee.visit()
        sched_yield()
        guarded.pointer.pointee.lock.unlock()
      }
    }
    crew.join("a wake-up was lost")
    XCTAssertEqual(guarded.pointer.pointee.count.pointer.pointee, 8000)
    XCTAssertTrue(guarded.pointer.pointee.lock.tryLock(), "the lock is left taken")
  }

  /// Several sleep at once, each is woken by the one before it.
  func testThoseAsleepTogetherAllGetIt() {
    for _ in 0..<50 {
      let lock = Shared(Lock())
      let visits = Shared(Atomic<Int>(0))
      let crew = Crew()
      lock.pointer.pointee.lock()
      crew.start(8) { _ in
        lock.pointer.pointee.lock()
        visits.pointer.pointee.wrappingAdd(1, ordering: .relaxed)
        lock.pointer.pointee.unlock()
      }
      XCTAssertEqual(visits.pointer.pointee.load(ordering: .relaxed), 0)
      lock.pointer.pointee.unlock()
      crew.join("a wake-up was lost")
      XCTAssertEqual(visits.pointer.pointee.load(ordering: .relaxed), 8)
    }
  }

  func testItStartsOverFree() {
    let lock = Shared(Lock())
    lock.pointer.pointee.lock()
    lock.pointer.pointee.startOver()
    XCTAssertTrue(lock.pointer.pointee.tryLock())
    XCTAssertFalse(lock.pointer.pointee.tryLock())
    lock.pointer.pointee.unlock()
    XCTAssertTrue(lock.pointer.pointee.tryLock())
  }

  func testZeroFilledMemoryIsAFreeLock() throws {
    XCTAssertEqual(MemoryLayout<Lock>.size, 4)
    let memory = try XCTUnwrap(calloc(1, MemoryLayout<Lock>.size))
    defer { free(memory) }
    let lock = memory.assumingMemoryBound(to: Lock.self)
    XCTAssertTrue(lock.pointee.tryLock())
    XCTAssertFalse(lock.pointee.tryLock())
    lock.pointee.unlock()
  }
}
