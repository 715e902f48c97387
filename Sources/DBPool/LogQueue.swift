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

  /// In memory of its own, followed by its lines: a method that mutated the queue would have the lock for itself too.
  private struct Ring {
    var levels = InlineArray<64, Int32>(repeating: 0)
    var first = 0
    var count = 0
    var drops: UInt64 = 0
  }

  let lock = Lock()
  /// What it points to is guarded by `lock`.
  private var ring: UnsafeMutablePointer<Ring>?

  init() {}

  /// Takes the memory, once; false when there is none. Before the pool exists.
  mutating func prepare() -> Bool {
    if ring != nil { return true }
    let size = MemoryLayout<Ring>.stride + Self.capacity * Self.lineSize
    guard let memory = Memory.allocate(UInt8.self, count: size) else { return false }
    let own = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: Ring.self)
    own.initialize(to: Ring())
    ring = own
    return true
  }

  func startOver() {
    lock.startOver()
    ring?.initialize(to: Ring())
  }

  func push(_ level: Int32, _ text: UnsafePointer<CChar>) {
    guard let ring else { return }
    lock.lock()
    defer { lock.unlock() }
    guard ring.pointee.count < Self.capacity else {
      ring.pointee.drops &+= 1
      return
    }
    let place = (ring.pointee.first + ring.pointee.count) % Self.capacity
    let line = Self.line(ring, place)
    strncpy(line, text, Self.lineSize - 1)
    line[Self.lineSize - 1] = 0
    ring.pointee.levels[place] = level
    ring.pointee.count += 1
  }

  /// Copies the oldest line to `buffer` and returns its level, nil when there is none.
  func pop(into buffer: UnsafeMutablePointer<CChar>) -> Int32? {
    guard let ring else { return nil }
    lock.lock()
    defer { lock.unlock() }
    let place = ring.pointee.first
    guard ring.pointee.count > 0 else { return nil }
    memcpy(buffer, Self.line(ring, place), Self.lineSize)
    ring.pointee.first = (place + 1) % Self.capacity
    ring.pointee.count -= 1
    return ring.pointee.levels[place]
  }

  var isEmpty: Bool {
    guard let ring else { return true }
    lock.lock()
    defer { lock.unlock() }
    return ring.pointee.count == 0
  }

  /// Lines lost because the queue was full.
  var drops: UInt64 {
    guard let ring else { return 0 }
    lock.lock()
    defer { lock.unlock() }
    return ring.pointee.drops
  }

  private static func line(_ ring: UnsafeMutablePointer<Ring>, _ place: Int) -> UnsafeMutablePointer<CChar> {
    UnsafeMutableRawPointer(ring + 1).assumingMemoryBound(to: CChar.self) + place * lineSize
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
      message.appendCleaned(cString: record.pointee.options.name)
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
