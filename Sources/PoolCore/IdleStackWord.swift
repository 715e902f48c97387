/// The whole content of an `IdleStack`, a value: what a get and a put make of it.
///
///     byte 0        the seat on top, 0 = none
///     bytes 1 to 6  the seats below it
///     bit 63        shut; then there are no seats
///
/// All of it is one word, so whoever exchanges the word for its successor has seen everything: there is no link to
/// follow, and it does no harm when the same content comes back (no ABA).
public struct IdleStackWord: Equatable, Sendable {
  public let bits: UInt64

  @inline(__always)
  public init(bits: UInt64) { self.bits = bits }

  public static var empty: Self { Self(bits: 0) }
  public static var shut: Self { Self(bits: 1 << 63) }
  public static var capacity: Int { 7 }
  /// Seats are numbered from 1.
  public static var seatLimit: Int { 255 }

  @inline(__always)
  public var isShut: Bool { bits >> 63 != 0 }

  /// 0 when it is empty or shut.
  @inline(__always)
  public var top: UInt8 { UInt8(truncatingIfNeeded: bits) }

  /// Neither full nor shut.
  @inline(__always)
  public var hasRoom: Bool { bits >> 48 == 0 }

  @inline(__always)
  public var popped: Self { Self(bits: bits >> 8) }

  @inline(__always)
  public func pushing(_ seat: UInt8) -> Self { Self(bits: bits << 8 | UInt64(seat)) }

  /// The lowest seat, 0 when it is empty.
  public var bottom: UInt8 {
    guard bits != 0, !isShut else { return 0 }
    return UInt8(truncatingIfNeeded: bits >> UInt64((63 - bits.leadingZeroBitCount) & ~7))
  }

  /// Without the lowest seat.
  public var withoutBottom: Self {
    guard bits != 0, !isShut else { return self }
    return Self(bits: bits & ((1 << UInt64((63 - bits.leadingZeroBitCount) & ~7)) &- 1))
  }
}
