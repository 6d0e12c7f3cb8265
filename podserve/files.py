"""Files that are there whole, or as they were before: also after a power cut, or on a full disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(file: Path) -> Iterator[TextIO]:
    """Yield a file to write into, which takes the place of this one when all of it is on the disk."""
    new = file.with_name(f"{file.name}.new")
    with new.open("w") as opened:
        yield opened
        opened.flush()
        os.fsync(opened.fileno())
    new.rename(file)
