import Testing

@testable import PoolCore

@Suite struct IdleStackWordTests {
  private func stack(_ seats: UInt8...) -> IdleStackWord { seats.reduce(.empty) { $0.pushing($1) } }

  @Test func whatWasPushedLastIsOnTop() {
    var word = stack(3, 255, 7)
    var seen: [UInt8] = []
    while word.top != 0 {
      seen.append(word.top)
      word = word.popped
    }
    #expect(seen == [7, 255, 3])
    #expect(word == .empty)
  }

  @Test func sevenHaveRoom() {
    var word = IdleStackWord.empty
    for seat in 1...7 {
      #expect(word.hasRoom)
      word = word.pushing(UInt8(seat) * 36)
    }
    #expect(!word.hasRoom && !word.isShut)
    #expect(word.popped.hasRoom)
  }

  @Test func aShutOneHasNothingAndTakesNothing() {
    #expect(IdleStackWord.shut.isShut && IdleStackWord.shut.top == 0 && !IdleStackWord.shut.hasRoom)
    #expect(IdleStackWord.shut.bottom == 0 && IdleStackWord.shut.withoutBottom == .shut)
    #expect(!IdleStackWord.empty.isShut && IdleStackWord.empty.hasRoom)
  }

  @Test func itEmptiesFromBelowInTheOrderOfThePushes() {
    for depth in 0...7 {
      var word = IdleStackWord.empty
      // Seats with high and with low bits: none may be taken for its neighbour's.
      let seats: [UInt8] = Array([0x80, 1, 0xFF, 2, 0x7F, 0xF0, 3].prefix(depth))
      for seat in seats { word = word.pushing(seat) }
      var seen: [UInt8] = []
      while word.bottom != 0 {
        seen.append(word.bottom)
        word = word.withoutBottom
      }
      #expect(seen == seats)
      #expect(word == .empty)
    }
  }
}
