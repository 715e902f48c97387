#if canImport(Glibc)
  import Glibc
#endif
#if SWIFT_PACKAGE
  import PoolCore
#endif

/// Runs the simulation over many seeds. In the environment: POOL_SIM_SEED=n replays one run, POOL_SIM_EVENTS=n runs
/// that many events (a million by default), POOL_SIM_FIRST=n begins with that seed.
@main
struct PoolSimulation {
  /// Seeds that have failed once.
  static let regressions: [UInt64] = []

  static func main() {
    if let seed = number("POOL_SIM_SEED") { exit(run(seed) == nil ? 1 : 0) }
    let wanted = Int(number("POOL_SIM_EVENTS") ?? 1_000_000)
    var seed = number("POOL_SIM_FIRST") ?? 1
    var (events, passed, failed) = (0, 0, 0)
    for seed in regressions { if run(seed) == nil { failed += 1 } else { passed += 1 } }
    while events < wanted, failed == 0 {
      if let count = run(seed) {
        events += count
        passed += 1
      } else {
        failed += 1
      }
      seed += 1
    }
    print("simulation: \(events) events in \(passed + failed) runs")
    print("\(passed) passed, \(failed) failed")
    exit(failed == 0 ? 0 : 1)
  }

  /// The number of events, or nil if something did not hold.
  static func run(_ seed: UInt64) -> Int? {
    let world = World(seed: seed)
    world.run()
    guard let violation = world.violation else { return world.events }
    print("seed \(seed), event \(world.events): \(violation)")
    world.trace.printAll()
    print("  \(world.scenario)")
    print("  sizes \(world.minSize) to \(world.maxSize), \(world.core.gauges)")
    print("again with POOL_SIM_SEED=\(seed)")
    return nil
  }

  private static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }
}
