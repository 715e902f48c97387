import CPoolShims

/// Text in a buffer of the caller's: always NUL-terminated, cut at a character's border when it is full.
public struct Message {
  private let buffer: UnsafeMutablePointer<CChar>
  private let capacity: Int
  public private(set) var count = 0
  /// Something was cut off. What is appended later is left out too, or it would read as if it belonged there.
  public private(set) var isTruncated = false

  /// The buffer stays the caller's and must outlive the message. `capacity` counts the final NUL.
  public init(_ buffer: UnsafeMutablePointer<CChar>, capacity: Int) {
    self.buffer = buffer
    self.capacity = capacity
    clear()
  }

  public var cString: UnsafePointer<CChar> { UnsafePointer(buffer) }
  public var isEmpty: Bool { count == 0 }

  public mutating func clear() {
    count = 0
    isTruncated = false
    if capacity > 0 { buffer[0] = 0 }
  }

  public mutating func append(_ text: StaticString) {
    append(bytes: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  public mutating func append(cString text: UnsafePointer<CChar>?) {
    guard let text else { return }
    append(bytes: bytes(of: text), count: strlen(text))
  }

  public mutating func append(_ number: Int) {
    if number < 0 { append("-") }
    appendDigits(number.magnitude)
  }

  public mutating func append(bytes: UnsafePointer<UInt8>, count length: Int) {
    guard !isTruncated, length > 0 else { return }
    var fitting = length
    let room = capacity &- 1 &- count
    if length > room {
      isTruncated = true
      fitting = room > 0 ? room : 0
      while fitting > 0, bytes[fitting] & 0xC0 == 0x80 { fitting &-= 1 }
    }
    guard fitting > 0 else { return }
    memcpy(buffer + count, bytes, fitting)
    count &+= fitting
    buffer[count] = 0
  }

  /// Appends text of a server or of libpq on one line and without anything that could play tricks with a terminal or
  /// a log: a server that has not proved who it is can send any bytes (CVE-2024-10977).
  public mutating func appendCleaned(cString text: UnsafePointer<CChar>?) {
    guard let text else { return }
    appendCleaned(bytes: bytes(of: text), count: strlen(text))
  }

  public mutating func appendCleaned(bytes: UnsafePointer<UInt8>, count length: Int) {
    var scanner = TextScanner(bytes: bytes, count: length)
    var gap = TextScanner.Gap.none
    var isFirst = true
    while let piece = scanner.next() {
      switch piece {
      case .gap(let found): gap = gap.joined(with: found)
      case .dropped: break
      case .text(let offset, let size):
        if !isFirst { append(gap) }
        gap = .none
        isFirst = false
        append(bytes: bytes + offset, count: size)
      case .invalid:
        if !isFirst { append(gap) }
        gap = .none
        isFirst = false
        append("?")
      }
    }
  }

  private mutating func append(_ gap: TextScanner.Gap) {
    switch gap {
    case .none: break
    case .blank(let width): append(width > 1 ? "  " : " ")
    case .continuedLine: append(" ")
    case .newLine: append("; ")
    }
  }

  private mutating func appendDigits(_ number: UInt) {
    if number >= 10 { appendDigits(number / 10) }
    var digit = UInt8(truncatingIfNeeded: 48 &+ number % 10)
    append(bytes: &digit, count: 1)
  }
}

/// Takes text of unknown origin apart into what may be shown and what may not.
private struct TextScanner {
  enum Gap {
    case none
    /// Blanks within a line; two are kept, as in libpq's "FATAL:  ".
    case blank(Int)
    case newLine
    /// A new line that starts with a tab: libpq's hint to the line before.
    case continuedLine

    func joined(with later: Gap) -> Gap {
      switch (self, later) {
      case (.none, _): later
      case (.blank(let first), .blank(let second)): .blank(first &+ second)
      case (.blank, .newLine), (.blank, .continuedLine), (.newLine, .newLine): later
      case (.newLine, .blank), (.newLine, .continuedLine): .continuedLine
      case (.continuedLine, _), (_, .none): self
      }
    }
  }

  enum Piece {
    case gap(Gap)
    case text(offset: Int, size: Int)
    case invalid
    case dropped
  }

  let bytes: UnsafePointer<UInt8>
  let count: Int
  var position = 0

  init(bytes: UnsafePointer<UInt8>, count: Int) {
    self.bytes = bytes
    self.count = count
  }

  mutating func next() -> Piece? {
    guard position < count else { return nil }
    let start = position
    let byte = bytes[start]
    position &+= 1
    switch byte {
    case 0x20, 0x09: return .gap(.blank(1))
    case 0x0A: return .gap(.newLine)
    case 0..<0x20, 0x7F: return .dropped
    case 0..<0x80: return .text(offset: start, size: 1)
    default: return multiByte(start, byte)
    }
  }

  private mutating func multiByte(_ start: Int, _ lead: UInt8) -> Piece {
    let size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2
    guard lead >= 0xC2, lead <= 0xF4, count &- start >= size else { return .invalid }
    var scalar = UInt32(lead) & (0xFF >> UInt32(size &+ 1))
    for index in 1..<size {
      let byte = bytes[start &+ index]
      guard byte & 0xC0 == 0x80 else { return .invalid }
      scalar = scalar << 6 | UInt32(byte & 0x3F)
    }
    guard isShortestForm(scalar, size) else { return .invalid }
    position = start &+ size
    return isControl(scalar) ? .dropped : .text(offset: start, size: size)
  }

  private func isShortestForm(_ scalar: UInt32, _ size: Int) -> Bool {
    switch size {
    case 2: true
    case 3: scalar >= 0x800 && !(0xD800...0xDFFF ~= scalar)
    default: scalar >= 0x10000 && scalar <= 0x10FFFF
    }
  }

  /// C1 controls, line separators, and the marks that turn the direction of text.
  private func isControl(_ scalar: UInt32) -> Bool {
    switch scalar {
    case 0x80...0x9F, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
  }
}
