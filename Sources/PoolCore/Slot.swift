/// Where a slot stands. Each slot is in exactly one state.
public enum SlotState: UInt8, Sendable {
  /// No session. Leads to `.opening`.
  case empty
  /// An attempt to connect; hosted: granted to a caller who opens it. Leads to `.idle`, `.leased`, `.stale` or `.empty`.
  case opening
  /// Open and free. Leads to `.leased`, `.checking`, `.retiring`, `.closing` or `.stale`.
  case idle
  /// Lent to a caller, or granted to a ticket that will be collected.
  case leased
  /// Put back, its reset waits for the upkeep thread or is under way.
  case resetting
  /// Idle too long to be lent unseen: a ping waits for the upkeep thread or is under way.
  case checking
  /// Expired, lent no more, kept open until its replacement is open.
  case retiring
  /// To be closed, or closed by us with the server's end not yet seen closed.
  case closing
  /// Hosted: lent no more, and the host still has its object. Leads to `.opening` (granted as fresh) or `.ending`.
  case stale
  /// Hosted: the host was told to close its object, and has not confirmed it. Leads to `.closing`.
  case ending
}

public typealias SlotPointer = UnsafeMutablePointer<Slot>

/// One of the at most `maxSize` places for a session. Its memory is the runtime's and never moves.
public struct Slot: Linked, Due {
  public internal(set) var state = SlotState.empty
  /// It must be closed when it comes back, whatever its state then.
  public internal(set) var isCondemned = false
  /// The server or the network ended the session.
  public internal(set) var isLost = false
  /// Its peer is there, but an error has shown that it is of no use.
  public internal(set) var isUnfit = false
  /// A borrower has put it back in good order; not known of all that were popped and pushed without the lock.
  var hasServed = false
  /// Lent when it expired; the session that replaces it is open already.
  var isReplaced = false
  /// Hosted: the host still has an object of an earlier session.
  var hasObject = false
  /// Hosted, `.stale` or `.opening`: the server has the session of that object still.
  public internal(set) var isOccupied = false
  /// `.opening`: the attempt runs on a connector thread. `.closing`: the upkeep thread has begun it.
  public internal(set) var isStarted = false
  /// `.opening`: the attempt has reached a server.
  public internal(set) var hasReached = false
  /// Counts the slot's attempts: what comes back from an attempt that was given up carries an older number.
  public internal(set) var attempt: UInt32 = 0
  /// The pool's epoch when the session's attempt began; an older one than the pool's is not lent again.
  var epoch: UInt32 = 0
  /// Since when it is in its state; coarse for `.idle` and `.leased`.
  public internal(set) var since: Instant = 0
  /// `.opening`: the expired slot that this one replaces; of an open one the slot that replaces it.
  var partner: SlotPointer?

  // Lists and heap.
  public var next: SlotPointer?
  public var previous: SlotPointer?
  /// When it expires; of an expired one when its grace ends.
  public var due: Instant = .never
  public var heapIndex: Int32 = -1

  public init() {}
}
