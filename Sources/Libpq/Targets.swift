import CLibpq
import CPoolShims

/// The target after which the next attempt starts, because its time was up. Empty: the user's order.
public struct TargetMark: Equatable, Sendable {
  /// A hash of host, address and port; 0 is none. Names are looked up anew for each attempt, so a place in the list
  /// would mean nothing.
  var identity: UInt64 = 0

  public init() {}

  public var isEmpty: Bool { identity == 0 }
}

/// The hosts of one attempt with all their addresses, each an entry of its own, as libpq's lists `host`, `hostaddr`
/// and `port`: so libpq looks up no name itself, and the order is ours to turn.
///
/// Points into the `ConnectParameters` it was made from, and must be freed before them. Entries that are equal in
/// everything are kept once.
struct Targets {
  /// For `PQconnectStartParams`.
  let keywords: UnsafeMutablePointer<UnsafePointer<CChar>?>
  let values: UnsafeMutablePointer<UnsafePointer<CChar>?>
  let expandsFirstName: Bool
  private let block: UnsafeMutableRawPointer
  private let entries: UnsafeMutablePointer<Target>
  let count: Int

  enum Resolution {
    case success(Targets)
    /// No host has an address; the message says why.
    case failed
    case outOfMemory
  }

  /// Looks up the hosts. Blocks for as long as the resolver does.
  static func resolve(_ parameters: ConnectParameters, startingBehind mark: TargetMark, _ message: inout Message)
    -> Resolution
  {
    let lists = TargetLists(parameters)
    guard let lookups = Lookups(lists, &message) else { return .outOfMemory }
    defer { lookups.free() }
    guard lookups.entryCount > 0 else { return lookups.isMemoryShort ? .outOfMemory : .failed }
    guard let targets = Targets(parameters, lists, lookups, mark) else { return .outOfMemory }
    message.clear()
    return .success(targets)
  }

  private init?(_ parameters: ConnectParameters, _ lists: TargetLists, _ lookups: Lookups, _ mark: TargetMark) {
    let arrayLength = parameters.count &+ 4
    let arrays = arrayLength &* 2 &* MemoryLayout<UnsafePointer<CChar>?>.stride
    let table = lookups.entryCount &* MemoryLayout<Target>.stride
    guard let block = malloc(arrays &+ table &+ lookups.textBytes) else { return nil }
    self.block = block
    keywords = block.assumingMemoryBound(to: UnsafePointer<CChar>?.self)
    values = keywords + arrayLength
    entries = (block + arrays).assumingMemoryBound(to: Target.self)
    expandsFirstName = parameters.expandsFirstName

    var text = TextBlock(start: block + arrays + table)
    count = lookups.write(lists, entries, &text)
    let first = Targets.indexBehind(mark, entries, count)
    var used = Targets.copyOthers(parameters, keywords, values)
    for number in 0..<3 {
      guard let kind = TargetLists.Kind(rawValue: number), Targets.isNeeded(kind, entries, count) else { continue }
      keywords[used] = cString(kind.keyword)
      values[used] = text.here
      for offset in 0..<count {
        if offset > 0 { text.add(cString(",")) }
        text.add(entries[(first &+ offset) % count][kind])
      }
      text.end()
      used &+= 1
    }
    keywords[used] = nil
    values[used] = nil
  }

  func free() { CPoolShims.free(block) }

  /// The mark for the target that libpq is at.
  func mark(host: UnsafePointer<CChar>?, address: UnsafePointer<CChar>?, port: UnsafePointer<CChar>?) -> TargetMark {
    var mark = TargetMark()
    mark.identity = targetIdentity(.init(optional: host), .init(optional: address), .init(optional: port))
    for index in 0..<count where entries[index].identity == mark.identity { return mark }
    // The default socket, under the name that libpq gives it.
    for index in 0..<count where entries[index].host.count == 0 && entries[index].address.count == 0 {
      mark.identity = entries[index].identity
      return mark
    }
    return mark
  }

  private static func indexBehind(_ mark: TargetMark, _ entries: UnsafeMutablePointer<Target>, _ count: Int) -> Int {
    guard !mark.isEmpty else { return 0 }
    for index in 0..<count where entries[index].identity == mark.identity { return (index &+ 1) % count }
    return 0
  }

  private static func isNeeded(_ kind: TargetLists.Kind, _ entries: UnsafeMutablePointer<Target>, _ count: Int) -> Bool
  {
    if kind == .host, count > 1 { return true }
    for index in 0..<count where entries[index][kind].count > 0 { return true }
    return false
  }

  private static func copyOthers(
    _ parameters: ConnectParameters, _ keywords: UnsafeMutablePointer<UnsafePointer<CChar>?>,
    _ values: UnsafeMutablePointer<UnsafePointer<CChar>?>
  ) -> Int {
    var used = 0
    let hidesFile = PasswordFile.fault(parameters) != nil
    for index in 0..<parameters.count {
      guard let keyword = parameters.keywords[index] else { continue }
      let name = UnsafeBufferPointer<UInt8>(cString: keyword)
      if name.isEqual(to: "host") || name.isEqual(to: "hostaddr") || name.isEqual(to: "port") { continue }
      keywords[used] = keyword
      values[used] =
        hidesFile && name.isEqual(to: "passfile") ? cString(PasswordFile.nowhere) : parameters.values[index]
      used &+= 1
    }
    return used
  }
}

/// One address to try. The texts belong to the parameters or to the block of `Targets`.
struct Target {
  var host: UnsafeBufferPointer<UInt8>
  var address: UnsafeBufferPointer<UInt8>
  var port: UnsafeBufferPointer<UInt8>
  var identity: UInt64

  init(host: UnsafeBufferPointer<UInt8>, address: UnsafeBufferPointer<UInt8>, port: UnsafeBufferPointer<UInt8>) {
    self.host = host
    self.address = address
    self.port = port
    identity = targetIdentity(host, address, port)
  }

  subscript(kind: TargetLists.Kind) -> UnsafeBufferPointer<UInt8> {
    switch kind {
    case .host: host
    case .address: address
    case .port: port
    }
  }
}
