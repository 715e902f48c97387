"""Faults to be seeded into the part of PoolCore that serves hosted pools."""

from mutants import ACQUIRE, LIFECYCLE, OPENING, RELEASE, Mutant

HOSTED = "PoolCore+Hosted.swift"

MUTANTS = [
    # Grants of fresh slots
    Mutant(
        "a-stale-slot-stays-in-its-list",
        HOSTED,
        "    if let old = stale.popFirst() {\n",
        "    if let old = stale.first {\n",
    ),
    Mutant("fresh-above-the-maximum", HOSTED, "(total < settings.maxSize && !free.isEmpty)", "!free.isEmpty"),
    Mutant(
        "a-stale-slot-beside-those-who-wait",
        HOSTED,
        "(!stale.isEmpty || (total < settings.maxSize && !free.isEmpty))",
        "total < settings.maxSize && !free.isEmpty",
    ),
    Mutant(
        "many-hosts-probe-at-once",
        HOSTED,
        "      && opening.count < Swift.min(health.window, concurrency)\n",
        "",
    ),
    Mutant("no-pause-before-a-fresh-grant", HOSTED, " && now >= health.retryAt\n", "\n"),
    Mutant(
        "a-fresh-grant-wakes-nobody",
        HOSTED,
        "      ticket.pointee.isChecked = true\n      decide(ticket)\n",
        "      ticket.pointee.isChecked = true\n",
    ),
    Mutant(
        "a-fresh-grant-past-those-who-wait",
        HOSTED,
        "guard !isGated, settings.opensOnGrant, canOpenFresh",
        "guard settings.opensOnGrant, canOpenFresh",
    ),
    Mutant(
        "a-joining-caller-opens-nothing",
        ACQUIRE,
        "    if settings.opensOnGrant { serveFresh(now: now) }\n",
        "",
    ),
    # Grants taken back
    Mutant(
        "what-is-taken-back-has-no-object",
        HOSTED,
        "    if slot.pointee.hasObject { leaveToHost(slot) } else { vacate(slot) }\n    serve",
        "    vacate(slot)\n    serve",
    ),
    Mutant(
        "a-fresh-grant-taken-back-is-for-nobody",
        HOSTED,
        "else { vacate(slot) }\n    serve(now: now)\n",
        "else { vacate(slot) }\n",
    ),
    Mutant(
        "a-fresh-grant-is-taken-back-as-a-loan",
        ACQUIRE,
        "    if slot.pointee.state == .opening { return takeBackFresh(slot, now: now) }\n",
        "",
    ),
    Mutant(
        "an-object-is-closed-twice",
        HOSTED,
        "    slot.pointee.hasObject = false\n    beginLater",
        "    beginLater",
    ),
    Mutant(
        "an-object-outlives-its-successor",
        HOSTED,
        "    slot.pointee.epoch = epoch\n    slot.pointee.hasObject = false\n",
        "    slot.pointee.epoch = epoch\n",
    ),
    Mutant(
        "a-closed-pool-has-sessions-opened",
        ACQUIRE,
        "        if isClosed { revoke(ticket, .closed, now: now) }\n",
        "",
    ),
    # Attempts of the host
    Mutant(
        "a-success-lets-nobody-else-try",
        HOSTED,
        "    // The server answers: more may try.\n    serve(now: now)\n",
        "",
    ),
    Mutant(
        "a-failed-fresh-grant-loses-its-slot",
        HOSTED,
        "    vacate(slot)\n    attemptFailed(slot, failure, now: now)\n",
        "    attemptFailed(slot, failure, now: now)\n",
    ),
    Mutant(
        "a-failed-fresh-grant-tells-nothing",
        HOSTED,
        "    vacate(slot)\n    attemptFailed(slot, failure, now: now)\n",
        "    vacate(slot)\n",
    ),
    Mutant(
        "a-session-opened-after-a-reconnect-is-old",
        HOSTED,
        "    slot.pointee.epoch = epoch\n    slot.pointee.hasObject = false\n",
        "    slot.pointee.hasObject = false\n",
    ),
    Mutant(
        "what-the-host-opens-never-expires",
        HOSTED,
        "    if settings.maxLifetime != .never { expiries.insert(slot, due: now.after(lifetime())) }\n",
        "",
    ),
    Mutant(
        "an-old-loss-condemns-the-new-session",
        OPENING,
        "    case .opening where settings.isHosted: break  // An event of the session before.\n",
        "",
    ),
    Mutant(
        "a-vacated-slot-is-free-at-once",
        HOSTED,
        "    oweReplacement()\n    beginLater(slot, .closing)\n    // There is room",
        "    oweReplacement()\n    vacate(slot)\n    // There is room",
    ),
    Mutant(
        "what-must-go-does-not-count",
        RELEASE,
        "      slot.pointee.isOccupied = !slot.pointee.isLost\n",
        "",
    ),
    Mutant(
        "a-vacated-slot-is-opening-still",
        HOSTED,
        "    opening.remove(slot)\n    oweReplacement()\n",
        "    oweReplacement()\n",
    ),
    Mutant(
        "a-vacated-slot-makes-room-for-nobody",
        HOSTED,
        "    // There is room for another attempt.\n    serve(now: now)\n",
        "",
    ),
    # Loans and their end
    Mutant(
        "what-is-condemned-stays-with-the-host",
        HOSTED,
        "    guard mustClose(slot) else {\n      settle(slot, now: now)\n",
        "    guard mustClose(slot), slot.pointee.isLost else {\n      settle(slot, now: now)\n",
    ),
    Mutant(
        "a-put-of-what-ends-is-not-counted",
        HOSTED,
        "    slot.pointee.state = .ending\n    ending &+= 1\n    return false\n",
        "    slot.pointee.state = .ending\n    return false\n",
    ),
    Mutant("what-ends-does-not-count", "PoolCore.swift", " + stale.count + ending }", " + stale.count }"),
    Mutant(
        "a-confirmed-end-has-no-end",
        HOSTED,
        "    slot.pointee.hasObject = false\n    beginLater(slot, .closing)\n",
        "    slot.pointee.hasObject = false\n",
    ),
    Mutant(
        "a-lost-loan-raises-no-suspicion",
        HOSTED,
        "    if slot.pointee.isLost { sessionEnded(slot, now: now) }\n    countEnd(slot)\n    oweRepl",
        "    countEnd(slot)\n    oweRepl",
    ),
    # Objects to close
    Mutant(
        "a-session-ends-behind-the-back-of-its-host",
        RELEASE,
        "      return leaveToHost(slot)\n",
        "",
    ),
    Mutant(
        "nobody-hears-of-objects-to-close",
        HOSTED,
        "    stale.append(slot)\n    hasStaleNews = true\n",
        "    stale.append(slot)\n",
    ),
    Mutant(
        "a-collected-slot-is-collected-again",
        HOSTED,
        "guard let slot = stale.popFirst() else { return nil }",
        "guard let slot = stale.first else { return nil }",
    ),
    # Workers
    Mutant(
        "nobody-hears-of-offers",
        HOSTED,
        "      offered &+= 1\n      hasStaleNews = true\n",
        "      offered &+= 1\n",
    ),
    Mutant(
        "an-offer-is-fetched-twice",
        HOSTED,
        "    slot.pointee.isStarted = true\n    return slot\n",
        "    return slot\n",
    ),
    Mutant("an-offer-stays-for-ever", HOSTED, "    offered &-= 1\n    slot.pointee", "    slot.pointee"),
    Mutant(
        "a-worker-keeps-what-it-opens",
        HOSTED,
        "    if settings.hasWorkers { return settle(slot, now: now) }\n",
        "    if settings.hasWorkers { return lend(slot, now: now) }\n",
    ),
    Mutant(
        "a-closed-pool-makes-offers",
        LIFECYCLE,
        "    isClosed = true\n    owed = 0\n    updateGate()\n    withdrawOffers()\n",
        "    isClosed = true\n    owed = 0\n    updateGate()\n",
    ),
    Mutant(
        "a-drained-pool-makes-offers",
        LIFECYCLE,
        "    isDrained = true\n    owed = 0\n    updateGate()\n    withdrawOffers()\n",
        "    isDrained = true\n    owed = 0\n    updateGate()\n",
    ),
]
