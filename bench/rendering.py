"""The measured parts as tables and plots."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

import parts  # noqa: E402
from figures import Goal, Plot, Table, middle, spread  # noqa: E402
from matplotlib import pyplot  # noqa: E402

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "libdbpool", "font.size": 9})


class Part:
    """A measured part, and what it says."""

    def __init__(self, measured: dict[str, Any]) -> None:
        self.measured = measured
        self.module = parts.load(measured["part"])
        self.shown = self.module.show(measured["samples"])

    @property
    def how(self) -> str:
        return " ".join(self.module.HOW.split())

    @property
    def command(self) -> str:
        return f"make bench {'QUICK=1 ' if self.measured['quick'] else ''}PARTS={self.measured['part']}"

    @property
    def origin(self) -> str:
        when, seconds, commit = (self.measured[name] for name in ("when", "seconds", "machine"))
        return f"{when} UTC, {seconds:.0f} s, commit {commit['commit']}"


def goal_table(goals: list[Goal]) -> Table:
    head = ["goal", "bound", "measured (median)", "min / median / max", "verdict"]
    rows = [[goal.text, goal.bound, middle(goal.found), spread(goal.found), goal.verdict()] for goal in goals]
    return Table("Goals", head, rows)


def svg(plot: Plot) -> str:
    figure, axes = pyplot.subplots(figsize=plot.size, layout="constrained")
    plot.draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(plot.title, loc="left", fontsize=10)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    return re.sub(r"[ \t]+$", "", text[text.index("<svg") :], flags=re.MULTILINE)


def measured_parts(build: Path) -> list[Part]:
    """Those that `run` has left in build/bench."""
    paths = [build / "bench" / f"{name}.json" for name in parts.ORDER]
    found = [Part(json.loads(path.read_text())) for path in paths if path.exists()]
    if not found:
        raise SystemExit("bench: nothing has been measured: make bench")
    return found


def goals_of(measured: list[Part]) -> Table:
    return goal_table([goal for part in measured for goal in part.shown.goals])


def machine_of(measured: list[Part]) -> Table:
    """Of the last part."""
    facts = [[name, value] for name, value in measured[-1].measured["machine"].items()]
    return Table("Machine and versions", ["what", "which"], facts)


def is_row_of_ours(row: list[str]) -> bool:
    return any(str(cell).startswith(("libdbpool", "dbpool")) for cell in row[:2])


def markdown_table(table: Table) -> str:
    def line(cells: list[str], bold: bool = False) -> str:
        first, *others = (str(cell).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join([f'**{first}**' if bold else first, *others])} |"

    lines = [f"**{table.title}**" + (f" ({table.note})" if table.note else ""), "", line(table.head)]
    lines += ["|---" * len(table.head) + "|", *(line(row, is_row_of_ours(row)) for row in table.rows)]
    return "\n".join(lines)
