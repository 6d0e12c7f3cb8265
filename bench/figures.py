"""A figure: its runs, the runs of its alternative, and its goal."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Goal:
    """A limit for a figure's median, for its ratio to the alternative, or for its difference from the alternative."""

    of: Literal["median", "ratio", "beyond"]
    limit: float
    least: bool = False
    """Whether `limit` is a minimum; otherwise it is a maximum."""

    def words(self, unit: str) -> str:
        """Return the goal as text, such as `≥ 0.9 ×`."""
        sign = "≥" if self.least else "≤"
        return {
            "median": f"{sign} {self.limit:g} {unit}",
            "ratio": f"{sign} {self.limit:g} ×",
            "beyond": f"{sign} {self.limit:g} {unit} more",
        }[self.of]


def at_least(share: float) -> Goal:
    """Return the goal of a throughput: at least `share` times the throughput of the alternative."""
    return Goal("ratio", share, least=True)


@dataclass(frozen=True)
class Figure:
    """A measurement: `runs` in `unit`s and, if there is an alternative, its runs `beside` them, one for each round.

    `instead` compares the same runs with a second alternative. It is enough to reach the goal of one of the two.
    `others` are the runs of further alternatives, by name.
    """

    section: str
    name: str
    unit: str
    runs: Sequence[float]
    alternative: str = ""
    beside: Sequence[float] = ()
    goal: Goal | None = None
    instead: "Figure | None" = None
    others: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float | None:
        """Median ratio of a run to the alternative's run of its round; None without an alternative or if one is 0."""
        if not self.beside or 0 in self.beside:
            return None
        return statistics.median(own / other for own, other in zip(self.runs, self.beside, strict=True))

    @property
    def beyond(self) -> float | None:
        """The median difference between a run and the alternative's run of its round; None without an alternative."""
        if not self.beside:
            return None
        return statistics.median(own - other for own, other in zip(self.runs, self.beside, strict=True))

    @property
    def judged(self) -> float | None:
        """The value to which the goal applies; None without a goal, or without the alternative that the goal needs."""
        if self.goal is None:
            return None
        return {"median": self.median, "ratio": self.ratio, "beyond": self.beyond}[self.goal.of]

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal. Raises ValueError if the goal needs an alternative."""
        if self.goal is None:
            return None
        value = self.judged
        if value is None:
            raise ValueError(f"{self.name}: the goal is a {self.goal.of}, which needs an alternative")
        reached = value >= self.goal.limit if self.goal.least else value <= self.goal.limit
        return reached or bool(self.instead and self.instead.reached)

    def document(self) -> dict[str, Any]:
        """Return the figure for JSON: the measured runs and the derived values."""
        derived: dict[str, Any] = {
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
        if self.others:
            derived["others"] = {name: list(runs) for name, runs in self.others.items()}
        if self.instead:
            derived["instead"] = self.instead.document()
        return derived
