"""Faults to be seeded into PoolCore: in `file`, `old` (which must stand there exactly once) becomes `new`."""

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str


ACQUIRE = "PoolCore+Acquire.swift"
RELEASE = "PoolCore+Release.swift"
OPENING = "PoolCore+Opening.swift"
UPKEEP = "PoolCore+Upkeep.swift"
LIFECYCLE = "PoolCore+Lifecycle.swift"
HEALTH = "ConnectHealth.swift"

MUTANTS = [
    # Wake-ups
    Mutant(
        "a-granted-waiter-is-not-woken",
        ACQUIRE,
        "    ticket.pointee.isChecked = isChecked\n    decide(ticket)\n",
        "    ticket.pointee.isChecked = isChecked\n",
    ),
    Mutant(
        "a-failed-check-forgets-those-who-wait",
        RELEASE,
        "    // It may have been closed; then the next idle one is checked for those who wait.\n    serve(now: now)\n",
        "",
    ),
    Mutant(
        "a-recheck-overlooks-what-came-back",
        RELEASE,
        "    // Others may have come back meanwhile.\n    serve(now: now)\n",
        "",
    ),
    Mutant(
        "resume-serves-nobody",
        LIFECYCLE,
        "    isDrained = false\n    updateGate()\n    serve(now: now)\n",
        "    isDrained = false\n    updateGate()\n",
    ),
    Mutant(
        "a-closed-pool-does-not-wake-its-waiters",
        LIFECYCLE,
        "      refuse(ticket, .closed)\n      decide(ticket)\n",
        "      refuse(ticket, .closed)\n",
    ),
    Mutant(
        "a-new-connection-goes-past-those-who-wait",
        RELEASE,
        "    } else if let ticket = queue.first, !isPaused {\n",
        "    } else if let ticket = queue.first, !isPaused, slot.pointee.state != .opening {\n",
    ),
    # The queue
    Mutant("last-come-first-served", ACQUIRE, "      queue.append(ticket)\n", "      queue.prepend(ticket)\n"),
    Mutant(
        "the-gate-stays-open-beside-waiters",
        "PoolCore.swift",
        "isGated = isPaused || isDrained || isClosed || !queue.isEmpty",
        "isGated = isPaused || isDrained || isClosed",
    ),
    Mutant(
        "the-gate-stays-shut-after-a-refusal",
        ACQUIRE,
        "    queue.remove(ticket)\n    updateGate()\n    ticket.pointee.state = .refused\n",
        "    queue.remove(ticket)\n    ticket.pointee.state = .refused\n",
    ),
    Mutant(
        "max-waiting-is-not-kept",
        ACQUIRE,
        "queue.count >= settings.maxWaiting",
        "queue.count > settings.maxWaiting",
    ),
    Mutant(
        "a-ticket-has-no-deadline",
        ACQUIRE,
        "    if isDetached, deadline != .never {\n",
        "    if isDetached, deadline < 0 {\n",
    ),
    Mutant(
        "a-ticket-is-refused-too-early",
        UPKEEP,
        "guard let ticket = ticketDeadlines.first, ticket.pointee.due <= now else",
        "guard let ticket = ticketDeadlines.first, ticket.pointee.due <= now + 100_000 else",
    ),
    Mutant("a-ticket-can-be-used-twice", ACQUIRE, "    ticket.pointee.generation &+= 1\n", ""),
    Mutant(
        "a-recheck-waits-in-a-closed-pool",
        RELEASE,
        "    if isClosed {\n      takeBack(slot, now: now)\n      return .refused(.closed)\n    }\n",
        "",
    ),
    # Slots
    Mutant(
        "a-canceled-grant-loses-its-slot",
        ACQUIRE,
        "    if let slot { takeBack(slot, now: now) }\n",
        "    _ = slot\n",
    ),
    Mutant("a-closed-slot-is-lost", OPENING, "    free.prepend(slot)\n    total &-= 1\n", "    total &-= 1\n"),
    Mutant(
        "a-failed-attempt-counts-for-ever",
        OPENING,
        "    free.prepend(slot)\n    total &-= 1\n",
        "    free.prepend(slot)\n",
    ),
    Mutant(
        "one-above-the-maximum",
        OPENING,
        "    total < settings.maxSize && now",
        "    total <= settings.maxSize && now",
    ),
    Mutant(
        "closing-connections-count-as-surplus",
        RELEASE,
        "total > settings.maxSize && total &- going > settings.maxSize",
        "total > settings.maxSize",
    ),
    Mutant(
        "too-much-stays-after-a-shrink",
        UPKEEP,
        "guard hasSurplus || isTired else",
        "guard isTired else",
    ),
    # What is lent
    Mutant("an-old-epoch-is-lent", RELEASE, " || slot.pointee.epoch != epoch", ""),
    Mutant("what-is-condemned-is-lent", RELEASE, "(slot.pointee.isCondemned && !isInGrace(slot)) || slot", "slot"),
    Mutant(
        "a-transaction-is-lent-on",
        RELEASE,
        "      counters.resets &+= 1\n      beginLater(slot, .resetting)\n",
        "      settle(slot, now: now)\n",
    ),
    Mutant(
        "a-failed-reset-is-lent-on",
        RELEASE,
        "    if succeeded {\n      settle(slot, isChecked: true, now: now)\n",
        "    if succeeded || !slot.pointee.isLost {\n      settle(slot, isChecked: true, now: now)\n",
    ),
    Mutant("idle-for-long-and-lent-unchecked", ACQUIRE, "now &- slot.pointee.since > settings.checkAfterIdle", "false"),
    Mutant(
        "a-pause-does-not-hold",
        RELEASE,
        "else if let ticket = queue.first, !isPaused {",
        "else if let ticket = queue.first {",
    ),
    Mutant(
        "a-drain-keeps-the-idle",
        LIFECYCLE,
        "    withdrawOffers()\n    closeFree(replace: false)\n  }\n\n  /// Renews",
        "    withdrawOffers()\n  }\n\n  /// Renews",
    ),
    Mutant("reconnect-keeps-the-idle", LIFECYCLE, "    closeFree(replace: true)\n", ""),
    Mutant("an-expired-one-is-kept", UPKEEP, "      if !isAtGraceEnd, !isClosed", "      if !isClosed"),
    # The grace of what has expired
    Mutant("the-grace-has-no-end", RELEASE, " && slot.pointee.heapIndex >= 0 && !slot", " && !slot"),
    Mutant(
        "what-expires-in-use-has-no-replacement",
        UPKEEP,
        "      guard slot.pointee.state != .retiring else { continue }\n",
        "      guard slot.pointee.state == .idle else { continue }\n",
    ),
    Mutant(
        "a-drained-pool-replaces-what-expires",
        UPKEEP,
        "!isAtGraceEnd, !isClosed, !isDrained, !settings.isHosted, canOpen",
        "!isAtGraceEnd, !settings.isHosted, canOpen",
    ),
    # What is granted and collected later
    Mutant(
        "a-stale-grant-is-collected",
        ACQUIRE,
        "} else if isStale(slot, now: now) {",
        "} else if isStale(slot, now: .min) && leased < 0 {",
    ),
    Mutant(
        "a-lost-grant-is-collected",
        ACQUIRE,
        "    slot.pointee.isLost || slot.pointee.epoch != epoch\n      ||",
        "    slot.pointee.epoch != epoch\n      ||",
    ),
    Mutant(
        "a-grant-from-before-a-reconnect-is-collected",
        ACQUIRE,
        "    slot.pointee.isLost || slot.pointee.epoch != epoch\n",
        "    slot.pointee.isLost\n",
    ),
    Mutant(
        "an-expired-grant-is-collected",
        ACQUIRE,
        "      || (slot.pointee.isCondemned && slot.pointee.due <= now)\n",
        "",
    ),
    Mutant(
        "a-grant-has-the-grace-twice",
        ACQUIRE,
        "slot.pointee.isCondemned && slot.pointee.due <= now",
        "slot.pointee.isCondemned && slot.pointee.due.after(Span.expiryGrace) <= now",
    ),
    Mutant(
        "an-expired-grant-has-no-grace",
        UPKEEP,
        "        if !isAtGraceEnd { slot.pointee.due = now.after(Span.expiryGrace) }\n",
        "        if !isAtGraceEnd { slot.pointee.due = now.after(-Span.expiryGrace) }\n",
    ),
    Mutant(
        "a-stale-grant-is-left-open",
        RELEASE,
        "      if slot.pointee.isLost { sessionEnded(slot, now: now) }\n"
        "      close(slot, replace: true)\n    }\n    serve",
        "      keep(slot, now: now)\n    }\n    serve",
    ),
    Mutant(
        "a-stale-grant-waits-behind",
        RELEASE,
        "    ticket.pointee.slot = nil\n    ticket.pointee.state = .waiting\n    queue.prepend(ticket)\n",
        "    ticket.pointee.slot = nil\n    ticket.pointee.state = .waiting\n    queue.append(ticket)\n",
    ),
    Mutant(
        "a-stale-grant-waits-past-its-deadline",
        RELEASE,
        "    if ticket.pointee.state == .waiting { endCollection(ticket) }\n",
        "",
    ),
    Mutant("every-ticket-has-time-to-be-collected", ACQUIRE, "slot == nil ? deadline : Swift.max", "Swift.max"),
    Mutant(
        "no-ticket-has-time-to-be-collected",
        ACQUIRE,
        "slot == nil ? deadline : Swift.max(deadline, now.after(Span.collection))",
        "deadline",
    ),
    Mutant("what-was-checked-once-counts-as-checked", ACQUIRE, "      ticket.pointee.isChecked = false\n", ""),
    # The fast put
    Mutant(
        "a-fast-put-forgets-the-reset",
        "PoolCore.swift",
        " && settings.reset.rawValue <= ResetMode.rollback.rawValue",
        "",
    ),
    Mutant("a-fast-put-overlooks-those-who-wait", "PoolCore.swift", "isOrdinary = !isGated && ", "isOrdinary = "),
    Mutant(
        "a-fast-put-keeps-what-has-expired",
        RELEASE,
        "isOrdinary, !slot.pointee.isCondemned, slot",
        "isOrdinary, slot",
    ),
    # Attempts
    Mutant("no-pause-after-a-failure", OPENING, " && now >= health.retryAt", ""),
    Mutant("many-probes-at-once", OPENING, "Swift.min(health.window, concurrency)", "concurrency"),
    Mutant("no-bound-for-stuck-threads", OPENING, "unreached &+ stuck < unreachedLimit", "unreached < unreachedLimit"),
    Mutant("a-stuck-thread-is-not-counted", OPENING, "    stuck &+= 1\n", ""),
    Mutant(
        "a-late-attempt-passes-for-the-new-one",
        OPENING,
        "    unpair(slot)\n    slot.pointee.attempt &+= 1\n    stuck",
        "    unpair(slot)\n    stuck",
    ),
    Mutant("unreached-only-grows", OPENING, "    if !slot.pointee.hasReached { unreached &-= 1 }\n", ""),
    Mutant(
        "the-minimum-is-forgotten",
        OPENING,
        "    if owed > 0 || live &+ opening.count < settings.minSize {",
        "    if owed > 0 {",
    ),
    # Time
    Mutant(
        "the-end-of-the-pause-is-slept-through",
        UPKEEP,
        "    if wantsConnection(now: now), health.retryAt > now { next = Swift.min(next, health.retryAt) }\n",
        "",
    ),
    Mutant(
        "a-silent-peer-is-waited-for",
        UPKEEP,
        "    if let slot = closing.first { next = Swift.min(next, slot.pointee.since.after(Span.linger)) }\n",
        "",
    ),
    Mutant(
        "a-slow-query-is-waited-for",
        UPKEEP,
        "        next = Swift.min(next, slot.pointee.since.after(Span.soon))\n",
        "",
    ),
    Mutant("nobody-keeps-time-for-the-minimum", "PoolCore.swift", " || owed > 0 || isBelowMinimum\n", " || owed > 0\n"),
    Mutant(
        "the-idle-stay-for-ever",
        UPKEEP,
        "live > settings.minSize && slot.pointee.since",
        "live < 0 && slot.pointee.since",
    ),
    Mutant(
        "the-heap-forgets-its-second-child",
        "DeadlineHeap.swift",
        "      if child + 1 < count, entries[child + 1].pointee.due < entries[child].pointee.due { child += 1 }\n",
        "      if child + 1 < 0 { child += 1 }\n",
    ),
    # Sessions that do not last
    Mutant(
        "sessions-that-do-not-last-are-as-good-as-others",
        HEALTH,
        "    guard isOnProbation else { return }\n    lastFailure",
        "    if shortLived >= 0 { return }\n    lastFailure",
    ),
    Mutant(
        "distrust-never-ends",
        HEALTH,
        "if !isEndCounted, age >= Span.trial { shortLived = 2 }",
        "if age < 0 { shortLived = 2 }",
    ),
    Mutant(
        "what-has-served-counts-as-useless",
        HEALTH,
        "guard !wasOfUse, now",
        "guard wasOfUse == wasOfUse, now",
    ),
    Mutant(
        "many-begin-while-sessions-do-not-last",
        HEALTH,
        "    if !isOnProbation { window",
        "    if shortLived >= 0 { window",
    ),
    Mutant(
        "a-session-lost-while-it-was-opened-counts-for-nothing",
        OPENING,
        "    if slot.pointee.isLost { sessionEnded(slot, now: now) }\n    let expired",
        "    let expired",
    ),
]
