import CPoolShims

/// The lists of hosts, addresses and ports as the user gave them. libpq has checked that their lengths agree.
struct TargetLists {
  enum Kind: Int {
    case host, address, port

    var keyword: StaticString {
      switch self {
      case .host: "host"
      case .address: "hostaddr"
      case .port: "port"
      }
    }
  }

  private var hosts: ListItems
  private var addresses: ListItems
  private var ports: ListItems
  private let onePort: UnsafeBufferPointer<UInt8>?
  let count: Int
  private var position = 0

  init(_ parameters: ConnectParameters) {
    let hostList = parameters.list("host")
    let addressList = parameters.list("hostaddr")
    let portList = parameters.list("port")
    hosts = ListItems(hostList)
    addresses = ListItems(addressList)
    ports = ListItems(portList)
    count = addressList.count > 0 ? addresses.itemCount : hosts.itemCount
    onePort = ports.itemCount == 1 ? portList : nil
  }

  /// The next host with its own port.
  mutating func next() -> (
    host: UnsafeBufferPointer<UInt8>, address: UnsafeBufferPointer<UInt8>, port: UnsafeBufferPointer<UInt8>
  )? {
    guard position < count else { return nil }
    position &+= 1
    let none = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
    return (hosts.next() ?? none, addresses.next() ?? none, onePort ?? ports.next() ?? none)
  }
}

/// What the resolver said about each host of the lists.
struct Lookups {
  private typealias Answer = UnsafeMutablePointer<addrinfo>?

  private enum Outcome {
    case found(UnsafeMutablePointer<addrinfo>)
    /// A socket, the default host, or an address that the resolver does not take: libpq's to judge.
    case nothingToLookUp
    case unknown(Int32)
  }

  private let answers: UnsafeMutablePointer<Answer>
  private let isKept: UnsafeMutablePointer<Bool>
  private let count: Int
  private(set) var entryCount = 0
  /// At most this many bytes of text are written.
  private(set) var textBytes = 8
  private(set) var isMemoryShort = false

  /// Longest address in digits: IPv6, `%`, the interface's name, NUL.
  private static let addressSize = 80

  /// Nil without memory. Hosts that have no address are told in the message.
  init?(_ lists: TargetLists, _ message: inout Message) {
    count = lists.count
    let stride = MemoryLayout<Answer>.stride &+ 1
    guard let memory = calloc(count, stride) else { return nil }
    answers = memory.assumingMemoryBound(to: Answer.self)
    isKept = (memory + count &* MemoryLayout<Answer>.stride).assumingMemoryBound(to: Bool.self)
    var lists = lists
    var index = 0
    while let (host, address, port) = lists.next(), index < count {
      switch Lookups.lookUp(host, address) {
      case .found(let answer):
        answers[index] = answer
        var next: UnsafeMutablePointer<addrinfo>? = answer
        while let entry = next {
          add(host, Lookups.addressSize, port)
          next = entry.pointee.ai_next
        }
      case .nothingToLookUp:
        isKept[index] = true
        add(host, address.count, port)
      case .unknown(let error):
        if error == EAI_MEMORY { isMemoryShort = true }
        message.appendUnknown(host, error)
      }
      index &+= 1
    }
  }

  func free() {
    for index in 0..<count {
      if let answer = answers[index] { freeaddrinfo(answer) }
    }
    CPoolShims.free(answers)
  }

  /// Fills the table, in the order in which libpq would try, and returns the number of entries.
  func write(_ lists: TargetLists, _ entries: UnsafeMutablePointer<Target>, _ text: inout TextBlock) -> Int {
    var lists = lists
    var used = 0
    var index = 0
    while let (host, address, port) = lists.next(), index < count {
      if isKept[index] { add(Target(host: host, address: address, port: port), to: entries, &used) }
      var next = answers[index]
      while let entry = next {
        if let digits = Lookups.write(entry, &text) {
          add(Target(host: host, address: digits, port: port), to: entries, &used)
        }
        next = entry.pointee.ai_next
      }
      index &+= 1
    }
    return used
  }

  private func add(_ target: Target, to entries: UnsafeMutablePointer<Target>, _ used: inout Int) {
    for index in 0..<used where entries[index].identity == target.identity { return }
    (entries + used).initialize(to: target)
    used &+= 1
  }

  private mutating func add(_ host: UnsafeBufferPointer<UInt8>, _ addressBytes: Int, _ port: UnsafeBufferPointer<UInt8>)
  {
    entryCount &+= 1
    // The address twice: by itself and in the list.
    textBytes &+= host.count &+ addressBytes &* 2 &+ port.count &+ 4
  }

  private static func lookUp(_ host: UnsafeBufferPointer<UInt8>, _ address: UnsafeBufferPointer<UInt8>) -> Outcome {
    var hints = addrinfo()
    hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    if address.count > 0 {
      hints.ai_flags = AI_NUMERICHOST
      if case .found(let answer) = ask(address, &hints) { return .found(answer) }
      return .nothingToLookUp
    }
    return host.count == 0 || isUnixSocket(host) ? .nothingToLookUp : ask(host, &hints)
  }

  private static func ask(_ name: UnsafeBufferPointer<UInt8>, _ hints: inout addrinfo) -> Outcome {
    guard let start = name.baseAddress else { return .unknown(EAI_NONAME) }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { buffer in
      // No name in the DNS is longer than 253 bytes, no address in digits than 80.
      guard let text = buffer.baseAddress, name.count <= 1023 else { return .unknown(EAI_NONAME) }
      memcpy(text, start, name.count)
      text[name.count] = 0
      var answer: UnsafeMutablePointer<addrinfo>?
      let error = getaddrinfo(text, nil, &hints, &answer)
      guard error == 0, let answer else { return .unknown(error == 0 ? EAI_NONAME : error) }
      return .found(answer)
    }
  }

  private static func write(_ entry: UnsafeMutablePointer<addrinfo>, _ text: inout TextBlock)
    -> UnsafeBufferPointer<UInt8>?
  {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: addressSize) { buffer in
      guard let digits = buffer.baseAddress, pool_numeric_address(entry, digits, addressSize) == 0 else { return nil }
      let start = text.here
      text.add(digits)
      return UnsafeBufferPointer(start: bytes(of: start), count: strlen(digits))
    }
  }
}

extension Message {
  fileprivate mutating func appendUnknown(_ host: UnsafeBufferPointer<UInt8>, _ error: Int32) {
    if !isEmpty { append("; ") }
    append("could not translate host name \"")
    if let start = host.baseAddress { appendCleaned(bytes: start, count: host.count) }
    append("\" to address: ")
    appendCleaned(cString: gai_strerror(error))
  }
}

/// A number that tells targets apart: of the name, the address's bytes however they were written, and the port.
/// What libpq says of a target (`PQhost`, `PQhostaddr`, `PQport`) gives the same number.
func targetIdentity(
  _ host: UnsafeBufferPointer<UInt8>, _ address: UnsafeBufferPointer<UInt8>, _ port: UnsafeBufferPointer<UInt8>
) -> UInt64 {
  // Without a name, PQhost is the address as it was given.
  let name = host.count > 0 ? host : address
  var hash = FNV1a()
  hash.add(name)
  hash.addAddress(address)
  hash.add(port.count > 0 ? port : UnsafeBufferPointer("5432"))
  return hash.value == 0 ? 1 : hash.value
}

private struct FNV1a {
  var value: UInt64 = 0xCBF2_9CE4_8422_2325

  mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }

  mutating func add(_ text: UnsafeBufferPointer<UInt8>) {
    for byte in text { add(byte) }
    add(0)
  }

  mutating func addAddress(_ text: UnsafeBufferPointer<UInt8>) {
    guard let start = text.baseAddress else { return add(0) }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 16) { buffer in
      let digits = UnsafePointer<CChar>(OpaquePointer(start))
      let size = Int(pool_address_bytes(digits, text.count, buffer.baseAddress))
      add(size > 0 ? UnsafeBufferPointer(rebasing: buffer[0..<size]) : text)
    }
  }
}
