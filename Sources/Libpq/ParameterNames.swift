import CPoolShims

/// What is passed on besides what the user set: a peer that falls silent is noticed within a minute also while a
/// query runs, instead of after hours.
func defaultValue(of keyword: UnsafeBufferPointer<UInt8>) -> StaticString? {
  if keyword.isEqual(to: "keepalives_idle") { return "30" }
  if keyword.isEqual(to: "keepalives_interval") { return "10" }
  if keyword.isEqual(to: "keepalives_count") { return "3" }
  if keyword.isEqual(to: "tcp_user_timeout") { return "30000" }
  return nil
}

/// libpq reads these only while it connects.
func isInteger(_ keyword: UnsafeBufferPointer<UInt8>) -> Bool {
  defaultValue(of: keyword) != nil || keyword.isEqual(to: "keepalives") || keyword.isEqual(to: "connect_timeout")
}

func isSessionAttribute(_ value: UnsafeBufferPointer<UInt8>) -> Bool {
  value.isEqual(to: "any") || value.isEqual(to: "read-write") || value.isEqual(to: "read-only")
    || value.isEqual(to: "primary") || value.isEqual(to: "standby") || value.isEqual(to: "prefer-standby")
}

/// A comma-separated list of ports, as libpq reads it; an empty one is the default.
func arePorts(_ list: UnsafeBufferPointer<UInt8>) -> Bool {
  var items = ListItems(list)
  while let item = items.next() {
    guard item.count == 0 || (decimal(item).map { 1...65535 ~= $0 } ?? false) else { return false }
  }
  return true
}

/// The items of libpq's comma-separated lists: always one more than there are commas, nothing is escaped.
struct ListItems {
  private let list: UnsafeBufferPointer<UInt8>
  private var position = 0

  init(_ list: UnsafeBufferPointer<UInt8>) { self.list = list }

  mutating func next() -> UnsafeBufferPointer<UInt8>? {
    guard position <= list.count else { return nil }
    let end = list.position(of: UInt8(ascii: ","), from: position)
    let item = list.part(position, end)
    position = end &+ 1
    return item
  }

  var itemCount: Int {
    var items = ListItems(list)
    var count = 0
    while items.next() != nil { count &+= 1 }
    return count
  }
}

/// A host that is the folder of a Unix socket, or the name of an abstract one.
func isUnixSocket(_ host: UnsafeBufferPointer<UInt8>) -> Bool {
  host.count > 0 && (host[0] == UInt8(ascii: "/") || host[0] == UInt8(ascii: "@"))
}
