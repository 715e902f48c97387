"""Faults to be seeded into what PoolCore tells the idle stack in front of it."""

from mutants import OPENING, UPKEEP, Mutant

WORD = "IdleStackWord.swift"
ORDINARY = "isOrdinary = !isGated && total <= settings.maxSize && settings.reset"

MUTANTS = [
    Mutant(
        "a-loan-that-outlived-its-lifetime-is-not-told",
        UPKEEP,
        "        if slot.pointee.state == .leased { return .outlived(slot) }\n",
        "",
    ),
    Mutant(
        "the-stack-is-open-beside-those-who-wait",
        "PoolCore.swift",
        ORDINARY,
        "isOrdinary = !isPaused && !isDrained && !isClosed && total <= settings.maxSize && settings.reset",
    ),
    Mutant(
        "the-stack-is-open-in-a-drained-pool",
        "PoolCore.swift",
        ORDINARY,
        "isOrdinary = !isClosed && queue.isEmpty && total <= settings.maxSize && settings.reset",
    ),
    Mutant(
        "the-stack-is-open-above-the-maximum",
        "PoolCore.swift",
        ORDINARY,
        "isOrdinary = !isGated && settings.reset",
    ),
    Mutant(
        "the-stack-stays-shut-when-the-surplus-is-gone",
        OPENING,
        "    if !isOrdinary { updateGate() }\n",
        "",
    ),
    Mutant(
        "the-wrong-seat-is-displaced",
        WORD,
        "    return UInt8(truncatingIfNeeded: bits >> UInt64((63 - bits.leadingZeroBitCount) & ~7))\n",
        "    return top\n",
    ),
]
