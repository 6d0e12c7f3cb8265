"""Images: the time to build all from nothing, and their sizes."""

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
"""The number of packages named for each image."""


@contextmanager
def _empty_storage() -> Iterator[dict[str, str]]:
    """Yield an environment in which Podman has no images."""
    driver = podman("info", "--format", "{{.Store.GraphDriverName}}").stdout.strip()
    # Not in /tmp, which may be a tmpfs.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="podserve-bench-") as folder:
        conf = Path(folder) / "storage.conf"
        conf.write_text(f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
        yield {**environment(), "CONTAINERS_STORAGE_CONF": str(conf)}


def _cold_build() -> tuple[float, float]:
    """Build all images from nothing; return the seconds of the whole build, and of the Debian root in it."""
    with _empty_storage() as env:
        # Podman's mounts on its storage end with their mount namespace; then the folder can be removed.
        private = ["unshare", "--mount", "--propagation", "private"]
        begin, root = time.perf_counter(), 0.0
        for line in lines([*private, str(ROOT / "docker/build.sh"), "--base", "mmdebstrap"], env=env):
            if not root and line.startswith("base:"):
                root = time.perf_counter() - begin
        return time.perf_counter() - begin, root


def build() -> Iterator[Figure]:
    """Build from nothing. Only this measure needs the internet: Debian's archive."""
    whole, root = zip(*(_cold_build() for _ in range(ROUNDS)), strict=True)
    yield Figure(
        SECTION, "build from nothing", "s", whole, "mmdebstrap and import, a part of it", root, Goal("median", 70)
    )


def _packages(image: str) -> dict[str, int]:
    """Return the installed size of each Debian package of an image, in bytes, as dpkg states it."""
    listed = podman("run", "--rm", "--network", "none", "--entrypoint", "dpkg-query", image,
                    "--show", "--showformat", "${Package} ${Installed-Size}\\n")  # fmt: skip
    return {name: int(size) * 1024 for name, size in map(str.split, listed.stdout.splitlines())}


def measure() -> Iterator[Figure]:
    """Yield the size that each image adds to its parent, with its largest packages."""
    packages = [_packages(f"localhost/podserve-{image}") for image in IMAGES]
    added = unique()
    yield Figure(SECTION, "unique bytes of all images", "MB", [sum(added) / MB], "the Debian root alone",
                 [added[0] / MB], Goal("median", 350))  # fmt: skip
    for image, size, parent, installed in zip(IMAGES, added, (0, 0, 1, 1, 1, 1), packages, strict=True):
        there = packages[parent] if image != IMAGES[0] else {}
        new = sorted(((size, name) for name, size in installed.items() if name not in there), reverse=True)
        largest = ", ".join(f"{name} {bytes_ / MB:.0f}" for bytes_, name in new[:LARGEST])
        yield Figure(SECTION, f"{image.partition(':')[0]} adds ({largest})", "MB", [size / MB])
