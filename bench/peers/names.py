"""DNS queries a second, from the cache and through the forwarder."""

from collections.abc import Iterator

from bench import dns
from bench.figures import Figure
from bench.peers.contestants import Contest
from tests.testbed.pod import PodUnderTest


def measure(contest: Contest, _own: PodUnderTest) -> Iterator[Figure]:
    """Ask all sides. They forward to the same DNS servers of the test bed."""
    yield contest.compare("cached", "/s", dns.cached)
    yield contest.compare("through the forwarder", "/s", dns.uncached)
