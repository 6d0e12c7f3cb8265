"""Measuring: rounds, each with the figure and its alternatives."""

import time
from collections.abc import Callable

ROUNDS = 5
"""The number of runs of each measure."""

Measure = Callable[[], float]


def in_turn(*measures: Measure, rounds: int = ROUNDS) -> list[tuple[float, ...]]:
    """Return the runs of each measure.

    Each round calls every measure, and every second round calls them in reverse order. So other work on the machine
    affects all measures, and no measure gains from its position.
    """
    all_runs: list[list[float]] = []
    for number in range(rounds):
        order = range(len(measures)) if number % 2 == 0 else reversed(range(len(measures)))
        taken = {index: measures[index]() for index in order}
        all_runs.append([taken[index] for index in range(len(measures))])
    return list(zip(*all_runs, strict=True))


def seconds(act: Callable[[], object]) -> float:
    """Return the seconds that a call of `act` takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin
