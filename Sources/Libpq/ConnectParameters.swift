import CLibpq
import CPoolShims

/// Everything libpq needs to connect, read once: conninfo, environment and service file.
///
/// The two arrays for `PQconnectStartParams` and all texts lie in one block, which holds the password and is wiped by
/// `free()`. What the user set to nothing (`password=''`, to keep PGPASSWORD out) cannot stand in the arrays, as libpq
/// skips empty values there; it is expanded from a first `dbname`, which hides the true one from expansion.
public struct ConnectParameters {
  let keywords: UnsafeMutablePointer<UnsafePointer<CChar>?>
  let values: UnsafeMutablePointer<UnsafePointer<CChar>?>
  let count: Int
  /// The first `dbname` is a conninfo: the one with the empty values.
  let expandsFirstName: Bool
  private let block: UnsafeMutableRawPointer
  private let blockSize: Int
  /// `connect_timeout`, if it is more than 0. It is not passed on: `PQconnectPoll` has no clock.
  public let connectTimeoutSeconds: Int?

  public enum Expansion {
    case success(ConnectParameters)
    /// The message says what is wrong, without any password.
    case invalid
    case outOfMemory
  }

  /// Reads everything there is to know, without touching the network. To be ended with `free()`.
  public static func expand(
    conninfo: UnsafePointer<CChar>, fallbackApplicationName: UnsafePointer<CChar>?, message: inout Message
  ) -> Expansion {
    guard mayUseEnvironment(&message) else { return .invalid }
    switch ConninfoProbe.run(conninfo, &message) {
    case .invalid: return .invalid
    case .outOfMemory: return .outOfMemory
    case .success(let probe):
      defer { probe.free() }
      guard isValid(probe, &message) else { return .invalid }
      return withHome { home in
        let pinned = PinnedOptions(home: home)
        let options = EffectiveOptions(probe: probe, pinned: pinned, applicationName: fallbackApplicationName)
        guard let parameters = ConnectParameters(options) else { return .outOfMemory }
        return .success(parameters)
      }
    }
  }

  private static func withHome(_ body: (UnsafePointer<CChar>?) -> Expansion) -> Expansion {
    // Longer than any path that can be opened. A temporary allocation of Swift's would lie on the heap, unchecked.
    let size = 4096
    guard let memory = malloc(size) else { return .outOfMemory }
    defer { CPoolShims.free(memory) }
    let path = memory.assumingMemoryBound(to: CChar.self)
    return body(pool_home(path, size) ? path : nil)
  }

  private init?(_ options: EffectiveOptions) {
    let size = options.measure()
    let pointers = size.arrayLength &* 2 &* MemoryLayout<UnsafePointer<CChar>?>.stride
    blockSize = pointers &+ size.textBytes
    guard let block = calloc(1, blockSize) else { return nil }
    self.block = block
    keywords = block.assumingMemoryBound(to: UnsafePointer<CChar>?.self)
    values = keywords + size.arrayLength
    expandsFirstName = size.hasEmptyValues
    var text = TextBlock(start: block + pointers)
    count = options.write(keywords, values, &text, hasEmptyValues: size.hasEmptyValues)
    connectTimeoutSeconds = options.connectTimeoutSeconds()
  }

  /// Wipes and frees everything; values obtained before are gone.
  public func free() {
    explicit_bzero(block, blockSize)
    CPoolShims.free(block)
  }

  /// The value that is passed on; nil when there is none or it is empty. Valid until `free()`.
  public func value(for keyword: StaticString) -> UnsafePointer<CChar>? {
    var index = count
    while index > (expandsFirstName ? 1 : 0) {
      index &-= 1
      if let name = keywords[index], UnsafeBufferPointer<UInt8>(cString: name).isEqual(to: keyword) {
        return values[index]
      }
    }
    return nil
  }

  func list(_ keyword: StaticString) -> UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(optional: value(for: keyword))
  }

  /// TLS may be used: some host is reached over TCP, and `sslmode` does not rule it out.
  public var usesTLS: Bool {
    guard !list("sslmode").isEqual(to: "disable") else { return false }
    let hosts = list("host")
    let addresses = list("hostaddr")
    return hasItem(hosts) { $0.count > 0 && !isUnixSocket($0) } || hasItem(addresses) { $0.count > 0 }
  }
}

private func hasItem(_ list: UnsafeBufferPointer<UInt8>, _ isWanted: (UnsafeBufferPointer<UInt8>) -> Bool) -> Bool {
  var items = ListItems(list)
  while let item = items.next() {
    if isWanted(item) { return true }
  }
  return false
}

// MARK: what is passed on

/// The values that libpq has told, with our additions.
private struct EffectiveOptions {
  let probe: ConninfoProbe
  let pinned: PinnedOptions
  let applicationName: UnsafePointer<CChar>?

  struct Size {
    /// Of one array, with its final NULL.
    var arrayLength = 2
    var textBytes = 0
    var hasEmptyValues = false
  }

  /// The value comes in two parts, of which the second is mostly empty.
  private func forEach(_ body: (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>) -> Void) {
    var option = probe.options
    while let keyword = option.pointee.keyword {
      if let (value, more) = value(of: option, keyword) { body(keyword, value, more) }
      option += 1
    }
  }

  /// nil: it is not passed on. (Once in the library, not once for each loop.)
  @inline(never)
  private func value(
    of option: UnsafeMutablePointer<PQconninfoOption>, _ keyword: UnsafePointer<CChar>
  ) -> (UnsafePointer<CChar>, UnsafePointer<CChar>)? {
    let nothing = cString("")
    let name = UnsafeBufferPointer<UInt8>(cString: keyword)
    if name.isEqual(to: "connect_timeout") { return nil }
    if let value = probe.value(of: option.pointee) { return (value, nothing) }
    if let value = defaultValue(of: name) { return (cString(value), nothing) }
    if name.isEqual(to: "fallback_application_name") || name.isEqual(to: "application_name") {
      // libpq takes the second for the first when that is not set anywhere.
      guard let fallback = self.fallback, fallback[0] != 0 else { return nil }
      return (fallback, nothing)
    }
    if name.isEqual(to: "sslpassword") { return (cString(PinnedOptions.noPassphrase), nothing) }
    if let file = pinned.file(name) { return file }
    return PinnedOptions.isNothingWhenEmpty(name) ? (nothing, nothing) : nil
  }

  /// What the server is told when neither conninfo nor environment name the application.
  private var fallback: UnsafePointer<CChar>? {
    probe.value(named: "fallback_application_name") ?? applicationName
  }

  func measure() -> Size {
    var size = Size()
    forEach { keyword, value, more in
      size.arrayLength &+= 1
      size.textBytes &+= strlen(keyword) &+ strlen(value) &+ strlen(more) &+ 2
      if value[0] == 0 {
        size.hasEmptyValues = true
        // keyword='' and a blank
        size.textBytes &+= strlen(keyword) &+ 4
      }
    }
    if size.hasEmptyValues {
      size.arrayLength &+= 1
      size.textBytes &+= 8
    }
    return size
  }

  func write(
    _ keywords: UnsafeMutablePointer<UnsafePointer<CChar>?>, _ values: UnsafeMutablePointer<UnsafePointer<CChar>?>,
    _ text: inout TextBlock, hasEmptyValues: Bool
  ) -> Int {
    var count = 0
    if hasEmptyValues {
      keywords[0] = text.copy("dbname")
      values[0] = text.here
      forEach { keyword, value, _ in
        guard value[0] == 0 else { return }
        text.add(keyword)
        text.add(cString("='' "))
      }
      text.end()
      count = 1
    }
    forEach { keyword, value, more in
      guard value[0] != 0 else { return }
      keywords[count] = text.here
      text.add(keyword)
      text.end()
      values[count] = text.here
      text.add(value)
      text.add(more)
      text.end()
      count &+= 1
    }
    return count
  }

  func connectTimeoutSeconds() -> Int? {
    var option = probe.options
    while let keyword = option.pointee.keyword {
      if UnsafeBufferPointer<UInt8>(cString: keyword).isEqual(to: "connect_timeout") {
        guard let value = option.pointee.val else { return nil }
        guard let seconds = decimal(UnsafeBufferPointer(cString: value)), seconds > 0 else { return nil }
        return seconds
      }
      option += 1
    }
    return nil
  }
}

/// Texts written one behind the other into memory measured before.
struct TextBlock {
  private var position: UnsafeMutablePointer<CChar>

  init(start: UnsafeMutableRawPointer) { position = start.assumingMemoryBound(to: CChar.self) }

  var here: UnsafePointer<CChar> { UnsafePointer(position) }

  mutating func add(_ text: UnsafePointer<CChar>) { add(UnsafeBufferPointer<UInt8>(cString: text)) }

  mutating func add(_ text: UnsafeBufferPointer<UInt8>) {
    guard let start = text.baseAddress else { return }
    memcpy(position, start, text.count)
    position += text.count
  }

  mutating func end() {
    position.pointee = 0
    position += 1
  }

  mutating func copy(_ text: StaticString) -> UnsafePointer<CChar> {
    let start = here
    add(UnsafeBufferPointer(text))
    end()
    return start
  }
}

// MARK: what libpq looks at only while it connects

private func isValid(_ probe: ConninfoProbe, _ message: inout Message) -> Bool {
  var option = probe.options
  while let name = option.pointee.keyword {
    let keyword = UnsafeBufferPointer<UInt8>(cString: name)
    if let value = probe.value(of: option.pointee) {
      let text = UnsafeBufferPointer<UInt8>(cString: value)
      if keyword.isEqual(to: "target_session_attrs"), !isSessionAttribute(text) {
        message.append("invalid target_session_attrs value (any, read-write, read-only, primary, standby or ")
        message.append("prefer-standby)")
        return false
      }
      // The value is not shown: in postgresql://user:secret/db the password stands where a port is expected.
      if keyword.isEqual(to: "port"), !arePorts(text) {
        message.append("invalid port number (1 to 65535)")
        return false
      }
      if isInteger(keyword), text.count > 0, decimal(text) == nil {
        message.append("invalid integer value for connection option \"")
        message.append(cString: name)
        message.append("\"")
        return false
      }
    }
    option += 1
  }
  return true
}
