import Testing

@testable import PoolCore

/// Three threads with four operations each, over the transitions of the real `IdleStackWord` and the real `PoolCore`: every
/// state that an interleaving leads to, with the invariants after each step.
@Suite struct IdleStackInterleavingsTests {
  static let pools: [StackInterleavings.Plan] = [
    .init(slots: 1, [.get, .put, .get, .put], [.get, .put, .get, .put], [.get, .put, .get, .put]),
    .init(
      slots: 1, [.get, .put, .get, .put], [.impatientGet, .put, .get, .put], [.get, .putBroken, .upkeep, .upkeep]),
    .init(slots: 1, [.get, .put, .get, .put], [.tryGet, .put, .get, .put], [.lose, .upkeep, .lose, .upkeep]),
    .init(slots: 2, [.get, .put, .get, .put], [.get, .put, .tryGet, .put], [.get, .put, .lose, .upkeep]),
    .init(slots: 2, [.get, .put, .get, .put], [.tryGet, .put, .tryGet, .put], [.pause, .upkeep, .resume, .upkeep]),
    .init(slots: 1, [.get, .put, .get, .put], [.get, .put, .get, .put], [.renew, .upkeep, .get, .put]),
    .init(slots: 2, [.get, .put, .impatientGet, .put], [.get, .put, .get, .put], [.shrink, .upkeep, .grow, .upkeep]),
  ]

  /// All are lent but those that fill the stack, so each put is one too many.
  static let fullStacks: [StackInterleavings.Plan] = [
    .init(slots: 10, [.put, .get, .put, .get], [.put, .get, .put, .get], [.put, .get, .lose, .upkeep]),
    .init(slots: 10, [.put, .get, .put, .get], [.put, .tryGet, .put, .get], [.pause, .put, .resume, .get]),
  ]

  @Test(arguments: pools + fullStacks)
  func everyInterleavingKeepsTheInvariants(plan: StackInterleavings.Plan) {
    let model = StackInterleavings(plan)
    model.explore()
    #expect(model.failure == nil, "after the threads \(model.path)")
    #expect(model.states > 500 && model.ends > 0)
  }

  @Test(arguments: StackInterleavings.Fault.allCases)
  func aPlantedFaultIsFound(fault: StackInterleavings.Fault) {
    let failures = [Self.pools[2], Self.fullStacks[0]].lazy.compactMap { plan in
      let model = StackInterleavings(plan, fault: fault)
      model.explore()
      return model.failure
    }
    #expect(failures.first != nil)
  }
}
