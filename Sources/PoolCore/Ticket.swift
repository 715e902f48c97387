/// Why a get ended without a connection.
public enum Refusal: UInt8, Sendable {
  case timedOut
  case cannotConnect
  case paused
  case closed
  case full
  case canceled
}

/// What has become of a ticket.
public enum TicketState: UInt8, Sendable {
  /// Not in use.
  case free
  /// In the queue. Leads to `.granted`, `.refused` or, given up, to `.free`.
  case waiting
  /// Has a slot, which is `.leased` for it. Leads to `.free` when collected or revoked.
  case granted
  /// Ended without a connection. Leads to `.free` when collected.
  case refused
}

public typealias TicketPointer = UnsafeMutablePointer<Ticket>

/// A place in the queue. Its memory is the runtime's and never moves.
public struct Ticket: Linked, Due {
  public internal(set) var state = TicketState.free
  public internal(set) var refusal = Refusal.timedOut
  /// Somebody collects it by `pool_get_wait`; the core sees to its deadline. Otherwise a thread is parked on it, which
  /// sees to its own.
  public internal(set) var isDetached = false
  /// Counts the ticket's uses: a token of an earlier one is refused.
  public internal(set) var generation: UInt64 = 0
  /// `.granted`: its owner looks at the connection, without the lock; it cannot be taken back meanwhile.
  public internal(set) var isBeingChecked = false
  /// `.granted`: the connection comes straight from a ping.
  public internal(set) var isChecked = false
  /// Canceled while it was being checked.
  var isCanceled = false
  /// Threads parked on it; kept by the runtime.
  public var parked = 0
  public internal(set) var slot: SlotPointer?
  public internal(set) var queuedAt: Instant = 0
  public internal(set) var deadline: Instant = .never
  /// The next ticket that was decided and whose owner is still to be woken.
  var nextDecided: TicketPointer?

  // Queue or free list, and heap.
  public var next: TicketPointer?
  public var previous: TicketPointer?
  public var due: Instant = .never
  public var heapIndex: Int32 = -1

  public init() {}
}
