"""HTTPS: requests a second for a small file, MB a second of a large file."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure
from bench.running import in_turn
from bench.sides import Side
from tests.testbed.pod import PodUnderTest

SECTION = "https"
_SMALL = "/podserve/icon.svg"
_LARGE = 32_000_000
"""Bytes of the large file."""


def measure(_own: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Download files from both sides, over persistent and over new connections."""
    with tempfile.TemporaryDirectory() as folder:
        content = load.file_of(Path(folder), _LARGE).read_bytes()
    for side in (pod, native):
        (side.web / "site" / "large.bin").write_bytes(content)
    kinds: list[tuple[str, str, Callable[[Side], float]]] = [
        ("small file, HTTP/1.1", "/s", partial(_request, _SMALL, 4000, ["--h1"])),
        ("small file, HTTP/2", "/s", partial(_request, _SMALL, 4000, ["-m", "4"])),
        ("small file, a new connection each", "/s", partial(_connect, _SMALL)),
        ("32 MB file, HTTP/1.1", "MB/s", partial(_download, ["--h1"])),
        ("32 MB file, HTTP/2", "MB/s", partial(_download, [])),
    ]
    for name, unit, act in kinds:
        taken, beside = in_turn(pod.measured(act), native.measured(act))
        yield Figure(SECTION, name, unit, taken, native.name, beside)


def _request(path: str, requests: int, options: list[str], side: Side) -> float:
    return load.request(side, path, requests, *options)


def _download(options: list[str], side: Side) -> float:
    return load.request(side, "/large.bin", 16, *options, size=_LARGE)


def _connect(path: str, side: Side) -> float:
    return load.connect(side, path)
