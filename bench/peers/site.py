"""The site: requests a second for a small file, MB a second of a large file."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure
from bench.peers.contestants import Contest
from bench.sides import Side
from tests.testbed.pod import PodUnderTest

_SMALL, _LARGE = 4096, 32_000_000
"""Bytes of the two files."""
_REQUESTS = 7200
"""On all of load.CLIENTS connections: nginx closes one after 1,000, and h2load opens no other over HTTP/2."""
_STREAMS = "10"
"""Concurrent requests on each connection of HTTP/2."""


def measure(contest: Contest, _own: PodUnderTest) -> Iterator[Figure]:
    """Download the same files from all sides, over persistent and over new connections."""
    for size, name in ((_SMALL, "small.bin"), (_LARGE, "large.bin")):
        with tempfile.TemporaryDirectory() as folder:
            (contest.pod.web / "site" / name).write_bytes(load.file_of(Path(folder), size).read_bytes())
    kinds: list[tuple[str, str, Callable[[Side], float]]] = [
        ("4 kB, HTTP/1.1", "/s", partial(_request, ["--h1"])),
        ("4 kB, HTTP/2", "/s", partial(_request, ["-m", _STREAMS])),
        ("4 kB, a new connection each", "/s", lambda side: load.connect(side, "/small.bin")),
        ("32 MB, HTTP/1.1", "MB/s", partial(_download, ["--h1"])),
        ("32 MB, HTTP/2", "MB/s", partial(_download, [])),
    ]
    for name, unit, act in kinds:
        yield contest.compare(name, unit, act)


def _request(options: list[str], side: Side) -> float:
    return load.request(side, "/small.bin", _REQUESTS, *options)


def _download(options: list[str], side: Side) -> float:
    return load.request(side, "/large.bin", 16, *options, size=_LARGE)
