"""WebDAV: MB a second of an upload and of a download."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure
from bench.running import in_turn, seconds
from bench.sides import Side
from tests.testbed.pod import PodUnderTest

SECTION = "webdav"
_SIZE = 64_000_000


def measure(test_pod: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Upload a file to both sides, and download it."""
    with tempfile.TemporaryDirectory() as folder:
        file = load.file_of(Path(folder), _SIZE)
        for name, words in (("PUT", ["--upload-file", str(file)]), ("GET", ["--output", f"{folder}/got"])):

            def act(side: Side, words: list[str] = words) -> float:
                return _SIZE / 1e6 / seconds(partial(load.curl, side, test_pod.postmaster, "/webdav/bench.bin", *words))

            taken, beside = in_turn(pod.measured(act), native.measured(act))
            yield Figure(SECTION, f"{name} of 64 MB", "MB/s", taken, native.name, beside)
