"""Contestants that take turns, and the samples of what they took: a line of JSON for each."""

import json


def take_turns(contestants, rounds, **what):
    """`contestants` is {name: function that measures once and returns a dict}. A line for each in every round, with the
    words of `what`."""
    order = list(contestants)
    for number in range(rounds):
        for name in order:
            sample = {**what, "round": number, "pool": name, **contestants[name]()}
            print(json.dumps(sample), flush=True)
        order.append(order.pop(0))  # nobody always comes after the same one
