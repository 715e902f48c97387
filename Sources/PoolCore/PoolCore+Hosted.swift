// Hosted pools: the host opens and closes the sessions, the core says which and when. Without workers nothing is opened
// in the background, so an attempt is a grant: a caller gets an empty slot, or one whose old object is to go, as "fresh".
// With workers it is an offer: one of them fetches it, opens, and the session goes to whoever is first.
extension PoolCore {
  // MARK: Grants of fresh slots

  /// Grants a slot to open a session for, to a caller that does not wait. As `tryAcquire`, it leaves the queue its turn.
  public mutating func tryAcquireFresh(now: Instant) -> SlotPointer? {
    guard !isGated, settings.opensOnGrant, canOpenFresh(now: now) else { return nil }
    return beginFresh(now: now)
  }

  /// The caller begins to open a session for the slot it was granted.
  public mutating func freshStarted(_ slot: SlotPointer, now: Instant) {
    guard slot.pointee.state == .opening else { return broken("started to open a slot that is not opening") }
    slot.pointee.since = now
    slot.pointee.epoch = epoch
    slot.pointee.hasObject = false
  }

  /// The host has opened the session: it is lent to the caller that opened it, or, by a worker, is the pool's to lend.
  public mutating func adopted(_ slot: SlotPointer, now: Instant) {
    guard slot.pointee.state == .opening else { return broken("adopted a slot that is not opening") }
    opening.remove(slot)
    counters.opened &+= 1
    counters.connectTime &+= Swift.max(0, now &- slot.pointee.since)
    health.reached(limit: concurrency)
    health.succeeded(limit: concurrency, now: now)
    if settings.maxLifetime != .never { expiries.insert(slot, due: now.after(lifetime())) }
    if settings.hasWorkers { return settle(slot, now: now) }
    lend(slot, now: now)
    // The server answers: more may try.
    serve(now: now)
  }

  /// The host could not open it; the object that it held before is closed.
  public mutating func freshFailed(_ slot: SlotPointer, _ failure: ConnectFailure, now: Instant) {
    guard slot.pointee.state == .opening else { return broken("an attempt failed on a slot that is not opening") }
    opening.remove(slot)
    vacate(slot)
    attemptFailed(slot, failure, now: now)
    // A failure from before a reconnect holds nobody back.
    serve(now: now)
  }

  /// The host opened it, but the pool is closed: nothing is concluded.
  public mutating func freshAbandoned(_ slot: SlotPointer) {
    guard slot.pointee.state == .opening else { return broken("abandoned a slot that is not opening") }
    opening.remove(slot)
    vacate(slot)
  }

  /// The host has closed the object of a slot that is occupied, and opens none for it now: the slot counts until the
  /// server has closed its end too. Nothing is concluded.
  public mutating func freshVacated(_ slot: SlotPointer, now: Instant) {
    guard slot.pointee.state == .opening, slot.pointee.isOccupied else {
      return broken("vacated a slot that is not opening, or is not occupied")
    }
    opening.remove(slot)
    oweReplacement()
    beginLater(slot, .closing)
    // There is room for another attempt.
    serve(now: now)
  }

  // MARK: The ends of loans and sessions

  /// A loan is put back. False: the host is to close its object and to confirm that.
  public mutating func releaseHosted(_ slot: SlotPointer, now: Instant) -> Bool {
    guard endLoan(slot, now: now) else { return true }
    slot.pointee.hasServed = true
    guard mustClose(slot) else {
      settle(slot, now: now)
      return true
    }
    if slot.pointee.isLost { sessionEnded(slot, now: now) }
    countEnd(slot)
    oweReplacement()
    slot.pointee.state = .ending
    ending &+= 1
    return false
  }

  /// The host says that a lent session is unfit: it has closed the object, or does so now.
  public mutating func discardHosted(_ slot: SlotPointer, now: Instant) {
    guard endLoan(slot, now: now) else { return }
    counters.discarded &+= 1
    if slot.pointee.isLost { sessionEnded(slot, now: now) }
    slot.pointee.isUnfit = false
    countEnd(slot)
    oweReplacement()
    beginLater(slot, .closing)
  }

  /// The host has closed the object of a slot that is `.ending`.
  public mutating func confirmed(_ slot: SlotPointer) {
    guard slot.pointee.state == .ending else { return broken("confirmed the end of a slot that is not ending") }
    ending &-= 1
    slot.pointee.hasObject = false
    beginLater(slot, .closing)
  }

  /// An idle object for the host to close and to confirm.
  public mutating func takeStale() -> SlotPointer? {
    guard let slot = stale.popFirst() else { return nil }
    slot.pointee.state = .ending
    ending &+= 1
    return slot
  }

  /// A slot for a worker to open a session for.
  public mutating func takeOffer() -> SlotPointer? {
    guard offered > 0 else { return nil }
    var slot = opening.first
    while let candidate = slot, candidate.pointee.isStarted { slot = candidate.pointee.next }
    guard let slot else {
      broken("an offered slot is not opening")
      return nil
    }
    offered &-= 1
    slot.pointee.isStarted = true
    return slot
  }

  /// There are idle objects to close, or slots for workers to open.
  public var hasCollectable: Bool { !stale.isEmpty || offered > 0 }

  /// Work for those who collect has come since the last call: those who collect them are to be woken.
  public mutating func takeStaleNews() -> Bool {
    defer { hasStaleNews = false }
    return hasStaleNews
  }

  // MARK: Inside

  /// A slot may be granted as fresh now.
  func canOpenFresh(now: Instant) -> Bool {
    settings.isHosted && !isDrained && !isClosed && live &+ opening.count < settings.maxSize && now >= health.retryAt
      && opening.count < Swift.min(health.window, concurrency)
      && (!stale.isEmpty || (total < settings.maxSize && !free.isEmpty))
  }

  /// One whose object must go anyhow comes first: nobody has to collect it then.
  mutating func beginFresh(now: Instant) -> SlotPointer? {
    let slot: SlotPointer
    if let old = stale.popFirst() {
      slot = old
    } else if let empty = free.popFirst() {
      slot = empty
      total &+= 1
    } else {
      return nil
    }
    startOver(slot)
    slot.pointee.isStarted = true
    // Only for attempts of our own there is a bound on those that have not reached a server.
    slot.pointee.hasReached = true
    slot.pointee.since = now
    opening.append(slot)
    return slot
  }

  /// Offers what is wanted to the workers.
  mutating func offer(now: Instant) {
    while mayOpen(now: now), let slot = beginFresh(now: now) {
      if owed > 0 { owed &-= 1 }
      slot.pointee.isStarted = false
      offered &+= 1
      hasStaleNews = true
    }
  }

  /// Takes back what no worker has fetched.
  mutating func withdrawOffers() {
    var next = opening.first
    while offered > 0, let slot = next {
      next = slot.pointee.next
      guard !slot.pointee.isStarted else { continue }
      offered &-= 1
      opening.remove(slot)
      if slot.pointee.hasObject { leaveToHost(slot) } else { vacate(slot) }
    }
  }

  /// Grants fresh slots to those who wait, oldest first.
  mutating func serveFresh(now: Instant) {
    while let ticket = queue.first, canOpenFresh(now: now), let slot = beginFresh(now: now) {
      queue.remove(ticket)
      ticket.pointee.state = .granted
      ticket.pointee.slot = slot
      ticket.pointee.isChecked = true
      decide(ticket)
    }
    updateGate()
  }

  /// Undoes a grant that its holder has never seen.
  mutating func takeBackFresh(_ slot: SlotPointer, now: Instant) {
    opening.remove(slot)
    if slot.pointee.hasObject { leaveToHost(slot) } else { vacate(slot) }
    serve(now: now)
  }

  /// An open session that nobody has is to go, and the host has its object: the next one who may open a session gets
  /// the slot, or somebody collects it.
  mutating func leaveToHost(_ slot: SlotPointer) {
    slot.pointee.state = .stale
    slot.pointee.hasObject = true
    stale.append(slot)
    hasStaleNews = true
  }

  private mutating func endLoan(_ slot: SlotPointer, now: Instant) -> Bool {
    guard slot.pointee.state == .leased else {
      broken("released a slot that is not leased")
      return false
    }
    leased &-= 1
    counters.useTime &+= now &- slot.pointee.since
    return true
  }
}
