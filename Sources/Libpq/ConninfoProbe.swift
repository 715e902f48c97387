import CLibpq
import CPoolShims

/// Asks libpq what a conninfo means together with the environment and the service file.
///
/// libpq tells every value (`PQconninfo`) of a connection that it refused to begin. So two connections are begun that
/// cannot succeed: no socket is opened and no name looked up for them.
struct ConninfoProbe {
  /// All values but `password` and `target_session_attrs`.
  let options: UnsafeMutablePointer<PQconninfoOption>
  /// For those two. It is apart because the first probe must override them: any password, so that libpq does not read
  /// the password file (and print what it dislikes about it), and an invalid attribute, the last thing it validates.
  let rest: UnsafeMutablePointer<PQconninfoOption>

  enum Result {
    case success(ConninfoProbe)
    case invalid
    case outOfMemory
  }

  static func run(_ conninfo: UnsafePointer<CChar>, _ message: inout Message) -> Result {
    var secrets = SecretSizes()
    // Also of those that libpq copied and then replaced by the sentinel, or refused.
    defer { secrets.wipeFreedCopies() }
    switch parse(conninfo, &secrets, &message) {
    case .success: break
    case .invalid: return .invalid
    case .outOfMemory: return .outOfMemory
    }
    let hasOptions = holdsOptions(UnsafeBufferPointer(cString: conninfo))
    let expanded = hasOptions ? conninfo : nil
    // The attribute is validated last, by its value.
    switch begin(expanded, "password", sentinel, "target_session_attrs", sentinel, isNamed: true, &message) {
    case .invalid: return .invalid
    case .outOfMemory: return .outOfMemory
    case .success(let options):
      // One host name, two addresses: refused before anything else is looked at.
      switch begin(expanded, "host", sentinel, "hostaddr", twoAddresses, isNamed: false, &message) {
      case .success(let rest): return .success(ConninfoProbe(options: options, rest: rest))
      case .invalid, .outOfMemory:
        // What the first probe accepted the second does not refuse, unless there is no memory to tell.
        release(options)
        return .outOfMemory
      }
    }
  }

  func free() {
    release(options)
    release(rest)
  }

  /// The value of an option, nil when it is not set.
  func value(of option: PQconninfoOption) -> UnsafePointer<CChar>? {
    let keyword = UnsafeBufferPointer<UInt8>(cString: option.keyword)
    guard keyword.isEqual(to: "password") || keyword.isEqual(to: "target_session_attrs") else {
      return UnsafePointer(option.val)
    }
    return find(keyword, in: rest)
  }

  func value(named keyword: StaticString) -> UnsafePointer<CChar>? {
    find(UnsafeBufferPointer(keyword), in: options)
  }
}

private let sentinel: StaticString = "(libdbpool's probe)"
private let twoAddresses: StaticString = ","

private enum Answer {
  case success(UnsafeMutablePointer<PQconninfoOption>)
  case invalid
  case outOfMemory
}

private enum Verdict {
  case success, invalid, outOfMemory
}

private func parse(_ conninfo: UnsafePointer<CChar>, _ secrets: inout SecretSizes, _ message: inout Message) -> Verdict
{
  let libpq = pool_libpq_table().pointee
  var error: UnsafeMutablePointer<CChar>?
  let parsed = libpq.conninfoParse(conninfo, &error)
  wipeFreedCopies(of: conninfo)
  if let options = parsed {
    secrets.note(options)
    let mayBeUsed = mayUseServiceFile(options, &message) && mayBeHosts(options, &message)
    release(options)
    return mayBeUsed ? .success : .invalid
  }
  guard let error else { return .outOfMemory }
  let verdict = isOutOfMemory(error) ? Verdict.outOfMemory : .invalid
  message.appendConninfoError(error, conninfo: UnsafeBufferPointer(cString: conninfo))
  libpq.freemem(error)
  return verdict
}

/// A text without `=` that is no URI either would be taken for a database's name. `PQconninfoParse` accepts it only
/// when it is blank.
private func holdsOptions(_ conninfo: UnsafeBufferPointer<UInt8>) -> Bool {
  uriPrefixLength(conninfo) != nil || conninfo.contains(byte: UInt8(ascii: "="))
}

/// Begins a connection with two values that make libpq refuse, and returns all values.
private func begin(
  _ conninfo: UnsafePointer<CChar>?, _ keyword: StaticString, _ value: StaticString, _ lastKeyword: StaticString,
  _ lastValue: StaticString, isNamed: Bool, _ message: inout Message
) -> Answer {
  let libpq = pool_libpq_table().pointee
  guard let connection = start(conninfo, keyword, value, lastKeyword, lastValue) else { return .outOfMemory }
  wipeFreedCopies(of: conninfo)
  defer { libpq.finish(connection) }
  // A value that libpq finds no memory for it leaves out without a word: a host, a password, the wish for TLS.
  pool_set_errno(0)
  guard let options = libpq.conninfo(connection) else { return .outOfMemory }
  guard pool_errno() != ENOMEM else {
    release(options)
    return .outOfMemory
  }
  // The last value stands there if all was parsed. What libpq then refuses is what was meant to be refused if the
  // error names it, or if nothing is looked at before it.
  let wasParsed = find(UnsafeBufferPointer(lastKeyword), in: options).map {
    UnsafeBufferPointer<UInt8>(cString: $0).isEqual(to: lastValue)
  }
  let error: UnsafeMutablePointer<CChar>? = libpq.errorMessage(connection)
  if libpq.status(connection) == CONNECTION_BAD, wasParsed == true, !isNamed || names(error) {
    return .success(options)
  }
  release(options)
  // Refused as meant, but not all values could be told.
  let isUntold = names(error) && wasParsed != true
  if let error, isOutOfMemory(error) || isUntold { return .outOfMemory }
  if let conninfo {
    message.appendConninfoError(error, conninfo: UnsafeBufferPointer(cString: conninfo))
  } else {
    message.appendCleaned(cString: error)
  }
  if message.isEmpty { message.append("libpq does not tell the connection's parameters") }
  return .invalid
}

/// How long the passwords in a conninfo are, with their NUL.
private struct SecretSizes {
  private var password = 0
  private var sslPassword = 0

  mutating func note(_ options: UnsafeMutablePointer<PQconninfoOption>) {
    if let text = find(UnsafeBufferPointer("password"), in: options) { password = strlen(text) &+ 1 }
    if let text = find(UnsafeBufferPointer("sslpassword"), in: options) { sslPassword = strlen(text) &+ 1 }
  }

  func wipeFreedCopies() {
    if password > 0 { wipeFreedText(bytes: password) }
    if sslPassword > 0 { wipeFreedText(bytes: sslPassword) }
  }
}

/// It lies in the home folder, or where the environment says.
private func mayUseServiceFile(_ options: UnsafeMutablePointer<PQconninfoOption>, _ message: inout Message) -> Bool {
  guard pool_has_foreign_rights(), let service = find(UnsafeBufferPointer("service"), in: options), service[0] != 0
  else { return true }
  message.append("service is not to be used in a process with the rights of another user")
  return false
}

/// libpq ends the password in a URI at its first `@`, and takes the rest for a part of the host's name, which errors
/// tell; as it does with all that follows a semicolon. A name has neither; paths and abstract sockets may.
private func mayBeHosts(_ options: UnsafeMutablePointer<PQconninfoOption>, _ message: inout Message) -> Bool {
  guard let hosts = find(UnsafeBufferPointer("host"), in: options),
    find(UnsafeBufferPointer("hostaddr"), in: options) == nil
  else { return true }
  var isFirst = true
  var isName = false
  for byte in UnsafeBufferPointer<UInt8>(cString: hosts) {
    if isFirst {
      isName = byte != UInt8(ascii: "/") && byte != UInt8(ascii: "@")
    } else if isName, byte == UInt8(ascii: "@") {
      message.append("@ in a host's name; in a URI the @ of a password is written %40")
      return false
    } else if isName, byte == UInt8(ascii: ";") {
      message.append("; in a host's name; options are separated by blanks")
      return false
    }
    isFirst = byte == UInt8(ascii: ",")
  }
  return true
}

private func start(
  _ conninfo: UnsafePointer<CChar>?, _ keyword: StaticString, _ value: StaticString, _ lastKeyword: StaticString,
  _ lastValue: StaticString
) -> OpaquePointer? {
  withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: 8) { names in
    names.initialize(repeating: nil)
    guard let keywords = names.baseAddress else { return nil }
    let values = keywords + 4
    var used = 0
    if let conninfo {
      keywords[used] = cString("dbname")
      values[used] = conninfo
      used &+= 1
    }
    keywords[used] = cString(keyword)
    values[used] = cString(value)
    keywords[used &+ 1] = cString(lastKeyword)
    values[used &+ 1] = cString(lastValue)
    return pool_libpq_table().pointee.connectStartParams(keywords, values, 1)
  }
}

private func names(_ error: UnsafeMutablePointer<CChar>?) -> Bool {
  guard let error else { return false }
  return UnsafeBufferPointer<UInt8>(cString: error).position(of: sentinel) != nil
}

func isOutOfMemory(_ error: UnsafePointer<CChar>) -> Bool {
  UnsafeBufferPointer<UInt8>(cString: error).hasPrefix("out of memory")
}

private func find(
  _ keyword: UnsafeBufferPointer<UInt8>, in options: UnsafeMutablePointer<PQconninfoOption>
) -> UnsafePointer<CChar>? {
  var option = options
  while let name = option.pointee.keyword {
    if UnsafeBufferPointer<UInt8>(cString: name).isEqual(to: keyword) { return UnsafePointer(option.pointee.val) }
    option += 1
  }
  return nil
}

/// Frees options; libpq does not wipe the passwords in them, nor in the copies that it has made and freed on the way.
private func release(_ options: UnsafeMutablePointer<PQconninfoOption>) {
  var option = options
  while option.pointee.keyword != nil {
    if let value = option.pointee.val, let mark = option.pointee.dispchar, mark[0] == CChar(UInt8(ascii: "*")) {
      wipeFreedCopies(of: value)
      explicit_bzero(value, strlen(value))
    }
    option += 1
  }
  pool_libpq_table().pointee.conninfoFree(options)
}

/// A literal is NUL-terminated.
func cString(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafePointer<CChar>(OpaquePointer(text.utf8Start))
}
