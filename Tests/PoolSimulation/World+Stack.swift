#if SWIFT_PACKAGE
  import PoolCore
#endif

// The idle stack in front of the core, as the runtime has it: gets pop and puts push without the lock; whoever takes the
// lock (`core`) shuts the stack and gives the core what lay there; who lets go of it (`settleBooks`) opens it again.
extension World {
  /// How often the upkeep thread comes by whatever is due.
  static var tick: Nanoseconds { ms(100) }

  func recall() {
    var rest = word
    word = .shut
    while rest.bottom != 0 {
      isPools(Int(rest.bottom) - 1)
      rest = rest.withoutBottom
    }
  }

  /// Somebody takes the lock and lets go of it.
  func comeIn() {
    guard !word.isShut, word != .empty else { return }
    recall()
    settleBooks()
  }

  /// The core's again, which has seen it as lent while it lay on the stack.
  private func isPools(_ slot: Int) {
    if place[slot] != .stack { fail("slot \(slot) lay on the stack and is \(place[slot])") }
    place[slot] = .pool
    sessions[slot]?.hasServed = true
    if sessions[slot]?.isKnownLost == true { health.sessionEnded(sessions[slot], now: coarseNow) }
    state.release(slots + slot, .idle, now: coarseNow)
  }

  /// What lies on top; nil when there is nothing, or it is not to be lent. That goes to the core.
  func pop() -> SlotPointer? {
    guard word.top != 0 else { return nil }
    let slot = Int(word.top) - 1
    word = word.popped
    if isApart[slot] {
      trace.note(now, "popped, and given back", slot)
      recall()
      isPools(slot)
      return nil
    }
    if place[slot] != .stack { fail("popped a connection that is \(place[slot])") }
    place[slot] = .pool
    stackGets += 1
    return slots + slot
  }

  /// False when the core must see the put. `isLate`: the caller has looked whether it may lie there a moment ago.
  func push(_ slot: Int, isLate: Bool) -> Bool {
    guard !word.isShut, isLate || !isApart[slot] else { return false }
    let displaced = word.hasRoom ? 0 : word.bottom
    word = (word.hasRoom ? word : word.withoutBottom).pushing(UInt8(slot + 1))
    place[slot] = .stack
    if displaced != 0 { isPools(Int(displaced) - 1) }
    return true
  }

  /// A loan that the core has made begins.
  func classify(_ slot: Int) { isApart[slot] = slots[slot].isCondemned }

  /// The lock is let go.
  func openStack() {
    if scenario.usesStack, state.isOrdinary, word.isShut { word = .empty }
  }

  func checkStack() {
    guard scenario.usesStack else { return }
    let reset = scenario.settings.reset
    let seesAll =
      isPaused || isDrained || isClosed || !line.isEmpty || state.gauges.total > maxSize || reset == .discardAll
      || reset == .query
    if seesAll != word.isShut { fail(seesAll ? "the stack is open" : "the stack stays shut") }
    var (rest, count) = (word, 0)
    while rest.bottom != 0 {
      if place[Int(rest.bottom) - 1] != .stack { fail("a connection on the stack is \(place[Int(rest.bottom) - 1])") }
      rest = rest.withoutBottom
      count += 1
    }
    if count != onStack { fail("\(onStack) were put on the stack, \(count) lie there") }
  }

  var inUse: Int { state.gauges.inUse - onStack }

  var onStack: Int { place.count { $0 == .stack } }
}
