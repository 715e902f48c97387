"""What is made of the samples: ratios within one round, their spread, tables, plots, goals.

A sample is a dict: which pool, which round, and what was measured. Only ratios of one round can be compared between
machines, and between runs on one machine that has other work."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Callable

Samples = list[dict[str, Any]]


def chosen(samples: Samples, **where: Any) -> Samples:
    """Those that have all these values."""
    return [one for one in samples if all(one.get(name) == value for name, value in where.items())]


def values(samples: Samples, metric: str, **where: Any) -> list[float]:
    return [one[metric] for one in chosen(samples, **where)]


def names(samples: Samples, key: str = "pool") -> list[Any]:
    """In the order of their first appearance, ours first."""
    found = list(dict.fromkeys(one[key] for one in samples))
    return sorted(found, key=lambda name: not is_ours(name))


def is_ours(name: Any) -> bool:
    return str(name).startswith("libdbpool") or str(name).startswith("dbpool")


def by_round(samples: Samples, metric: str, **where: Any) -> dict[int, float]:
    return {one["round"]: one[metric] for one in chosen(samples, **where)}


def ratios(mine: dict[int, float], theirs: dict[int, float]) -> list[float]:
    return [value / theirs[number] for number, value in mine.items() if theirs.get(number)]


def best(samples: Samples, metric: str, rivals: Any, choose: Callable[..., float], **where: Any) -> dict[int, float]:
    """Of several, the best in each round."""
    rounds: dict[int, list[float]] = {}
    for rival in rivals:
        for number, value in by_round(samples, metric, pool=rival, **where).items():
            rounds.setdefault(number, []).append(value)
    return {number: choose(found) for number, found in rounds.items()}


def short(value: float) -> str:
    """Three digits are more than any of these figures has."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def spread(found: list[float]) -> str:
    """`min / median / max`."""
    return " / ".join(short(choose(found)) for choose in (min, median, max)) if found else "-"


def middle(found: list[float]) -> str:
    return short(median(found)) if found else "-"


@dataclass
class Table:
    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass
class Plot:
    """`draw(axes)`, of matplotlib."""

    title: str
    draw: Callable[[Any], None]
    name: str
    size: tuple[float, float] = (7.0, 3.4)


@dataclass
class Goal:
    """Met if the median of `found` is. `unit` is for figures that are not ratios."""

    text: str
    found: list[float]
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def bound(self) -> str:
        return f"≤ {self.most:g}{self.unit}" if self.most is not None else f"≥ {self.least:g}{self.unit}"

    @property
    def is_met(self) -> bool:
        if not self.found:
            return False
        value = median(self.found)
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def verdict(self) -> str:
        if not self.found:
            return "not measured"
        if self.is_met:
            return "met"
        value = median(self.found)
        bound = self.most if self.most is not None else self.least
        return f"missed: {short(value / bound)} × the bound" if bound else f"missed by {short(value)}"


@dataclass
class Shown:
    """What a part says: `items` in this order."""

    items: list[Table | Plot] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)


def bars(axes: Any, labels: list[Any], series: list[list[float]], unit: str, logarithmic: bool = False) -> None:
    """Horizontal bars at the median, with a line from the smallest to the largest; ours in another colour."""
    for place, (label, found) in enumerate(zip(labels, series)):
        value = median(found)
        axes.barh(place, value, color="#2a6fbb" if is_ours(label) else "#b5b5b5")
        axes.plot([min(found), max(found)], [place, place], color="black", linewidth=1)
        axes.annotate(f" {short(value)}", (max(found), place), va="center", fontsize=8)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    if logarithmic:
        axes.set_xscale("log")
