"""What the program prints."""

from __future__ import annotations

from statistics import median
from typing import Any

from program import Outcome
from table import Fault

HEAD = f"{'id':9} {'pool':20} {'errors':>6} {'worst ms':>9} {'recov. ms':>9}  verdict"
STALL_WORTH_TELLING_MS = 100


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


class Lines:
    """One for each outcome, as it comes in."""

    def __init__(self, peers: tuple[str, ...]) -> None:
        self.peers = peers
        self.before = ""
        print(HEAD)

    def __call__(self, outcome: Outcome) -> None:
        fault = outcome.fault
        if fault.id != self.before:
            self.before = fault.id
            print(f"{fault.id}: {fault.what}")
        counts = "-" if outcome.errors is None else str(outcome.errors)
        why = f": {' '.join(outcome.why.split())}" if outcome.why else ""
        print(
            f"{fault.id:9} {outcome.pool:20} {counts:>6} {number(outcome.worst_ms):>9} "
            f"{number(outcome.recovery_ms):>9}  {outcome.verdict}{why}{self.remarks(outcome)}",
            flush=True,
        )
        if outcome.verdict == "FAIL" and outcome.pool not in self.peers:
            self.show_printed(outcome)

    def remarks(self, outcome: Outcome) -> str:
        found = list(outcome.notes)
        if outcome.verdict == "FAIL" and (outcome.load > 0.5 or outcome.stall_ms > STALL_WORTH_TELLING_MS):
            found.append(f"the machine was {outcome.load:.0%} busy and stalled up to {outcome.stall_ms:.0f} ms")
        return f" ({'; '.join(found)})" if found else ""

    def show_printed(self, outcome: Outcome) -> None:
        for line in outcome.printed.splitlines()[-60:]:
            print(f"    | {line}")


def list_cases(faults: list[Fault]) -> None:
    for fault in faults:
        criteria = ", ".join(f"{name} {value:g}" for name, value in fault.criteria.items())
        print(f"{fault.id:9} {'quick' if fault.quick else '':5}  {fault.what}  [{criteria}]")


def markdown(rounds: list[list[Outcome]]) -> str:
    lines = [
        "| id | fault | pool | errors | worst call, ms | recovery, ms | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcomes in rounds:
        for outcome in outcomes:
            fault = outcome.fault
            cells: list[Any] = [
                fault.id,
                fault.what,
                outcome.pool,
                "-" if outcome.errors is None else outcome.errors,
                number(outcome.worst_ms),
                number(outcome.recovery_ms),
                outcome.verdict + (f": {' '.join(outcome.why.split())}" if outcome.why else ""),
            ]
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def the_machine(rounds: list[list[Outcome]]) -> str:
    """How much else it had to do: what cases found before they began, and how late a waiting process woke meanwhile."""
    all_of_them = [outcome for outcomes in rounds for outcome in outcomes]
    loads = sorted(outcome.load for outcome in all_of_them) or [0.0]
    stall = max((outcome.stall_ms for outcome in all_of_them), default=0)
    return (
        f"the machine was {median(loads):.0%} busy before a case (median; {loads[0]:.0%} to {loads[-1]:.0%}) "
        f"and stalled up to {stall:.0f} ms"
    )


def close(rounds: list[list[Outcome]], peers: tuple[str, ...], differing: int, no_skips: bool) -> int:
    """The last lines, and the program's code."""
    counted = [outcome for outcomes in rounds for outcome in outcomes if outcome.pool not in peers]
    passed = sum(outcome.verdict == "pass" for outcome in counted)
    failed = sum(outcome.verdict == "FAIL" for outcome in counted)
    skipped = sum(outcome.verdict == "skipped" for outcome in counted)
    seconds = sum(outcome.seconds for outcomes in rounds for outcome in outcomes)
    print(f"{sum(map(len, rounds))} cases in {seconds:.0f} s; {the_machine(rounds)}")
    if skipped:
        print(f"{skipped} skipped, with the reasons above{'; none was to be' if no_skips else ''}")
    failed += differing + (skipped if no_skips else 0)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if failed == 0 and passed else 1
