"""Waiting: it ends as soon as the check succeeds, or when it can no longer succeed."""

import time
from collections.abc import Callable, Iterator

import pytest

from podserve import waiting
from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the check and ask `stopped` without pauses."""
    monkeypatch.setattr(waiting, "INTERVAL", 0.001)
    monkeypatch.setattr(waiting, "SECOND", 0.0)


def after(*errors: Exception) -> Callable[[], str]:
    """Return a check that raises these errors one after another, and then returns."""
    left: Iterator[Exception] = iter(errors)

    def check() -> str:
        for error in left:
            raise error
        return "answer"

    return check


def never() -> None:
    """Fail each time, as a check whose condition never becomes true."""
    raise NotYet("seen: nothing")


def test_what_is_there_is_returned_at_once_even_without_time() -> None:
    assert wait_until(after(), 0, "it") == "answer"


@pytest.mark.parametrize(
    "error", [NotYet("seen: nothing"), ConnectionRefusedError(), TimeoutError(), OSError(5, "I/O")]
)
def test_it_returns_as_soon_as_the_check_does(error: Exception) -> None:
    begin = time.monotonic()
    assert wait_until(after(error, error), 30, "it") == "answer"
    assert time.monotonic() - begin < 1


def test_it_gives_up_in_time_and_says_for_what_how_long_and_what_it_saw() -> None:
    with pytest.raises(Problem, match=r"^waited 0\.[1-9] s for the moon; last: seen: nothing$") as given_up:
        wait_until(never, 0.1, "the moon")
    assert isinstance(given_up.value.__cause__, NotYet)


def test_an_error_without_words_is_named() -> None:
    with pytest.raises(Problem, match=r"last: ConnectionResetError$"):
        wait_until(after(*[ConnectionResetError()] * 999), 0.01, "it")


@pytest.mark.parametrize("timeout", [30, 0])
def test_it_stops_when_waiting_is_of_no_more_use_and_says_why(timeout: float) -> None:
    begin = time.monotonic()
    with pytest.raises(Problem, match=r"for it; last: seen: nothing\ncontainer mail has exited$"):
        wait_until(never, timeout, "it", stopped=lambda: "container mail has exited")
    assert time.monotonic() - begin < 1


def test_it_goes_on_while_nothing_has_stopped() -> None:
    asked: list[None] = []
    assert wait_until(after(NotYet(), NotYet()), 30, "it", stopped=lambda: asked.append(None)) == "answer"
    assert asked


def test_what_has_stopped_is_asked_no_more_than_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SECOND", 1.0)
    asked: list[None] = []
    assert wait_until(after(*[NotYet()] * 20), 30, "it", stopped=lambda: asked.append(None)) == "answer"
    assert not asked


@pytest.mark.parametrize("error", [ValueError("a mistake"), KeyError("a mistake"), AssertionError("a mistake")])
def test_a_mistake_in_the_check_is_not_waited_out(error: Exception) -> None:
    with pytest.raises(type(error), match="a mistake"):
        wait_until(after(error), 30, "it")
