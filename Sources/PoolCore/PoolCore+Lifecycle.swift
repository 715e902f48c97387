extension PoolCore {
  /// New limits. What is too much goes in `nextTask`, or when it is put back.
  public mutating func resize(minSize: Int, maxSize: Int) {
    settings.minSize = minSize
    settings.maxSize = maxSize
    updateGate()
    limitOwed()
  }

  /// Gets queue until `resume`.
  public mutating func pause() {
    isPaused = true
    updateGate()
  }

  public mutating func resume(now: Instant) {
    isPaused = false
    isDrained = false
    updateGate()
    serve(now: now)
  }

  /// Pauses, and closes what is open as it comes free.
  public mutating func drain() {
    isPaused = true
    isDrained = true
    owed = 0
    updateGate()
    withdrawOffers()
    closeFree(replace: false)
  }

  /// Renews all sessions: none that exists now is lent from here on.
  public mutating func reconnect(now: Instant) {
    epoch &+= 1
    health.forgive()
    closeFree(replace: true)
  }

  /// The end. Those who wait are refused by `refuseWaiting`.
  public mutating func shut() {
    isClosed = true
    owed = 0
    updateGate()
    withdrawOffers()
    closeFree(replace: false)
  }

  /// Refuses up to `limit` of those who wait for a closed pool; true when more are left.
  public mutating func refuseWaiting(limit: Int) -> Bool {
    for _ in 0..<limit {
      guard let ticket = queue.first else { return false }
      refuse(ticket, .closed)
      decide(ticket)
    }
    return !queue.isEmpty
  }

  /// Another life of the pool's memory, with new settings. Slots and tickets must be added again.
  public mutating func reopen(settings: Settings) {
    self.settings = settings
    randomState = settings.seed | 1
    lifetimeStep = 0
    (isPaused, isDrained, isClosed) = (false, false, false)
    epoch = 0
    startOver()
  }

  /// In a forked child: nothing of what was there exists. Slots and tickets must be added again.
  public mutating func startOver() {
    free.removeAll()
    idle.removeAll()
    opening.removeAll()
    todo.removeAll()
    background.removeAll()
    retiring.removeAll()
    closing.removeAll()
    stale.removeAll()
    expiries.removeAll()
    (total, leased, resetting, checking, toClose, ending, owed, unreached, stuck) = (0, 0, 0, 0, 0, 0, 0, 0, 0)
    (offered, hasStaleNews) = (0, false)
    queue.removeAll()
    freeTickets.removeAll()
    ticketDeadlines.removeAll()
    (firstDecided, lastDecided) = (nil, nil)
    health = ConnectHealth()
    counters = Counters()
    updateGate()
  }

  private mutating func closeFree(replace: Bool) {
    while let slot = idle.popFirst() { close(slot, replace: replace) }
    while let slot = retiring.first {
      retiring.remove(slot)
      close(slot, replace: false)
    }
  }
}

extension Slot {
  /// As new, for another life of the pool; the count of attempts goes on.
  public mutating func startOver() {
    let attempt = attempt
    self = Slot()
    self.attempt = attempt &+ 1
  }
}

extension Ticket {
  /// As new, for another life of the pool; tokens of earlier uses stay invalid.
  public mutating func startOver() {
    let generation = generation
    self = Ticket()
    self.generation = generation &+ 1
  }
}
