import CPoolShims

/// C's `char` is signed in Swift and bytes are compared unsigned: the same memory under its other type.
@inline(__always)
func bytes(of text: UnsafePointer<CChar>) -> UnsafePointer<UInt8> {
  UnsafePointer<UInt8>(OpaquePointer(text))
}

extension UnsafeBufferPointer<UInt8> {
  init(cString text: UnsafePointer<CChar>) {
    self.init(start: bytes(of: text), count: strlen(text))
  }

  init(optional text: UnsafePointer<CChar>?) {
    if let text { self.init(cString: text) } else { self.init(start: nil, count: 0) }
  }

  init(_ text: StaticString) {
    self.init(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  /// The bytes from `from` up to, not including, `to`.
  func part(_ from: Int, _ to: Int) -> UnsafeBufferPointer<UInt8> {
    guard let baseAddress, from >= 0, from < to, to <= count else { return UnsafeBufferPointer(start: nil, count: 0) }
    return UnsafeBufferPointer(start: baseAddress + from, count: to &- from)
  }

  func isEqual(to other: UnsafeBufferPointer<UInt8>) -> Bool {
    guard count == other.count else { return false }
    guard count > 0, let baseAddress, let start = other.baseAddress else { return true }
    return memcmp(baseAddress, start, count) == 0
  }

  func isEqual(to text: StaticString) -> Bool { isEqual(to: UnsafeBufferPointer(text)) }

  func hasPrefix(_ text: StaticString) -> Bool {
    count >= text.utf8CodeUnitCount && part(0, text.utf8CodeUnitCount).isEqual(to: text)
  }

  /// Where `byte` is found first at or after `from`; `count` when it is not.
  func position(of byte: UInt8, from: Int = 0) -> Int {
    var index = from
    while index < count, self[index] != byte { index &+= 1 }
    return index
  }

  func contains(byte: UInt8) -> Bool { position(of: byte) < count }

  /// Where `text` begins first at or after `from`; nil when it does not occur.
  func position(of text: UnsafeBufferPointer<UInt8>, from: Int = 0) -> Int? {
    var index = from
    while index &+ text.count <= count {
      if part(index, index &+ text.count).isEqual(to: text) { return index }
      index &+= 1
    }
    return nil
  }

  func position(of text: StaticString, from: Int = 0) -> Int? {
    position(of: UnsafeBufferPointer(text), from: from)
  }
}

/// As `isspace` in the C locale, whatever locale the program has set.
func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (byte >= 0x09 && byte <= 0x0D) }

/// The whole text as a decimal number, or nil. Blanks around it are allowed, as in libpq.
func decimal(_ text: UnsafeBufferPointer<UInt8>) -> Int? {
  var start = 0
  var end = text.count
  while start < end, isSpace(text[start]) { start &+= 1 }
  while end > start, isSpace(text[end &- 1]) { end &-= 1 }
  var isNegative = false
  if start < end, text[start] == UInt8(ascii: "-") || text[start] == UInt8(ascii: "+") {
    isNegative = text[start] == UInt8(ascii: "-")
    start &+= 1
  }
  guard start < end else { return nil }
  var number = 0
  for index in start..<end {
    let digit = Int(text[index]) &- 48
    guard digit >= 0, digit <= 9 else { return nil }
    number = number &* 10 &+ digit
    guard number <= Int(Int32.max) else { return nil }
  }
  return isNegative ? 0 &- number : number
}
