import CPoolShims

/// The bits behind a `pool_t *`: not an address, so a stale or foreign one can be told.
///
///     bit  0      1: no pointer of an allocator looks like that
///     bits 1-17   index of the record
///     bits 18-20  0
///     bits 21-62  generation: counts the pools of the process
enum Token {
  /// Set in a record's token in a forked child until the pool's first use there.
  static var forkedBit: UInt64 { 1 << 63 }
  static var indexLimit: Int { Int(POOL_RECORD_LIMIT) }

  static func make(index: Int, generation: UInt64) -> UInt64 {
    1 | UInt64(index) << 1 | generation << 21
  }

  static func index(_ token: UInt64) -> Int { Int(token >> 1) & (indexLimit - 1) }

  static func generation(_ token: UInt64) -> UInt64 { (token & ~forkedBit) >> 21 }

  static func isPlausible(_ token: UInt64) -> Bool { token & 1 == 1 && token & forkedBit == 0 }
}

/// The bits of a `pool_ticket_t`: 24 of the waiter's index + 1, 40 of the ticket's generation.
enum TicketToken {
  static func make(index: Int, generation: UInt64) -> UInt64 {
    UInt64(index + 1) | generation << 24
  }

  static func index(_ token: UInt64) -> Int { Int(token & 0xFF_FFFF) - 1 }

  static func matches(_ token: UInt64, generation: UInt64) -> Bool {
    token >> 24 == generation & 0xFF_FFFF_FFFF
  }
}
