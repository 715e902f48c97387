import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolRuntime
#endif

/// The lines on their way to a pool's `log` callback: a ring of fixed size. A line that finds it full is counted and
/// dropped.
struct LogQueue: ~Copyable {
  static var lineSize: Int { 512 }
  private static var capacity: Int { 64 }

  let lock = Lock()
  // Guarded by `lock`.
  private var lines: UnsafeMutablePointer<CChar>?
  private var levels: UnsafeMutablePointer<Int32>?
  private var first = 0
  private var count = 0
  private(set) var drops: UInt64 = 0

  init() {}

  /// Takes the memory, once; false when there is none. Before the pool exists.
  mutating func prepare() -> Bool {
    if lines == nil { lines = Memory.allocate(CChar.self, count: Self.capacity * Self.lineSize) }
    if levels == nil { levels = Memory.allocate(Int32.self, count: Self.capacity) }
    return lines != nil && levels != nil
  }

  mutating func startOver() {
    lock.startOver()
    (first, count, drops) = (0, 0, 0)
  }

  mutating func push(_ level: Int32, _ text: UnsafePointer<CChar>) {
    lock.lock()
    defer { lock.unlock() }
    guard count < Self.capacity, let lines, let levels else {
      drops &+= 1
      return
    }
    let place = (first + count) % Self.capacity
    let line = lines + place * Self.lineSize
    strncpy(line, text, Self.lineSize - 1)
    line[Self.lineSize - 1] = 0
    levels[place] = level
    count += 1
  }

  /// Copies the oldest line to `buffer` and returns its level, nil when there is none.
  mutating func pop(into buffer: UnsafeMutablePointer<CChar>) -> Int32? {
    lock.lock()
    defer { lock.unlock() }
    guard count > 0, let lines, let levels else { return nil }
    memcpy(buffer, lines + first * Self.lineSize, Self.lineSize)
    let level = levels[first]
    first = (first + 1) % Self.capacity
    count -= 1
    return level
  }

  var isEmpty: Bool {
    lock.lock()
    defer { lock.unlock() }
    return count == 0
  }
}

enum Log {
  /// Queues a line for the pool's log, if it has one. Any thread, not under the pool's lock.
  static func write(_ record: RecordPointer, _ level: Int32, _ write: (inout Message) -> Void) {
    guard record.pointee.options.given.log != nil else { return }
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: LogQueue.lineSize) { buffer in
      guard let start = buffer.baseAddress else { return }
      var message = Message(start, capacity: LogQueue.lineSize)
      message.append("pool \"")
      message.append(cString: record.pointee.options.name)
      message.append("\": ")
      write(&message)
      record.pointee.log.push(level, message.cString)
    }
    Upkeep.signal(record)
  }

  /// libpq's own notice processor prints; this one logs.
  static func notice(_ context: UnsafeMutableRawPointer?, _ text: UnsafePointer<CChar>?) {
    guard let context, let text else { return }
    write(context.assumingMemoryBound(to: PoolRecord.self), POOL_LOG_INFO) { $0.appendCleaned(cString: text) }
  }
}
