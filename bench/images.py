"""Building the images from nothing, and what is in them."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, Goal
from bench.running import ROUNDS
from podserve.commands import ROOT, environment, lines, podman
from tests.testbed.images import IMAGES, MB, unique

SECTION = "images"
LARGEST = 5
"""How many packages of an image are named."""


@contextmanager
def _empty_storage() -> Iterator[dict[str, str]]:
    """Yield the environment in which Podman has no image yet."""
    driver = podman("info", "--format", "{{.Store.GraphDriverName}}").stdout.strip()
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="podserve-bench-") as folder:
        conf = Path(folder) / "storage.conf"
        conf.write_text(f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
        yield {**environment(), "CONTAINERS_STORAGE_CONF": str(conf)}


def _cold_build() -> tuple[float, float]:
    """Build all images from nothing; return the seconds of that, and those of the Debian root in it."""
    with _empty_storage() as env:
        # Podman's mounts on its storage end with the namespace they were made in, so that the folder can be removed.
        private = ["unshare", "--mount", "--propagation", "private"]
        begin, root = time.perf_counter(), 0.0
        for line in lines([*private, str(ROOT / "docker/build.sh"), "--base", "mmdebstrap"], env=env):
            if not root and line.startswith("base:"):
                root = time.perf_counter() - begin
        return time.perf_counter() - begin, root


def build() -> Iterator[Figure]:
    """Build from nothing. The one measure that needs a way out: to Debian's archive."""
    whole, root = zip(*(_cold_build() for _ in range(ROUNDS)), strict=True)
    yield Figure(SECTION, "build from nothing", "s", whole, "mmdebstrap and import in it", root, Goal("median", 70))


def _packages(image: str) -> dict[str, int]:
    """Return the bytes that each Debian package of an image is installed in, as its maintainer says."""
    listed = podman("run", "--rm", "--network", "none", "--entrypoint", "dpkg-query", image,
                    "--show", "--showformat", "${Package} ${Installed-Size}\\n")  # fmt: skip
    return {name: int(size) * 1024 for name, size in map(str.split, listed.stdout.splitlines())}


def measure() -> Iterator[Figure]:
    """Weigh the images: each by what it adds to its parent, and its largest packages among that."""
    packages = [_packages(f"localhost/podserve-{image}") for image in IMAGES]
    added = unique()
    yield Figure(SECTION, "unique bytes of all images", "MB", [sum(added) / MB], "the Debian root alone",
                 [added[0] / MB], Goal("median", 350))  # fmt: skip
    for image, size, parent, installed in zip(IMAGES, added, (0, 0, 1, 1, 1, 1), packages, strict=True):
        there = packages[parent] if image != IMAGES[0] else {}
        new = sorted(((size, name) for name, size in installed.items() if name not in there), reverse=True)
        largest = ", ".join(f"{name} {bytes_ / MB:.0f}" for bytes_, name in new[:LARGEST])
        yield Figure(SECTION, f"{image.partition(':')[0]} adds ({largest})", "MB", [size / MB])
