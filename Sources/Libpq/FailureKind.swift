import CPoolShims

/// What a failed attempt to connect means for the next one.
public enum FailureKind: Equatable {
  /// It will not go away by itself: wrong password, no such database, a feature that the server does not have.
  case permanent
  /// The server has no room (SQLSTATE 53300).
  case tooManyConnections
  /// Anything else: worth another try.
  case transient

  /// From the SQLSTATEs in a message that libpq wrote with PQERRORS_VERBOSE.
  ///
  /// One message can tell of several hosts, or of one host first with and then without TLS. A host that was not
  /// reached says nothing about the others; one that has no room, or may take us later, outweighs a refusal.
  init(verboseMessage text: UnsafeBufferPointer<UInt8>) {
    var found = FailureKind.transient
    var isFirst = true
    var lines = VerboseLines(text)
    while let line = lines.next() {
      guard let state = sqlState(in: line) else { continue }
      let kind = FailureKind(sqlState: state)
      if isFirst || kind == .tooManyConnections || (kind == .transient && found == .permanent) { found = kind }
      isFirst = false
    }
    self = found
  }

  public init(sqlState: UnsafeBufferPointer<UInt8>) {
    if sqlState.isEqual(to: "53300") {
      self = .tooManyConnections
    } else if sqlState.hasPrefix("28") || sqlState.isEqual(to: "3D000") || sqlState.isEqual(to: "0A000") {
      self = .permanent
    } else {
      self = .transient
    }
  }
}

/// The SQLSTATE of a line such as `... FATAL:  28P01: password ...`: five digits or capitals between ":  " and ": ".
/// The word before it comes in the server's language, so it is not looked at.
private func sqlState(in line: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8>? {
  var from = 0
  while let mark = line.position(of: ":  ", from: from) {
    let state = line.part(mark &+ 3, mark &+ 8)
    if isSQLState(state), line.part(mark &+ 8, mark &+ 10).isEqual(to: ": ") { return state }
    from = mark &+ 1
  }
  return nil
}

private struct VerboseLines {
  let text: UnsafeBufferPointer<UInt8>
  var position = 0

  init(_ text: UnsafeBufferPointer<UInt8>) { self.text = text }

  /// The next line with its newline, or nil.
  mutating func next() -> UnsafeBufferPointer<UInt8>? {
    guard position < text.count else { return nil }
    let start = position
    let end = text.position(of: 0x0A, from: start)
    position = end < text.count ? end &+ 1 : end
    return text.part(start, position)
  }
}

extension Message {
  /// A verbose message as libpq words it by default, but for the SQLSTATE: without the lines that say where in the
  /// server's source the error arose.
  mutating func appendCleanedVerbose(cString text: UnsafePointer<CChar>?) {
    guard let text else { return }
    let whole = UnsafeBufferPointer<UInt8>(cString: text)
    var lines = VerboseLines(whole)
    var shownFrom = 0
    var isFirst = true
    while let line = lines.next() {
      guard isSourceLocation(line) else { continue }
      appendLines(whole.part(shownFrom, lines.position &- line.count), &isFirst)
      shownFrom = lines.position
    }
    appendLines(whole.part(shownFrom, whole.count), &isFirst)
  }

  private mutating func appendLines(_ lines: UnsafeBufferPointer<UInt8>, _ isFirst: inout Bool) {
    guard let start = lines.baseAddress, lines.count > 0 else { return }
    if !isFirst { append("; ") }
    isFirst = false
    appendCleaned(bytes: start, count: lines.count)
  }
}

/// `LOCATION:  ClientAuthentication, auth.c:338` in any language: it ends in `.c:` and a number.
private func isSourceLocation(_ line: UnsafeBufferPointer<UInt8>) -> Bool {
  var end = line.count
  while end > 0, isSpace(line[end &- 1]) { end &-= 1 }
  let numberEnd = end
  while end > 0, line[end &- 1] >= UInt8(ascii: "0"), line[end &- 1] <= UInt8(ascii: "9") { end &-= 1 }
  guard end < numberEnd else { return false }
  // French sets (no-break) blanks around the colon.
  var sawColon = false
  while end > 0 {
    let byte = line[end &- 1]
    if byte == UInt8(ascii: ":") {
      sawColon = true
    } else if byte != 0x20, byte < 0x80 {
      break
    }
    end &-= 1
  }
  return sawColon && line.part(end &- 2, end).isEqual(to: ".c") && line.part(0, end).position(of: ", ") != nil
}
