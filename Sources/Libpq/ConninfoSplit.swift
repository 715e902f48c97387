import CPoolShims

/// What came of taking the pool's own options out of a conninfo.
public enum SplitResult: Equatable {
  /// The rest, `count` bytes, stands NUL-terminated in the output.
  case done(count: Int)
  /// The closure refused an option and has said why.
  case refused
  /// The output is smaller than the conninfo and its NUL.
  case outputTooSmall
}

/// Copies a conninfo without the keys that begin with `pool_`, and hands those to `option`, without the prefix and
/// with quotes, escapes and percent-encoding undone.
///
/// Both forms of libpq are read by libpq's own rules. What is not ours is copied byte for byte (but for a slash that a
/// URI needs when its first one goes with our options), and so is everything from the first mistake on: libpq's
/// parser, which sees it next, will name the mistake.
/// `output` must have room for the conninfo and a NUL; the buffers given to `option` are valid during the call.
public func splitConninfo(
  _ conninfo: UnsafeBufferPointer<UInt8>,
  into output: UnsafeMutableBufferPointer<UInt8>,
  option: (_ key: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Bool
) -> SplitResult {
  guard let start = output.baseAddress, output.count > conninfo.count else { return .outputTooSmall }
  var copy = RemainingConninfo(conninfo, start)
  let isComplete =
    if let prefix = uriPrefixLength(conninfo) {
      splitURI(conninfo, prefix, &copy, option)
    } else {
      splitKeywords(conninfo, &copy, option)
    }
  return isComplete ? .done(count: copy.finish()) : .refused
}

/// The length of "postgresql://" or "postgres://", or nil when the conninfo is not a URI.
func uriPrefixLength(_ conninfo: UnsafeBufferPointer<UInt8>) -> Int? {
  if conninfo.hasPrefix("postgresql://") { return 13 }
  if conninfo.hasPrefix("postgres://") { return 11 }
  return nil
}

private let ownPrefix: StaticString = "pool_"

/// The copy without our own options. Behind it lies the room in which an option is decoded: what is taken out is at
/// least as long as its decoded form.
private struct RemainingConninfo {
  private let source: UnsafeBufferPointer<UInt8>
  private let output: UnsafeMutablePointer<UInt8>
  private var written = 0
  private var copiedUpTo = 0
  private var scratch = 0

  init(_ source: UnsafeBufferPointer<UInt8>, _ output: UnsafeMutablePointer<UInt8>) {
    self.source = source
    self.output = output
  }

  mutating func copy(upTo end: Int) {
    guard end > copiedUpTo, let start = source.baseAddress else { return }
    memcpy(output + written, start + copiedUpTo, end &- copiedUpTo)
    written &+= end &- copiedUpTo
    copiedUpTo = end
  }

  mutating func skip(upTo end: Int) { copiedUpTo = end }

  /// Puts a slash before what was copied from `place` of the source on, where nothing was taken out before. There is
  /// room, as an option has just been skipped.
  mutating func insertSlash(at place: Int) {
    memmove(output + place + 1, output + place, written &- place)
    output[place] = UInt8(ascii: "/")
    written &+= 1
  }

  mutating func finish() -> Int {
    copy(upTo: source.count)
    output[written] = 0
    return written
  }

  mutating func beginDecoding() { scratch = written }

  mutating func decoded(_ byte: UInt8) {
    output[scratch] = byte
    scratch &+= 1
  }

  /// The decoded bytes from `from`, counted from the first.
  func decodedBytes(from: Int, count: Int) -> UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: output + written + from, count: count)
  }

  var decodedCount: Int { scratch &- written }
}

private typealias OwnOption = (UnsafeBufferPointer<UInt8>, UnsafeBufferPointer<UInt8>) -> Bool

// MARK: keyword = value

/// libpq's `conninfo_parse`. False: refused by the closure.
private func splitKeywords(
  _ text: UnsafeBufferPointer<UInt8>, _ copy: inout RemainingConninfo, _ option: OwnOption
) -> Bool {
  var position = 0
  while true {
    while position < text.count, isSpace(text[position]) { position &+= 1 }
    guard position < text.count else { return true }
    let start = position
    while position < text.count, text[position] != UInt8(ascii: "="), !isSpace(text[position]) { position &+= 1 }
    let name = text.part(start, position)
    while position < text.count, isSpace(text[position]) { position &+= 1 }
    guard position < text.count, text[position] == UInt8(ascii: "=") else { return true }
    position &+= 1
    while position < text.count, isSpace(text[position]) { position &+= 1 }

    let isOurs = name.hasPrefix(ownPrefix)
    if isOurs {
      copy.copy(upTo: start)
      copy.beginDecoding()
    }
    guard let end = readValue(text, position, isOurs, &copy) else { return true }
    position = end
    guard isOurs else { continue }
    let value = copy.decodedBytes(from: 0, count: copy.decodedCount)
    guard option(name.part(ownPrefix.utf8CodeUnitCount, name.count), value) else { return false }
    copy.skip(upTo: position)
  }
}

/// Where the value that begins at `start` ends; nil when its quote is not closed.
private func readValue(
  _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ isOurs: Bool, _ copy: inout RemainingConninfo
) -> Int? {
  var position = start
  let isQuoted = position < text.count && text[position] == UInt8(ascii: "'")
  if isQuoted { position &+= 1 }
  while position < text.count {
    var byte = text[position]
    if isQuoted ? byte == UInt8(ascii: "'") : isSpace(byte) { return isQuoted ? position &+ 1 : position }
    position &+= 1
    if byte == UInt8(ascii: "\\") {
      guard position < text.count else { break }
      byte = text[position]
      position &+= 1
    }
    if isOurs { copy.decoded(byte) }
  }
  return isQuoted ? nil : position
}

// MARK: URI

/// libpq's `conninfo_uri_parse_params`. False: refused by the closure.
private func splitURI(
  _ text: UnsafeBufferPointer<UInt8>, _ prefix: Int, _ copy: inout RemainingConninfo, _ option: OwnOption
) -> Bool {
  guard let query = queryStart(text, prefix) else { return true }
  // libpq looks for the user up to the first slash. If that stood in one of our options, a later `@` would be taken
  // for the user's end; `//host/?` means the same as `//host?`.
  var needsSlash = !query.hasUserOrSlash
  var position = query.start
  while position < text.count {
    let end = text.position(of: UInt8(ascii: "&"), from: position)
    let separator = text.part(0, end).position(of: UInt8(ascii: "="), from: position)
    guard separator < end else { return true }
    guard !text.part(0, end).part(separator &+ 1, end).contains(byte: UInt8(ascii: "=")) else { return true }
    let next = end < text.count ? end &+ 1 : end
    copy.copy(upTo: position)
    copy.beginDecoding()
    guard percentDecode(text.part(position, separator), &copy) else { return true }
    let keyCount = copy.decodedCount
    if copy.decodedBytes(from: 0, count: keyCount).hasPrefix(ownPrefix) {
      guard percentDecode(text.part(separator &+ 1, end), &copy) else { return true }
      let key = copy.decodedBytes(from: ownPrefix.utf8CodeUnitCount, count: keyCount &- ownPrefix.utf8CodeUnitCount)
      let value = copy.decodedBytes(from: keyCount, count: copy.decodedCount &- keyCount)
      guard option(key, value) else { return false }
      copy.skip(upTo: next)
      if needsSlash { copy.insertSlash(at: query.start &- 1) }
      needsSlash = false
    }
    position = next
  }
  return true
}

/// Behind the `?` that begins the query, as libpq finds it: user and password end at the first `@` that no `/`
/// precedes and may hold any other byte; `[...]` is an address.
private func queryStart(_ text: UnsafeBufferPointer<UInt8>, _ prefix: Int) -> (start: Int, hasUserOrSlash: Bool)? {
  var position = prefix
  while position < text.count, text[position] != UInt8(ascii: "@"), text[position] != UInt8(ascii: "/") {
    position &+= 1
  }
  let hasUser = position < text.count && text[position] == UInt8(ascii: "@")
  position = hasUser ? position &+ 1 : prefix
  while true {
    if position < text.count, text[position] == UInt8(ascii: "[") {
      position = text.position(of: UInt8(ascii: "]"), from: position)
      guard position < text.count else { return nil }
    }
    while position < text.count, !isHostEnd(text[position]) { position &+= 1 }
    guard position < text.count else { return nil }
    guard text[position] == UInt8(ascii: ",") else { break }
    position &+= 1
  }
  let hasSlash = text[position] == UInt8(ascii: "/")
  position = text.position(of: UInt8(ascii: "?"), from: position)
  return position < text.count ? (position &+ 1, hasUser || hasSlash) : nil
}

private func isHostEnd(_ byte: UInt8) -> Bool {
  byte == UInt8(ascii: "/") || byte == UInt8(ascii: "?") || byte == UInt8(ascii: ",")
}

/// libpq's `conninfo_uri_decode`. Blanks around a token do not count, those inside do: libpq's versions differ in this.
/// False: not a valid token.
private func percentDecode(_ token: UnsafeBufferPointer<UInt8>, _ copy: inout RemainingConninfo) -> Bool {
  var position = 0
  var end = token.count
  while position < end, token[position] == 0x20 { position &+= 1 }
  while end > position, token[end &- 1] == 0x20 { end &-= 1 }
  while position < end {
    var byte = token[position]
    position &+= 1
    if byte == UInt8(ascii: "%") {
      guard end &- position >= 2, let high = hexDigit(token[position]), let low = hexDigit(token[position &+ 1]) else {
        return false
      }
      byte = high << 4 | low
      position &+= 2
      if byte == 0 { return false }
    }
    copy.decoded(byte)
  }
  return true
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte &- UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte &- UInt8(ascii: "a") &+ 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte &- UInt8(ascii: "A") &+ 10
  default: nil
  }
}
