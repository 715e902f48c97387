"""Contestants that take turns, and the ratios of what they took: only those can be compared between machines."""

import os
from statistics import median

QUICK = bool(os.environ.get("QUICK"))


def take_turns(contestants, repeats):
    """{name: figures}, one figure of each in every round. `contestants` is {name: function that measures once}."""
    figures = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(repeats):
        for name in order:
            figures[name].append(contestants[name]())
        order.append(order.pop(0))  # nobody always comes after the same one
    return figures


def ratio(figures, name, other):
    """`min / median / max` of the ratios within each round."""
    ratios = [one / reference for one, reference in zip(figures[name], figures[other])]
    return " / ".join(f"{value:.2f}" for value in (min(ratios), median(ratios), max(ratios)))


def print_table(title, head, rows):
    print(f"\n**{title}**\n")
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)
