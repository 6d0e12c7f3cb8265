"""The result of a fault: figures, and what the product failed to do."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scale:
    """The share of the load, and the random seed, with which a failed run can be repeated."""

    seed: int
    share: float = 1.0
    """The share of the full number of messages, kills and inputs (1.0: all of them)."""

    def count(self, full: int) -> int:
        """Return this share of a full number, at least 1."""
        return max(1, round(full * self.share))

    def random(self, section: str) -> random.Random:
        """Return a random generator for a section. It does not depend on the other sections that run."""
        return random.Random(f"{self.seed}/{section}")  # noqa: S311  # a seeded generator, not for secrets


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    section: str
    name: str
    figures: Mapping[str, str | float] = field(default_factory=dict)
    """Counts and times. The name ends in the unit, if there is one (`sent`, `lost`, `worst s`)."""
    fault: str = ""
    """The expectation that was not met; empty if all were met."""
