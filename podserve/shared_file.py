"""The files on the accounts volume that services read, with one owner and mode."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from podserve.folder import Folder

GROUP = 5002
"""The group `accounts` of docker/base/Containerfile. Its members may read the hashes."""


@contextmanager
def replacing_for_services(folder: Folder, name: str) -> Iterator[BinaryIO]:
    """Yield a file to write into, which replaces this one. Root writes it, and GROUP reads it."""
    with folder.replacing(name, 0o640) as file:
        os.fchown(file.fileno(), -1, GROUP)
        yield file
