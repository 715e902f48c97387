import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// The thread's error slot: what `pool_errcode` and `pool_errmsg` tell.
enum Failure {
  /// Sets code and text and returns the code. `write` appends the text; it must not block.
  @discardableResult
  static func set(_ code: Int32, _ write: (inout Message) -> Void) -> Int32 {
    guard let slot = pool_error_slot_take() else { return code }
    slot.pointee.code = code
    withMessage(slot) { message in write(&message) }
    return code
  }

  @discardableResult
  static func set(_ code: Int32, _ text: StaticString) -> Int32 {
    set(code) { $0.append(text) }
  }

  /// The code with its constant text.
  @discardableResult
  static func set(_ code: Int32) -> Int32 {
    set(code) { $0.append(cString: pool_strerror(code)) }
  }

  /// As `set`, with the system's words for an errno value.
  @discardableResult
  static func system(_ error: Int32, _ text: StaticString) -> Int32 {
    set(POOL_ESYSTEM) { message in
      message.append(text)
      message.append(": ")
      message.append(systemError: error)
    }
  }

  static func exiting() -> Int32 {
    set(POOL_ESYSTEM, "libpq cannot be used: the process exits")
  }

  static func message(_ slot: UnsafeMutablePointer<pool_error_slot>) -> Message {
    UnsafeMutableRawPointer(slot).advanced(by: pool_error_message_offset()).withMemoryRebound(
      to: CChar.self, capacity: Int(POOL_MESSAGE_SIZE)
    ) { Message($0, capacity: Int(POOL_MESSAGE_SIZE)) }
  }

  private static func withMessage(_ slot: UnsafeMutablePointer<pool_error_slot>, _ body: (inout Message) -> Void) {
    var message = message(slot)
    body(&message)
  }
}

extension Message {
  /// "Too many open files (errno 24)".
  mutating func append(systemError error: Int32) {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
      guard let start = buffer.baseAddress else { return }
      pool_error_text(error, start, 128)
      append(cString: start)
    }
    append(" (errno ")
    append(Int(error))
    append(")")
  }
}
