import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import PoolCore
  import PoolRuntime
#endif

/// What all pools of the process share. Its memory is static and zero-filled, and zero is a valid state of every
/// member, so it is complete before any code runs.
struct Process: ~Copyable {
  /// Guards making, reusing and reviving records, and starting the upkeep thread.
  let registryLock: Lock
  var records: Segments<PoolRecord>
  var firstFree: RecordPointer?
  /// Of the next pool; also the N of "pool-N".
  var generation: UInt64
  /// The first pool has registered the handlers for fork, or is about to.
  let hasForkHandlers: Atomic<Bool>
  /// What the first pool of a process needs is there.
  var isPrepared: Bool
  var hasExitHandler: Bool
  var hasTLSHandler: Bool
  /// OpenSSL has been made ready.
  let isTLSReady: Atomic<Bool>
  /// Of /dev/null, for a forked child.
  var null: Descriptor

  /// Advances in each forked child: a thread of ours that finds itself in one stops.
  let forkCount: Atomic<UInt32>

  // The upkeep thread.
  var poller: Poller
  var isUpkeepRunning: Bool
  /// The clock as of its last look, at most 100 ms ago while any pool has something open.
  let coarseNow: Atomic<Int64>
  /// The first pool that wants it: index + 1, 0 = none.
  let firstSignalled: Atomic<UInt32>

  // Connector threads; guarded by `connectorLock`.
  let connectorLock: Lock
  var jobs: LinkedList<Job>
  var connectors: Int
  var idleConnectors: Int
  let work: ParkingSpot

  /// Advances when a hosted pool has objects to close: where `pool_collect` waits.
  let collectable: ParkingSpot

  // Exit and fork.
  let isExiting: Atomic<Bool>
  /// Threads of ours inside libpq.
  let inLibpq: Atomic<Int>
  /// Threads of ours that look up a name.
  let inResolver: Atomic<Int>
  /// Threads of ours inside a callback.
  let inCallback: Atomic<Int>
  /// Threads of the host that are about to fork.
  let forking: Atomic<UInt32>
  /// Threads of ours at the gate that many forks in a row have kept waiting.
  let overdue: Atomic<Int>
  /// Where threads of ours wait for a fork to be over.
  let forkOver: ParkingSpot
}

/// The one `Process`.
var process: UnsafeMutablePointer<Process> {
  @inline(__always) get { pool_process().assumingMemoryBound(to: Process.self) }
}
