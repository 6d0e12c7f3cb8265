"""What a fault did: figures, and whether the product held."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scale:
    """How much is sent, and from which seed, so that a run that failed can be run again."""

    seed: int
    share: float = 1.0
    """Of the full number of messages, kills and inputs (1.0: all of them)."""

    def count(self, full: int) -> int:
        """Return this share of a full number, at least 1."""
        return max(1, round(full * self.share))

    def random(self, section: str) -> random.Random:
        """Return a section's own source of chance, the same whatever other sections run."""
        return random.Random(f"{self.seed}/{section}")  # noqa: S311  # chance that can be had again


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    section: str
    name: str
    figures: Mapping[str, str | float] = field(default_factory=dict)
    """What was counted or timed, by a name that ends in its unit where it has one (`sent`, `lost`, `worst s`)."""
    fault: str = ""
    """What was expected and not seen; empty where the product held."""
