import CDBPool
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// Making, resizing, closing and burying a pool.
enum PoolLife {
  /// The token of a new pool; nil when there is an error, whose message is set.
  static func create(_ conninfo: UnsafePointer<CChar>?, _ given: UnsafePointer<pool_options_t>?) -> OpaquePointer? {
    guard ProcessLife.findLibpq() == POOL_OK else { return nil }
    var options = Options()
    var parameters: ConnectParameters?
    guard PoolConfiguration.read(conninfo, given, &options, &parameters) == POOL_OK else {
      options.free()
      parameters?.free()
      return nil
    }
    let usesTLS = parameters?.usesTLS ?? true || options.given.conninfo_provider != nil
    guard let record = prepare(options, usesTLS: usesTLS) else {
      options.free()
      parameters?.free()
      return nil
    }
    begin(record, options, parameters, usesTLS: usesTLS)
    let token = Registry.publish(record)
    if options.given.min_size > 0 { Upkeep.signal(record) }
    return OpaquePointer(bitPattern: UInt(token))
  }

  /// As `create`, for a pool whose connections the host makes.
  static func createHosted(_ given: UnsafePointer<pool_options_t>?) -> OpaquePointer? {
    var options = Options()
    guard PoolConfiguration.readHosted(given, &options) == POOL_OK, let record = prepare(options, usesTLS: false) else {
      options.free()
      return nil
    }
    begin(record, options, nil, usesTLS: false, isHosted: true)
    let token = Registry.publish(record)
    if options.given.min_size > 0 { Upkeep.signal(record) }
    return OpaquePointer(bitPattern: UInt(token))
  }

  /// A record with all the memory that the pool needs; nil when there is an error, whose message is set.
  private static func prepare(_ options: Options, usesTLS: Bool) -> RecordPointer? {
    guard ProcessLife.start(usesTLS: usesTLS) == POOL_OK else { return nil }
    guard let record = Registry.take() else {
      Failure.set(POOL_ENOMEM)
      return nil
    }
    let hasMemory =
      record.pointee.sessions.prepare() && record.pointee.waiters.prepare() && record.pointee.lastError.prepare()
      && (options.given.log == nil || record.pointee.log.prepare())
      && PoolMemory.provideSlots(record, Int(options.given.max_size)) && PoolMemory.provideTickets(record)
    guard hasMemory else {
      Registry.giveBack(record)
      Failure.set(POOL_ENOMEM)
      return nil
    }
    return record
  }

  /// The record is this thread's alone until it is published; the lock is for those with a stale token.
  private static func begin(
    _ record: RecordPointer, _ options: Options, _ parameters: ConnectParameters?, usesTLS: Bool,
    isHosted: Bool = false
  ) {
    var settings = options.settings
    settings.isHosted = isHosted
    settings.hasWorkers = isHosted && options.given.background_open != 0
    if isHosted { settings.reset = .none }
    let usesIdleStack = options.isPlain && options.given.queue_mode == POOL_LIFO && !isHosted
    settings.samplesUse = usesIdleStack
    record.enter()
    record.pointee.options = options
    record.pointee.parameters = parameters
    record.pointee.usesTLS = usesTLS
    record.pointee.core.reopen(settings: settings)
    PoolMemory.addAll(record)
    record.pointee.isHosted = isHosted
    Hosting.forgetForked(record)
    if isHosted { Hosting.number(record) }
    record.pointee.silentTarget = SilentTarget()
    record.pointee.loginTurns = LoginTurns()
    record.pointee.lastError.clear()
    record.pointee.log.startOver()
    record.pointee.isPlain = options.isPlain
    record.pointee.usesIdleStack = usesIdleStack
    (record.pointee.toldGets, record.pointee.toldPuts) = (0, 0)
    record.pointee.spinCredit.store(0, ordering: .relaxed)
    record.pointee.leaks = 0
    record.pointee.nextLeakSearch = 0
    record.pointee.context = options.given.context_free == nil ? .borrowed : .owned
    record.pointee.isStopping.store(false, ordering: .relaxed)
    record.leave()
  }

  static func resize(_ record: RecordPointer, _ token: UInt64, _ minSize: Int32, _ maxSize: Int32) -> Int32 {
    var options = Options()
    options.given.min_size = minSize
    options.given.max_size = maxSize
    let code = options.validate()
    guard code == POOL_OK else { return code }
    guard PoolMemory.provideSlots(record, Int(maxSize)) else { return Failure.set(POOL_ENOMEM) }
    record.enter()
    guard record.holds(token), !record.pointee.core.isClosed else {
      record.leave()
      return Failure.set(POOL_ECLOSED)
    }
    record.pointee.core.resize(minSize: Int(minSize), maxSize: Int(maxSize))
    record.leave()
    Upkeep.signal(record)
    return POOL_OK
  }

  static func close(_ record: RecordPointer, _ token: UInt64) -> Int32 {
    record.enter()
    guard record.holds(token), !record.pointee.core.isClosed else {
      record.leave()
      return Failure.set(POOL_ECLOSED)
    }
    record.pointee.isStopping.store(true, ordering: .relaxed)
    record.pointee.core.shut()
    while true {
      let isMore = record.pointee.core.refuseWaiting(limit: 16)
      record.unlockAndWake()
      guard isMore else { break }
      record.enter()
      guard record.holds(token) else {
        record.leave()
        break
      }
    }
    record.notifyChanges()
    if record.pointee.isHosted { Collecting.wake() }
    // A pool that has nothing left needs no upkeep: pools made and closed in a row share one record.
    if !retire(record) { Upkeep.signal(record) }
    return POOL_OK
  }

  /// If the pool is closed and nothing of it is left, voids its token and frees its record. False: not yet.
  @discardableResult
  static func retire(_ record: RecordPointer) -> Bool {
    record.enter()
    let isOver =
      record.pointee.core.isFinished && record.pointee.jobs == 0 && record.pointee.context != .owned
      && record.pointee.log.isEmpty && record.pointee.token.load(ordering: .relaxed) != 0
    guard isOver else {
      record.leave()
      return false
    }
    record.pointee.token.store(0, ordering: .releasing)
    let (options, parameters) = (record.pointee.options, record.pointee.parameters)
    let forkedLoans = record.pointee.forkedLoans
    record.pointee.options = Options()
    record.pointee.parameters = nil
    record.pointee.forkedLoans = nil
    record.leave()
    options.free()
    parameters?.free()
    forkedLoans?.free()
    record.notifyChanges()
    Registry.giveBack(record)
    return true
  }
}
