import CDBPool
import CPoolShims
import PoolCore
import XCTest

@testable import DBPool

/// A caller's struct of `size` bytes in memory of just that size: the defaults as far as they reach, then zeros.
private final class Caller {
  let memory: UnsafeMutableRawPointer
  let size: Int

  init(size: Int) {
    self.size = size
    memory = .allocate(byteCount: max(size, 8), alignment: 8)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: max(size, 8))
    var defaults = Options.defaults
    withUnsafeBytes(of: &defaults) { memory.copyMemory(from: $0.baseAddress!, byteCount: min($0.count, size)) }
    memory.storeBytes(of: size, as: Int.self)
  }

  deinit { memory.deallocate() }

  var pointer: UnsafeMutablePointer<pool_options_t> { memory.assumingMemoryBound(to: pool_options_t.self) }

  func apply(to options: inout Options) -> Int32 { options.apply(UnsafePointer(pointer)) }
}

final class OptionsTests: XCTestCase {
  private let known = MemoryLayout<pool_options_t>.size

  private func validate(_ change: (inout Options) -> Void) -> Int32 {
    var options = Options()
    defer { options.free() }
    change(&options)
    return options.validate()
  }

  // MARK: Sizes

  func testTheStructOfThisReleaseIsTakenOver() {
    let caller = Caller(size: known)
    for (position, number) in numbers.enumerated() {
      caller.pointer.pointee[keyPath: number.path] = Int32(position) + 100
    }
    var options = Options()
    XCTAssertEqual(caller.apply(to: &options), POOL_OK)
    for (position, number) in numbers.enumerated() {
      XCTAssertEqual(options.given[keyPath: number.path], Int32(position) + 100, number.name)
    }
    XCTAssertEqual(options.given.size, known)
  }

  func testALongerStructWithAZeroTailIsTakenOver() {
    for size in [known + 4, known + 8, known + 64, 4096, 65_536] {
      let caller = Caller(size: size)
      caller.pointer.pointee.max_size = 3
      var options = Options()
      XCTAssertEqual(caller.apply(to: &options), POOL_OK, "\(size)")
      XCTAssertEqual(options.given.max_size, 3)
      XCTAssertEqual(options.given.size, known)
    }
  }

  func testALongerStructThatSetsAnUnknownOptionIsRefused() {
    for size in [known + 4, known + 8, 4096] {
      for offset in [known, size - 1] {
        let caller = Caller(size: size)
        caller.memory.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
        var options = Options()
        XCTAssertEqual(caller.apply(to: &options), POOL_EINVAL, "\(offset) of \(size)")
        XCTAssertTrue(lastError.text.contains("this version of the library does not have"), lastError.text)
        XCTAssertEqual(options.given.max_size, 10)
      }
    }
  }

  /// One that ends within a member would have it half read.
  func testAStructThatEndsWithinAMemberIsRefused() {
    for size in 0..<known where size < 8 || size % 4 != 0 || (size < Options.pointersSize && size % 8 != 0) {
      let caller = Caller(size: size)
      if size >= 16 { caller.memory.storeBytes(of: 0x4141_4141, toByteOffset: 8, as: UInt32.self) }
      var options = Options()
      XCTAssertEqual(caller.apply(to: &options), POOL_EINVAL, "\(size)")
      XCTAssertTrue(lastError.text.hasPrefix("options: size \(size) is not"), lastError.text)
      XCTAssertNil(options.name)
    }
  }

  func testAShorterStructKeepsTheDefaultsInItsMissingTail() {
    let caller = Caller(size: known - 4)
    caller.memory.storeBytes(of: 7, toByteOffset: Options.pointersSize + 4, as: Int32.self)
    var options = Options()
    XCTAssertEqual(caller.apply(to: &options), POOL_OK)
    XCTAssertEqual(options.given.max_size, 7)
    XCTAssertEqual(options.given.exact_times, 0)
    XCTAssertEqual(options.given.size, known)
  }

  func testASizeThatNoStructHasIsRefused() {
    for size in [known + 1, known + 2, known + 3, 65_540, Int.max, -1, Int.min] {
      let caller = Caller(size: 8)
      caller.memory.storeBytes(of: size, as: Int.self)
      var options = Options()
      XCTAssertEqual(caller.apply(to: &options), POOL_EINVAL, "\(size)")
      XCTAssertTrue(lastError.text.contains("POOL_OPTIONS_INIT"), lastError.text)
    }
  }

  func testInitFillsAStructOfAnyLaterSize() {
    for size in [known, known + 4, known + 64] {
      let memory = UnsafeMutableRawPointer.allocate(byteCount: size + 8, alignment: 8)
      defer { memory.deallocate() }
      memory.initializeMemory(as: UInt8.self, repeating: 0xAA, count: size + 8)
      XCTAssertEqual(poolOptionsInit(memory.assumingMemoryBound(to: pool_options_t.self), size), POOL_OK)
      XCTAssertEqual(memory.load(as: Int.self), size)
      XCTAssertEqual(memory.load(fromByteOffset: 68, as: Int32.self), 10)
      for offset in known..<size + 8 {
        XCTAssertEqual(memory.load(fromByteOffset: offset, as: UInt8.self), offset < size ? 0 : 0xAA)
      }
    }
  }

  func testInitRefusesWhatIsNoStruct() {
    var options = Options.defaults
    options.max_size = 77
    for size in [0, 1, 8, 64, known - 4, known - 1, -1, Int.min] {
      XCTAssertEqual(poolOptionsInit(&options, size), POOL_EINVAL, "\(size)")
      XCTAssertEqual(options.max_size, 77)
    }
    XCTAssertEqual(poolOptionsInit(nil, known), POOL_EINVAL)
    XCTAssertTrue(lastError.text.contains("pool_options_init"), lastError.text)
  }

  // MARK: Texts

  func testTextsAreCopied() {
    let caller = Caller(size: known)
    let (name, query) = (strdup("shop"), strdup("select 1"))
    caller.pointer.pointee.name = UnsafePointer(name)
    caller.pointer.pointee.reset_query = UnsafePointer(query)
    var options = Options()
    defer { options.free() }
    XCTAssertEqual(caller.apply(to: &options), POOL_OK)
    free(name)
    free(query)
    XCTAssertEqual(options.name.map { String(cString: $0) }, "shop")
    XCTAssertEqual(options.resetQuery.map { String(cString: $0) }, "select 1")
    XCTAssertNil(options.given.name, "the caller's memory is not kept")
    XCTAssertNil(options.given.reset_query)
  }

  func testAnotherConnectTimeoutThanTheDefaultCounts() {
    for (timeout, isSet) in [(10_000, false), (9_999, true)] as [(Int32, Bool)] {
      let caller = Caller(size: known)
      caller.pointer.pointee.connect_timeout_ms = timeout
      var options = Options()
      XCTAssertEqual(caller.apply(to: &options), POOL_OK)
      XCTAssertEqual(options.hasConnectTimeout, isSet)
    }
  }

  // MARK: Ranges

  private let ranges: [(name: String, least: Int32, most: Int32)] = [
    ("min_size", 0, 65_535), ("max_size", 1, 65_535), ("max_waiting", 0, .max), ("acquire_timeout_ms", -2, .max),
    ("connect_timeout_ms", 1, .max), ("connect_concurrency", 0, 65_535), ("max_lifetime_ms", 0, .max),
    ("lifetime_jitter_percent", 0, 100), ("idle_timeout_ms", 0, .max), ("check", 0, 3),
    ("check_after_idle_ms", 0, .max), ("check_timeout_ms", 1, .max), ("reset", 0, 3), ("queue_mode", 0, 1),
    ("leak_threshold_ms", 0, .max), ("exact_times", 0, 1),
  ]

  func testTheDefaultsAreValid() { XCTAssertEqual(validate { _ in }, POOL_OK) }

  func testEveryOptionHasItsRangeAndIsNamed() {
    XCTAssertEqual(ranges.map(\.name), numbers.map(\.name))
    for (range, number) in zip(ranges, numbers) {
      var wrong = [range.least - 1, Int32.min]
      if range.most < .max { wrong += [range.most + 1, .max] }
      for value in wrong {
        XCTAssertEqual(validate { $0.given[keyPath: number.path] = value }, POOL_EINVAL, "\(number.name) \(value)")
        XCTAssertEqual(
          lastError.text, "\(number.name) is \(value); it must be from \(range.least) to \(range.most)")
      }
      for value in [range.least, range.most] {
        let code = validate {
          $0.given.max_size = POOL_MAX_SIZE_LIMIT
          $0.given[keyPath: number.path] = value
          if $0.given.reset == POOL_RESET_QUERY { $0.resetQuery = strdup("select 1") }
        }
        XCTAssertEqual(code, POOL_OK, "\(number.name) \(value): \(lastError.text)")
      }
    }
  }

  func testTheDefaultTimeoutCannotBeThePoolsOwn() {
    XCTAssertEqual(validate { $0.given.acquire_timeout_ms = POOL_TIMEOUT_DEFAULT }, POOL_EINVAL)
    XCTAssertTrue(lastError.text.hasPrefix("acquire_timeout_ms is -1"), lastError.text)
  }

  func testTheMinimumIsNotAboveTheMaximum() {
    XCTAssertEqual(validate { $0.given.min_size = 10 }, POOL_OK)
    XCTAssertEqual(validate { $0.given.min_size = 11 }, POOL_EINVAL)
    XCTAssertEqual(lastError.text, "min_size is 11, more than max_size, which is 10")
  }

  func testAResetByQueryNeedsTheQueryAndTheReverse() {
    XCTAssertEqual(validate { $0.given.reset = POOL_RESET_QUERY }, POOL_EINVAL)
    XCTAssertEqual(lastError.text, "reset is query, but reset_query is not set")
    let empty = validate {
      $0.given.reset = POOL_RESET_QUERY
      $0.resetQuery = strdup("")
    }
    XCTAssertEqual(empty, POOL_EINVAL)
    XCTAssertEqual(validate { $0.resetQuery = strdup("select 1") }, POOL_EINVAL)
    XCTAssertEqual(lastError.text, "reset_query is set, but reset is not query")
    XCTAssertEqual(validate { $0.resetQuery = strdup("") }, POOL_OK)
  }

  func testANameIsAtMostAnIdentifier() {
    XCTAssertEqual(validate { $0.name = strdup(String(repeating: "n", count: 63)) }, POOL_OK)
    XCTAssertEqual(validate { $0.name = strdup(String(repeating: "n", count: 64)) }, POOL_EINVAL)
    XCTAssertTrue(lastError.text.hasPrefix("name is longer"), lastError.text)
  }

  // MARK: What the core gets

  func testTheCoreGetsWhatWasGiven() {
    var options = Options()
    for (position, number) in numbers.enumerated() { options.given[keyPath: number.path] = Int32(position) + 20 }
    (options.given.check, options.given.reset, options.given.queue_mode) = (3, 2, 1)
    let settings = options.settings
    XCTAssertEqual([settings.minSize, settings.maxSize, settings.maxWaiting], [20, 21, 22])
    XCTAssertEqual(settings.connectTimeout, 24_000_000)
    XCTAssertEqual(settings.connectConcurrency, 25)
    XCTAssertEqual(settings.maxLifetime, 26_000_000)
    XCTAssertEqual(settings.lifetimeJitterPercent, 27)
    XCTAssertEqual(settings.idleTimeout, 28_000_000)
    XCTAssertEqual(settings.check, .ping)
    XCTAssertEqual(settings.checkAfterIdle, 30_000_000)
    XCTAssertEqual(settings.checkTimeout, 31_000_000)
    XCTAssertEqual(settings.reset, .discardAll)
    XCTAssertEqual(settings.queueMode, .fifo)
  }

  func testTheCoresModesHaveTheHeadersNumbers() {
    XCTAssertEqual(
      [CheckMode.none, .watch, .socket, .ping].map(\.rawValue),
      [POOL_CHECK_NONE, POOL_CHECK_WATCH, POOL_CHECK_SOCKET, POOL_CHECK_PING])
    XCTAssertEqual(
      [ResetMode.none, .rollback, .discardAll, .query].map(\.rawValue),
      [POOL_RESET_NONE, POOL_RESET_ROLLBACK, POOL_RESET_DISCARD_ALL, POOL_RESET_QUERY])
    XCTAssertEqual([QueueMode.lifo, .fifo].map(\.rawValue), [POOL_LIFO, POOL_FIFO])
  }

  func testZeroMeansNever() {
    var options = Options()
    options.given.max_lifetime_ms = 0
    options.given.idle_timeout_ms = 0
    XCTAssertEqual(options.settings.maxLifetime, .never)
    XCTAssertEqual(options.settings.idleTimeout, .never)
  }

  func testOnlyAPlainPoolTakesTheShortWay() {
    XCTAssertTrue(Options().isPlain)
    let changes: [(inout Options) -> Void] = [
      { $0.given.check = POOL_CHECK_SOCKET }, { $0.given.check = POOL_CHECK_PING }, { $0.given.exact_times = 1 },
      { $0.given.leak_threshold_ms = 1 },
    ]
    for change in changes {
      var options = Options()
      change(&options)
      XCTAssertFalse(options.isPlain)
    }
  }
}
