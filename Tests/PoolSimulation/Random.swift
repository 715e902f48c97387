/// SplitMix64: small, and good enough to shake a state machine.
struct Random {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// 0 ..< bound; 0 if there is no such number.
  mutating func below(_ bound: Int) -> Int {
    bound <= 0 ? 0 : Int(next() % UInt64(bound))
  }

  mutating func chance(permille: Int) -> Bool { below(1000) < permille }

  mutating func span(_ shortest: Int64, _ longest: Int64) -> Int64 {
    shortest + Int64(below(Int(longest - shortest) + 1))
  }

  mutating func pick<Value>(_ values: [Value]) -> Value { values[below(values.count)] }
}

func ms(_ count: Int) -> Int64 { Int64(count) * 1_000_000 }
func us(_ count: Int) -> Int64 { Int64(count) * 1000 }
