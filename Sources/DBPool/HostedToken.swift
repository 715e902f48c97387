import CDBPool

/// The bits of what `pool_get` returns for a hosted pool: 8 of flags, 24 of the slot, 32 of the generation. The flags
/// are not part of what a token stands for.
struct HostedToken {
  /// Without flags: what a session's `lent` and `handle` hold.
  let handle: UInt

  init(_ pointer: UnsafeMutableRawPointer) { handle = UInt(bitPattern: pointer) & ~0xFF }

  var slot: Int { Int(handle >> 8) & 0xFF_FFFF }

  static func make(slot: Int, generation: UInt32) -> UInt {
    let handle = UInt(generation) << 32 | UInt(slot) << 8
    return handle == 0 ? 1 << 32 : handle
  }

  /// The next token of the same slot, never 0.
  static func next(_ handle: UInt) -> UInt {
    make(slot: Int(handle >> 8) & 0xFF_FFFF, generation: UInt32(truncatingIfNeeded: handle >> 32) &+ 1)
  }

  static func flags(isFresh: Bool, isOccupied: Bool, isDoubtful: Bool) -> UInt {
    (isFresh ? UInt(POOL_FRESH) : 0) | (isFresh && isOccupied ? UInt(POOL_OCCUPIED) : 0)
      | (isDoubtful ? UInt(POOL_DOUBTFUL) : 0)
  }

  /// Whether it was in force at or before `last`, a token of the same slot. Pools start at random generations, so another
  /// pool's token is most likely none of them.
  func isEarlier(than last: UInt) -> Bool {
    let distance = UInt32(truncatingIfNeeded: last >> 32) &- UInt32(truncatingIfNeeded: handle >> 32)
    return last != 0 && distance < 1 << 24
  }
}
