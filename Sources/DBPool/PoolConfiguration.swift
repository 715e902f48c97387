import CDBPool
import CPoolShims

#if SWIFT_PACKAGE
  import Libpq
  import PoolRuntime
#endif

/// Reads and checks everything that `pool_create` is given.
enum PoolConfiguration {
  /// 0, or a code whose message is set. What `options` and `parameters` then hold is the caller's to free.
  static func read(
    _ conninfo: UnsafePointer<CChar>?, _ given: UnsafePointer<pool_options_t>?, _ options: inout Options,
    _ parameters: inout ConnectParameters?
  ) -> Int32 {
    if let given {
      let code = options.apply(given)
      guard code == POOL_OK else { return code }
    }
    let length = conninfo.map { strnlen($0, Int(POOL_CONNINFO_LIMIT) + 1) } ?? 0
    guard length < Int(POOL_CONNINFO_LIMIT) else {
      return Failure.set(POOL_EINVAL, "the conninfo is longer than 65535 bytes")
    }
    guard let rest = Memory.allocate(CChar.self, count: length + 1) else { return Failure.set(POOL_ENOMEM) }
    defer {
      explicit_bzero(rest, length + 1)
      Memory.free(rest)
    }
    let code = split(conninfo, length, into: rest, &options)
    guard code == POOL_OK else { return code }
    guard options.given.background_open == 0 else {
      return Failure.set(POOL_EINVAL, "background_open is for hosted pools: this one opens its connections itself")
    }
    return finish(rest, &options, &parameters)
  }

  /// As `read`, for a hosted pool: without a conninfo.
  static func readHosted(_ given: UnsafePointer<pool_options_t>?, _ options: inout Options) -> Int32 {
    if let given {
      let code = options.apply(given)
      guard code == POOL_OK else { return code }
    }
    let code = options.validateHosted()
    guard code == POOL_OK else { return code }
    return giveName(&options) ? POOL_OK : Failure.set(POOL_ENOMEM)
  }

  private static func split(
    _ conninfo: UnsafePointer<CChar>?, _ length: Int, into rest: UnsafeMutablePointer<CChar>, _ options: inout Options
  ) -> Int32 {
    let input = UnsafeBufferPointer(
      start: conninfo.map { UnsafeRawPointer($0).assumingMemoryBound(to: UInt8.self) }, count: length)
    let output = UnsafeMutableBufferPointer(
      start: UnsafeMutableRawPointer(rest).assumingMemoryBound(to: UInt8.self), count: length + 1)
    var code = POOL_OK
    switch splitConninfo(
      input, into: output,
      option: { key, value in
        code = OptionKeys.apply(key, value, to: &options)
        return code == POOL_OK
      })
    {
    case .done: return POOL_OK
    case .refused: return code
    case .outputTooSmall: return Failure.set(POOL_EINTERNAL)
    }
  }

  private static func finish(
    _ conninfo: UnsafePointer<CChar>, _ options: inout Options, _ parameters: inout ConnectParameters?
  ) -> Int32 {
    let code = options.validate()
    guard code == POOL_OK, giveName(&options) else { return code == POOL_OK ? Failure.set(POOL_ENOMEM) : code }
    // libpq holds a lock while it asks for the user's name, which a child forked meanwhile would find taken.
    guard let forkCount = LibpqGate.enterFromHost() else { return Failure.exiting() }
    let result = expand(conninfo, options, &parameters)
    LibpqGate.leave(since: forkCount)
    guard result == POOL_OK else { return result }
    if let seconds = parameters?.connectTimeoutSeconds, !options.hasConnectTimeout {
      options.given.connect_timeout_ms = Int32(clamping: Swift.min(seconds, 2_147_483) * 1000)
    }
    return POOL_OK
  }

  private static func expand(
    _ conninfo: UnsafePointer<CChar>, _ options: Options, _ parameters: inout ConnectParameters?
  ) -> Int32 {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(POOL_MESSAGE_SIZE)) { buffer in
      guard let start = buffer.baseAddress else { return Failure.set(POOL_EINTERNAL) }
      var message = Message(start, capacity: Int(POOL_MESSAGE_SIZE))
      switch ConnectParameters.expand(
        conninfo: conninfo, fallbackApplicationName: options.name, message: &message)
      {
      case .success(let expanded):
        parameters = expanded
        return POOL_OK
      case .invalid:
        return Failure.set(POOL_EINVAL) {
          $0.append("conninfo: ")
          $0.append(cString: message.cString)
        }
      case .outOfMemory: return Failure.set(POOL_ENOMEM)
      }
    }
  }

  /// "pool-N" for a pool without a name.
  private static func giveName(_ options: inout Options) -> Bool {
    if let name = options.name, name[0] != 0 { return true }
    guard let name = Memory.allocate(CChar.self, count: 32) else { return false }
    var message = Message(name, capacity: 32)
    message.append("pool-")
    message.append(Registry.nextNumber)
    Memory.free(options.name)
    options.name = name
    return true
  }
}
