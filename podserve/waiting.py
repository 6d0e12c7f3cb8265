"""The one place that waits."""

import time
from collections.abc import Callable
from typing import TypeVar

from podserve.errors import Problem

T = TypeVar("T")

SECOND = 1.0
"""Seconds between two calls of `stopped`, which may cost more than the check."""
INTERVAL = 0.05
"""Seconds between two tries: too short for a user to notice, and little load for a daemon."""


class NotYet(Exception):  # noqa: N818  # it is an answer, not a failure
    """A check raises this until its condition holds. The text says what the check found instead."""


def wait_until(
    check: Callable[[], T], timeout: float, what: str, *, stopped: Callable[[], str | None] = lambda: None
) -> T:
    """Return what `check` returns, as soon as it no longer raises NotYet or OSError.

    `what` completes "waited for …". `stopped` is called once a second, and returns a reason to stop waiting (such as a
    container that has exited) or None. Raises Problem with the seconds waited and the last error, after `timeout`
    seconds or when stopped.
    """
    begin = asked = time.monotonic()
    while True:
        try:
            return check()
        except (NotYet, OSError) as error:
            last = error
        now = time.monotonic()
        waited, reason = now - begin, None
        if now - asked > SECOND or waited > timeout:
            asked, reason = now, stopped()
        if reason or waited > timeout:
            seen, because = str(last) or type(last).__name__, f"\n{reason}" if reason else ""
            raise Problem(f"waited {waited:.1f} s for {what}; last: {seen}{because}") from last
        time.sleep(INTERVAL)
