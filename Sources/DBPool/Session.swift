import CLibpq
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

typealias SessionPointer = UnsafeMutablePointer<Session>

/// What the runtime keeps for a slot: libpq's connection and the descriptor by which it is watched.
///
/// Guarded by the pool's lock, but for `lent`, `nextInBucket` and `expectedSocket` (atomic), and `connection`,
/// `backendPID` and `target`, which do not change while the session is lent and are then read by its holder. From the moment the
/// core has given a task for the slot until it is told the outcome, the upkeep thread alone uses `connection`.
struct Session: ~Copyable {
  /// The core's part; first, so that a `SlotPointer` is a `SessionPointer`.
  var slot = Slot()
  /// The `handle` while it is lent, else 0. Whoever exchanges it for 0 ends the loan: of two puts of the same connection
  /// one is refused. Of a hosted slot: the token that is in force, until the host has confirmed the session's end.
  let lent = Atomic<UInt>(0)
  /// What a borrower gets: the connection's address; of a hosted slot the token of its next loan. Guarded by the lock; does
  /// not change while the session is on the idle stack.
  var handle: UInt = 0
  /// Loans from the idle stack. Changed by whoever has just popped the session.
  let stackGets = Atomic<UInt64>(0)
  /// Its place in `Seats`, 0 = none. Guarded by the lock, constant while the session can be on the idle stack.
  var seat: UInt8 = 0
  /// The next session in its bucket of the `ConnectionTable`, 0 = none.
  let nextInBucket = Atomic<UInt>(0)
  let index: Int
  let record: RecordPointer

  var connection: OpaquePointer?
  /// libpq's default, which has no name.
  var noticeReceiver: PQnoticeReceiver?
  /// Those that `configure` left, or the pool's: they stay.
  var noticeHooks = NoticeHooks()
  /// The socket of the attempt under way, for a child that is forked meanwhile.
  var attemptSocket = Descriptor()
  /// Our duplicate of the socket, in the upkeep thread's watch until the server has closed its end.
  var descriptor = Descriptor()
  /// libpq's own number of the socket.
  var socketNumber: Int32 = -1
  /// What `pool_put` compares with the connection's socket: `socketNumber` of an ordinary session; `unfit` of one that is
  /// to be replaced; `unusual` of one that must be looked at more closely; `doubted` of one that refused a write; `apart` of
  /// one that must not lie on the idle stack. So none costs the others anything. Below 0 it is not lent from the stack.
  let expectedSocket = Atomic<Int32>(-1)
  var backendPID: Int32 = 0
  /// What must go on to hold of it: it held when the connection was new.
  var target = SessionTarget.any
  /// The address of the slot's last connection, when somebody else than the pool has called PQfinish on it.
  var finished: UInt = 0
  /// The new connection that `configure` is called with, and what it did to it that it must not do.
  var configuring: OpaquePointer?
  var trespass = Trespass.none
  /// Counts watches: an event of an earlier watch of this slot is ignored.
  var watchSerial: UInt32 = 0
  /// The kernel's number of the thread that borrowed it, kept when leaks are looked for.
  var holder: Int32 = 0
  var isLeakReported = false
  /// Hosted: something had arrived on its socket when it was lent.
  var isDoubtful = false
  /// Hosted, in a forked child: the last token from before the fork.
  var forkedHandle: UInt = 0
  /// It stands in the `ConnectionTable`.
  var isListed = false
  var stage = BackgroundStage.none
  /// When the query of `.reset` was sent.
  var resetBegan: Instant = 0
  /// Of a `stage` that is not `.none`.
  var query: BackgroundQuery?
  var job = Job()

  init(index: Int, record: RecordPointer) {
    self.index = index
    self.record = record
  }

  static func of(_ slot: SlotPointer) -> SessionPointer {
    UnsafeMutableRawPointer(slot).assumingMemoryBound(to: Session.self)
  }

  static var unfit: Int32 { -1 }
  static var unusual: Int32 { -2 }
  static var doubted: Int32 { -3 }
  static var apart: Int32 { -4 }

  /// What identifies this watch in an epoll event.
  var watchToken: UInt64 {
    UInt64(record.pointee.index) << 42 | UInt64(index) << 24 | UInt64(watchSerial & 0xFF_FFFF)
  }
}

extension SessionPointer {
  var jobPointer: UnsafeMutablePointer<Job> {
    // In place: the session never moves.
    withUnsafeMutablePointer(to: &pointee.job) { $0 }
  }

  var slotPointer: SlotPointer { UnsafeMutableRawPointer(self).assumingMemoryBound(to: Slot.self) }

  /// Ends the loan of `address`: of several threads that try one succeeds, and only that one touches the connection.
  @inline(__always)
  func take(_ address: UInt) -> Bool {
    pointee.lent.compareExchange(
      expected: address, desired: 0, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed
    ).exchanged
  }

  /// The state machine lends it: where the put will look for it. Under the lock.
  func prepareLoan() {
    if pointee.seat == 0 { Seats.assign(self) }
    classify()
    ConnectionTable.promote(self)
  }

  /// Whether it may lie on the idle stack: not without a seat, and not when its time is over. Under the lock, at each
  /// loan that is made there and when the state machine condemns one that is lent; who puts it meanwhile without the lock
  /// has a borrower after him who looks once more.
  func classify() {
    let expected = pointee.expectedSocket.load(ordering: .relaxed)
    guard expected == pointee.socketNumber || expected == Session.apart else { return }
    let isApart = pointee.seat == 0 || pointee.slot.isCondemned
    pointee.expectedSocket.store(isApart ? Session.apart : pointee.socketNumber, ordering: .relaxed)
  }

  /// As `classify`, of one that will be closed when it is put.
  func setApart() {
    // Its borrower may just have found out worse.
    _ = pointee.expectedSocket.compareExchange(
      expected: pointee.socketNumber, desired: Session.apart, ordering: .relaxed)
  }

  /// It still is what target_session_attrs asked for, as far as the server has told; by whoever has the connection.
  func isOnTarget(_ connection: Connection) -> Bool {
    pointee.expectedSocket.load(ordering: .relaxed) != Session.unusual
      || pointee.target.isMet(by: connection) != false
  }
}

typealias WaiterPointer = UnsafeMutablePointer<Waiter>

/// What the runtime keeps for a ticket: the word its owner is parked on.
struct Waiter: ~Copyable {
  /// The core's part; first, so that a `TicketPointer` is a `WaiterPointer`.
  var ticket = Ticket()
  let spot = ParkingSpot()
  let index: Int

  init(index: Int) { self.index = index }

  static func of(_ ticket: TicketPointer) -> WaiterPointer {
    UnsafeMutableRawPointer(ticket).assumingMemoryBound(to: Waiter.self)
  }
}

extension WaiterPointer {
  var ticketPointer: TicketPointer { UnsafeMutableRawPointer(self).assumingMemoryBound(to: Ticket.self) }
}

/// Of a connection that is not the pool's yet.
enum Trespass: UInt8 {
  case none
  /// PQreset: another session, which is not watched.
  case reset
  /// PQfinish: the connection is no more.
  case finish
}

/// A piece of work for a connector thread.
struct Job: Linked {
  enum Kind: UInt8 {
    case attempt, callbacks
  }

  var kind = Kind.attempt
  var record: RecordPointer?
  var session: SessionPointer?
  /// The slot's attempt that it is for.
  var attempt: UInt32 = 0
  var isQueued = false

  var next: UnsafeMutablePointer<Job>?
  var previous: UnsafeMutablePointer<Job>?
}

/// Where a background query stands.
enum BackgroundStage: UInt8 {
  case none
  /// Ends an open transaction; the reset query may follow.
  case rollback
  case reset
  /// An empty query after a reset that was slow: it takes what would hit the next borrower's.
  case settle
  case ping
}
