import CPoolShims

extension Message {
  /// libpq's words about a conninfo that it refuses, without anything that could be a part of a password.
  ///
  /// libpq quotes what it stumbled over, and in a mistyped conninfo that may be the rest of a password. So a quotation
  /// is kept only if the conninfo holds no password at all, or if it stands in it, and nowhere in the part that may
  /// belong to a password. The words come in the user's language; with marks of quotation other than ASCII's nothing
  /// can be told apart, and they are left out.
  mutating func appendConninfoError(_ error: UnsafePointer<CChar>?, conninfo: UnsafeBufferPointer<UInt8>) {
    guard let error else { return }
    let text = UnsafeBufferPointer<UInt8>(cString: error)
    let suspect = SuspectPart(conninfo)
    guard !suspect.isEmpty else { return appendCleaned(cString: error) }
    guard isASCII(text) else { return append("invalid connection string (what is wrong could quote the password)") }
    guard let (first, last) = quotation(in: text), first < last else { return appendCleaned(cString: error) }
    guard suspect.mayShow(text.part(first &+ 1, last), of: conninfo) else {
      appendCleaned(text.part(0, first))
      append(" \"...\"")
      if last &+ 1 < text.count, text[last &+ 1] == 0x20 { append(" ") }
      return appendCleaned(text.part(last &+ 1, text.count))
    }
    appendCleaned(cString: error)
  }

  private mutating func appendCleaned(_ text: UnsafeBufferPointer<UInt8>) {
    guard let start = text.baseAddress else { return }
    appendCleaned(bytes: start, count: text.count)
  }
}

/// The bytes of a conninfo that may belong to a password.
private struct SuspectPart {
  /// User, password and hosts of a URI: a password with an `@`, `/` or `?` of its own can reach into what libpq takes
  /// for a host, a port or a name.
  private var authority = 0..<0
  /// From the first `password` to the end: without its quotes a password with blanks looks like further options. All of
  /// what looks like a URI and is none to libpq.
  private var tail = 0..<0

  var isEmpty: Bool { authority.isEmpty && tail.isEmpty }

  init(_ conninfo: UnsafeBufferPointer<UInt8>) {
    if let prefix = uriPrefixLength(conninfo) {
      authority = prefix..<authorityEnd(conninfo, prefix)
    } else if isLikeURI(conninfo) {
      tail = 0..<conninfo.count
      return
    }
    if let start = passwordKey(in: conninfo, from: authority.upperBound) { tail = start..<conninfo.count }
  }

  func mayShow(_ quoted: UnsafeBufferPointer<UInt8>, of conninfo: UnsafeBufferPointer<UInt8>) -> Bool {
    guard quoted.count > 0 else { return true }
    var found = false
    var from = 0
    while let start = conninfo.position(of: quoted, from: from) {
      let place = start..<start &+ quoted.count
      if place.overlaps(authority) || place.overlaps(tail) { return false }
      found = true
      from = start &+ 1
    }
    return found
  }
}

/// Of another driver, or mistyped.
private func isLikeURI(_ conninfo: UnsafeBufferPointer<UInt8>) -> Bool {
  conninfo.contains(byte: UInt8(ascii: "@")) || conninfo.position(of: "://") != nil
}

/// Behind the last `@`, if there is one, else where the database's name or the query begins; nothing is suspect in
/// hosts without a colon.
private func authorityEnd(_ conninfo: UnsafeBufferPointer<UInt8>, _ prefix: Int) -> Int {
  var end = conninfo.count
  while end > prefix, conninfo[end &- 1] != UInt8(ascii: "@") { end &-= 1 }
  if end > prefix { return end }
  end = prefix
  var hasColon = false
  while end < conninfo.count, conninfo[end] != UInt8(ascii: "/"), conninfo[end] != UInt8(ascii: "?") {
    if conninfo[end] == UInt8(ascii: ":") { hasColon = true }
    end &+= 1
  }
  return hasColon ? conninfo.count : prefix
}

/// Where `password`, `sslpassword` or a misspelling of them begins; a percent sign may hide one in a URI's key.
private func passwordKey(in conninfo: UnsafeBufferPointer<UInt8>, from start: Int) -> Int? {
  let isURI = uriPrefixLength(conninfo) != nil
  for index in start..<conninfo.count {
    if isURI, conninfo[index] == UInt8(ascii: "%") { return index }
    guard conninfo[index] | 0x20 == UInt8(ascii: "p"), index &+ 1 < conninfo.count else { continue }
    if conninfo[index &+ 1] | 0x20 == UInt8(ascii: "a") || conninfo[index &+ 1] | 0x20 == UInt8(ascii: "w") {
      return index
    }
  }
  return nil
}

private func isASCII(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
  for byte in text where byte >= 0x80 { return false }
  return true
}

/// From the first mark of quotation to the last: what is quoted may itself hold such marks.
private func quotation(in text: UnsafeBufferPointer<UInt8>) -> (first: Int, last: Int)? {
  var first = -1
  var last = -1
  for index in 0..<text.count
  where text[index] == UInt8(ascii: "\"") || text[index] == UInt8(ascii: "'") || text[index] == UInt8(ascii: "`") {
    if first < 0 { first = index }
    last = index
  }
  return first < 0 ? nil : (first, last)
}
