import CPoolShims

/// A descriptor of ours, with what proves that its number is still ours: a program may close numbers that it does not
/// own (closefrom, a daemon's clean-up), and the next open gets the number.
public struct Descriptor: Sendable {
  public private(set) var number: Int32 = -1
  private var inode: UInt64 = 0
  private var device: UInt64 = 0

  public init() {}

  /// Takes over `number`.
  public init(number: Int32) {
    var inode: UInt64 = 0
    var device: UInt64 = 0
    guard number >= 0, pool_identity(number, &device, &inode) == 0 else { return }
    self.number = number
    self.inode = inode
    self.device = device
  }

  /// A duplicate of `number`, close-on-exec; not `isOpen`, with errno set, when there is none.
  public init(duplicating number: Int32) {
    let copy = pool_duplicate(number)
    self.init(number: copy)
    guard copy >= 0, !isOpen else { return }
    let error = pool_errno()
    _ = CPoolShims.close(copy)
    pool_set_errno(error)
  }

  public var isOpen: Bool { number >= 0 }

  /// Whether the number still stands for what it stood for.
  public var isOurs: Bool { isOpen && describes(number) }

  /// Whether `other` is a descriptor of the same file.
  public func describes(_ other: Int32) -> Bool {
    var nowInode: UInt64 = 0
    var nowDevice: UInt64 = 0
    return other >= 0 && pool_identity(other, &nowDevice, &nowInode) == 0 && nowInode == inode && nowDevice == device
  }

  /// Closes it, unless the number has become somebody else's.
  public mutating func close() {
    if isOurs { _ = CPoolShims.close(number) }
    number = -1
  }

  /// In a forked child: puts /dev/null in its place, unless the number has become somebody else's. The child can then
  /// neither speak on the parent's connection nor keep it open. Async-signal-safe.
  public func replace(with null: Int32) {
    if isOurs { pool_replace(number, null) }
  }

  /// As `replace(with:)` for another number that may stand for the same file.
  public func replace(alias: Int32, with null: Int32) {
    if describes(alias) { pool_replace(alias, null) }
  }
}
