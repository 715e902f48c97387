// swift-tools-version: 6.2
import PackageDescription

// For development: `swift build`, `swift test`, sanitizers, coverage. The shipped library is built from the same
// sources as one Embedded Swift module by the Makefile (docs/decisions/0001-embedded-swift.md).

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]
let strictC: [CSetting] = [
  .headerSearchPath("../../include"),
  .enableWarning("all"),
  .enableWarning("extra"),
  .treatAllWarnings(as: .error),
]

let package = Package(
  name: "dbpool",
  products: [
    .library(name: "DBPool", targets: ["DBPool"])
  ],
  targets: [
    .systemLibrary(name: "CLibpq", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    // The public header as a module, so that the exports can be compared with what it declares.
    .systemLibrary(name: "CDBPool", path: "include"),
    .target(name: "CPoolShims", dependencies: ["CLibpq"], cSettings: strictC),
    .target(name: "PoolCore", swiftSettings: strict),
    .target(name: "Libpq", dependencies: ["CLibpq", "CPoolShims"], swiftSettings: strict),
    .target(name: "PoolRuntime", dependencies: ["PoolCore", "CPoolShims"], swiftSettings: strict),
    .target(
      name: "DBPool",
      dependencies: ["PoolCore", "PoolRuntime", "Libpq", "CLibpq", "CPoolShims", "CDBPool"],
      swiftSettings: strict),
    .executableTarget(
      name: "PoolSimulation", dependencies: ["PoolCore"], path: "Tests/PoolSimulation", swiftSettings: strict),
    .testTarget(name: "PoolCoreTests", dependencies: ["PoolCore"], swiftSettings: strict),
    .testTarget(
      name: "PoolRuntimeTests", dependencies: ["PoolRuntime", "PoolCore", "CPoolShims"], swiftSettings: strict),
    .testTarget(name: "LibpqTests", dependencies: ["Libpq", "CLibpq", "CPoolShims"], swiftSettings: strict),
    .testTarget(
      name: "DBPoolTests", dependencies: ["DBPool", "PoolCore", "PoolRuntime", "Libpq", "CPoolShims", "CDBPool"],
      swiftSettings: strict),
  ]
)
