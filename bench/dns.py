"""DNS queries a second: from named's cache, and through its forwarder."""

from collections.abc import Iterator

from bench import load
from bench.figures import Figure
from bench.running import in_turn
from bench.sides import Side
from tests.testbed.pod import PodUnderTest

SECTION = "dns"
NEW = 3000
"""Names in a query run without the cache. Each round makes new names."""


def cached(side: Side) -> float:
    """Return the queries a second from the cache."""
    return load.resolve(side, load.cached_names())


def uncached(side: Side) -> float:
    """Return the queries a second for names that no query has used yet."""
    return load.resolve(side, load.new_names(NEW), once=True)


def measure(_own: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Yield the figures of the pod beside its native twin."""
    for name, act in (("cached", cached), ("through the forwarder", uncached)):
        taken, beside = in_turn(pod.measured(act), native.measured(act))
        yield Figure(SECTION, f"queries a second, {name}", "/s", taken, native.name, beside)
