"""How a figure is measured: five rounds, the figure and its alternative in turn."""

import time
from collections.abc import Callable

ROUNDS = 5
"""How often everything is measured."""

Measure = Callable[[], float]


def in_turn(*measures: Measure) -> list[tuple[float, ...]]:
    """Return the runs of each measure.

    Each round measures all of them, every other round backwards, so that what changes on the machine meanwhile
    changes all of them, and none has the advantage of its place.
    """
    rounds: list[list[float]] = []
    for number in range(ROUNDS):
        order = range(len(measures)) if number % 2 == 0 else reversed(range(len(measures)))
        taken = {index: measures[index]() for index in order}
        rounds.append([taken[index] for index in range(len(measures))])
    return list(zip(*rounds, strict=True))


def seconds(act: Callable[[], object]) -> float:
    """Return how long something takes (s)."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin
