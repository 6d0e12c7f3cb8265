"""A figure: the runs it was measured in, those of its alternative, and what it is to reach."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Goal:
    """What a figure is to reach: its median, its ratio to the alternative, or what it is beyond that."""

    of: Literal["median", "ratio", "beyond"]
    limit: float
    least: bool = False
    """Whether `limit` is the least that will do; otherwise it is the most."""

    def words(self, unit: str) -> str:
        """Return it in words, such as `≥ 0.9 ×`."""
        sign = "≥" if self.least else "≤"
        return {
            "median": f"{sign} {self.limit:g} {unit}",
            "ratio": f"{sign} {self.limit:g} ×",
            "beyond": f"{sign} {self.limit:g} {unit} more",
        }[self.of]


def at_least(share: float) -> Goal:
    """Return the goal of a throughput: at least this many times the alternative's."""
    return Goal("ratio", share, least=True)


@dataclass(frozen=True)
class Figure:
    """What was measured: `runs` in `unit`s and, where there is an alternative, its runs, taken in turn with them."""

    section: str
    name: str
    unit: str
    runs: Sequence[float]
    alternative: str = ""
    beside: Sequence[float] = ()
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """The middle one of the runs."""
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float | None:
        """The median of each run's ratio to the alternative's run of the same round, or None without one, or of 0."""
        if not self.beside or 0 in self.beside:
            return None
        return statistics.median(own / other for own, other in zip(self.runs, self.beside, strict=True))

    @property
    def beyond(self) -> float | None:
        """The median of what each run is more than the alternative's run of the same round, or None without one."""
        if not self.beside:
            return None
        return statistics.median(own - other for own, other in zip(self.runs, self.beside, strict=True))

    @property
    def judged(self) -> float | None:
        """What the goal is of, or None without a goal, or where there is nothing beside it."""
        if self.goal is None:
            return None
        return {"median": self.median, "ratio": self.ratio, "beyond": self.beyond}[self.goal.of]

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached, or None where there is none."""
        if self.goal is None:
            return None
        value = self.judged
        if value is None:
            raise ValueError(f"{self.name}: the goal is a {self.goal.of}, and there is nothing beside it")
        return value >= self.goal.limit if self.goal.least else value <= self.goal.limit

    def document(self) -> dict[str, Any]:
        """Return it for JSON: what was measured, and what follows from that."""
        return {
            "section": self.section,
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "runs": list(self.runs),
            "alternative": self.alternative,
            "beside": list(self.beside),
            "ratio": self.ratio,
            "goal": self.goal.words(self.unit) if self.goal else "",
            "reached": self.reached,
        }
