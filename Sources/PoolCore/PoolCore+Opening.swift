extension PoolCore {
  /// A connector thread has begun the attempt.
  public mutating func attemptStarted(_ slot: SlotPointer, now: Instant) {
    guard slot.pointee.state == .opening else { return broken("started an attempt on a slot that is not opening") }
    slot.pointee.isStarted = true
    slot.pointee.since = now
  }

  /// The attempt has reached a server: it answers.
  public mutating func attemptReached(_ slot: SlotPointer) {
    guard slot.pointee.state == .opening, !slot.pointee.hasReached else { return }
    slot.pointee.hasReached = true
    unreached &-= 1
    health.reached(limit: concurrency)
  }

  /// The attempt has succeeded: the connection is configured and may be lent.
  public mutating func opened(_ slot: SlotPointer, now: Instant) {
    guard endAttempt(slot) else { return }
    counters.opened &+= 1
    counters.connectTime &+= Swift.max(0, now &- slot.pointee.since)
    health.succeeded(limit: concurrency, now: now)
    if slot.pointee.isLost { sessionEnded(slot, now: now) }
    let expired = slot.pointee.partner
    unpair(slot)
    if settings.maxLifetime != .never { expiries.insert(slot, due: now.after(lifetime())) }
    retireReplaced(expired, by: slot, now: now)
    if slot.pointee.state == .opening { settle(slot, now: now) }
  }

  /// The attempt has failed; its slot is empty again.
  public mutating func openFailed(_ slot: SlotPointer, _ failure: ConnectFailure, now: Instant) {
    guard endAttempt(slot) else { return }
    let expired = slot.pointee.partner
    unpair(slot)
    vacate(slot)
    attemptFailed(slot, failure, now: now)
    if let expired, expired.pointee.state == .retiring { closeRetired(expired) }
  }

  /// The attempt ended for no fault of the server (the pool closes, there is no memory): nothing is concluded.
  public mutating func openAbandoned(_ slot: SlotPointer) {
    guard endAttempt(slot) else { return }
    let expired = slot.pointee.partner
    unpair(slot)
    vacate(slot)
    if let expired, expired.pointee.state == .retiring { closeRetired(expired) }
  }

  /// A thread whose attempt was given up has come back.
  public mutating func stuckReturned() {
    if stuck > 0 { stuck &-= 1 } else { broken("more stuck threads came back than were given up") }
  }

  /// The server's end of a closed session is closed, or was waited for long enough.
  public mutating func closed(_ slot: SlotPointer) {
    guard slot.pointee.state == .closing else { return broken("closed a slot that is not closing") }
    closing.remove(slot)
    vacate(slot)
  }

  /// The peer of a session is gone.
  public mutating func lost(_ slot: SlotPointer, now: Instant) {
    switch slot.pointee.state {
    case .idle:
      slot.pointee.isLost = true
      idle.remove(slot)
      sessionEnded(slot, now: now)
      close(slot, replace: false)
    case .retiring:
      slot.pointee.isLost = true
      closeRetired(slot)
    case .opening where settings.isHosted: break  // An event of the session before.
    case .opening, .leased, .resetting, .checking:
      slot.pointee.isLost = true
      slot.pointee.isCondemned = true
    case .stale, .ending:
      slot.pointee.isLost = true
      slot.pointee.isOccupied = false
    case .closing, .empty: break
    }
  }

  // MARK: Inside

  /// Attempts that may be under way at once while the server answers.
  var concurrency: Int { settings.connectConcurrency == 0 ? settings.maxSize : settings.connectConcurrency }

  /// Whether one more attempt is wanted and may begin now.
  func mayOpen(now: Instant) -> Bool {
    wantsConnection(now: now) && (settings.isHosted ? canOpenFresh(now: now) : canOpen(now: now))
  }

  func canOpen(now: Instant) -> Bool {
    total < settings.maxSize && now >= health.retryAt && opening.count < Swift.min(health.window, concurrency)
      && unreached &+ stuck < unreachedLimit && !free.isEmpty
  }

  /// Somebody waits whom no attempt or reset will serve soon, or there are fewer connections than there should be.
  func wantsConnection(now: Instant) -> Bool {
    if isClosed || isDrained { return false }
    if settings.opensOnGrant { return !isPaused && !queue.isEmpty }
    if owed > 0 || live &+ opening.count < settings.minSize { return true }
    if isPaused { return false }
    return queue.count > opening.count &+ comingFree(now: now)
  }

  /// Resets and checks that will end at any moment.
  private func comingFree(now: Instant) -> Int {
    if let oldest = background.first, oldest.pointee.since.after(Span.soon) <= now { return 0 }
    return resetting &+ checking
  }

  /// Takes an empty slot for an attempt.
  mutating func beginOpening() -> SlotPointer? {
    guard let slot = free.popFirst() else { return nil }
    if owed > 0 { owed &-= 1 }
    startOver(slot)
    slot.pointee.isStarted = false
    slot.pointee.hasReached = false
    opening.append(slot)
    total &+= 1
    unreached &+= 1
    return slot
  }

  /// Nothing of the session before holds for the one to be opened.
  mutating func startOver(_ slot: SlotPointer) {
    slot.pointee.state = .opening
    slot.pointee.attempt &+= 1
    slot.pointee.epoch = epoch
    slot.pointee.isCondemned = false
    slot.pointee.isLost = false
    slot.pointee.isUnfit = false
    slot.pointee.isReplaced = false
    slot.pointee.hasServed = false
  }

  mutating func giveUp(_ slot: SlotPointer, now: Instant) {
    guard endAttempt(slot) else { return }
    let expired = slot.pointee.partner
    unpair(slot)
    slot.pointee.attempt &+= 1
    stuck &+= 1
    vacate(slot)
    attemptFailed(slot, .transient, now: now)
    if let expired, expired.pointee.state == .retiring { closeRetired(expired) }
  }

  mutating func attemptFailed(_ slot: SlotPointer, _ failure: ConnectFailure, now: Instant) {
    counters.connectFailures &+= 1
    // One from before a reconnect says nothing of what is connected to now.
    guard slot.pointee.epoch == epoch else { return }
    owed = 0
    let random = nextRandom()
    health.failed(failure, now: now, random: random)
  }

  /// A session was ended by the server or the network.
  mutating func sessionEnded(_ slot: SlotPointer, now: Instant) {
    let random = nextRandom()
    health.sessionEnded(wasOfUse: slot.pointee.hasServed, now: now, random: random)
  }

  private mutating func endAttempt(_ slot: SlotPointer) -> Bool {
    guard slot.pointee.state == .opening else {
      broken("an attempt ended on a slot that is not opening")
      return false
    }
    opening.remove(slot)
    if !slot.pointee.hasReached { unreached &-= 1 }
    return true
  }

  mutating func vacate(_ slot: SlotPointer) {
    expiries.remove(slot)
    slot.pointee.state = .empty
    slot.pointee.isOccupied = false
    free.prepend(slot)
    total &-= 1
    if !isOrdinary { updateGate() }
  }

  /// The expired connection goes, now that the new one is open; an idle one leaves its place in the order to it, so
  /// that a renewed connection does not count as used.
  private mutating func retireReplaced(_ expired: SlotPointer?, by slot: SlotPointer, now: Instant) {
    guard let expired else { return }
    switch expired.pointee.state {
    case .retiring: closeRetired(expired)
    case .idle:
      if !mustClose(slot), queue.isEmpty {
        slot.pointee.state = .idle
        slot.pointee.since = expired.pointee.since
        idle.insert(slot, before: expired)
      }
      idle.remove(expired)
      close(expired, replace: false)
    case .leased, .resetting, .checking: expired.pointee.isReplaced = true
    case .empty, .opening, .closing, .stale, .ending: break
    }
  }

  mutating func closeRetired(_ slot: SlotPointer) {
    retiring.remove(slot)
    close(slot, replace: false)
  }

  /// Shortened in steps of the golden ratio from a random start: any number of them in a row is spread evenly over the
  /// jitter (Knuth, The Art of Computer Programming 6.4), so that what is opened together does not expire together.
  mutating func lifetime() -> Nanoseconds {
    let longest = settings.maxLifetime
    let share = longest / 100 * Int64(settings.lifetimeJitterPercent)
    guard share > 0 else { return longest }
    if lifetimeStep == 0 { lifetimeStep = nextRandom() }
    lifetimeStep &+= 0x9E37_79B9_7F4A_7C15
    return longest - Int64(truncatingIfNeeded: UInt64(share).multipliedFullWidth(by: lifetimeStep).high)
  }
}
