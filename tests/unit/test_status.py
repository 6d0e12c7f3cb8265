"""The status: what is well, what is not, and both as JSON."""

import dataclasses
import json

import pytest

from podserve.endpoints import Answer
from podserve.status import FEW_DAYS, Container, Status, Use

WELL = Status(
    pod="podserve-simple",
    domain="example.org",
    containers=[Container("podserve-simple-mail", "running", healthy=True, restarts=0)],
    endpoints=[Answer("smtp", "", 0.01)],
    days_left=FEW_DAYS,
    queue=0,
    volumes=[Use("podserve-simple-mail", 2**30, 2**30)],
    health_checks_run=True,
)


def test_a_pod_that_is_well_has_no_problems() -> None:
    assert WELL.problems == []
    assert json.loads(WELL.json())["ok"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"containers": [Container("mail", "exited", healthy=False, restarts=1)]}, "container mail is exited"),
        ({"containers": [Container("mail", "running", healthy=False, restarts=0)]}, "container mail fails its health"),
        ({"endpoints": [Answer("smtp", "Connection refused", 0.01)]}, "smtp does not answer: Connection refused"),
        ({"days_left": FEW_DAYS - 1}, "the certificate has 13 days left: invoke up renews it"),
        ({"days_left": -1}, "the certificate has -1 days left"),
        ({"queue": -1}, "the mail queue cannot be read"),
        ({"volumes": [Use("mail", 2**30 + 1, 2**30)]}, "volume mail is full: 1073741825 of 1073741824 bytes"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_what_is_not_well_is_told(change: dict[str, object], problem: str) -> None:
    seen = dataclasses.replace(WELL, **change)  # type: ignore[arg-type]
    (told,) = seen.problems
    assert told.startswith(problem)
    assert not json.loads(seen.json())["ok"]


@pytest.mark.parametrize(
    "change",
    [
        {"queue": 1000},
        {"health_checks_run": False},
        {"containers": [Container("mail", "running", healthy=True, restarts=99)]},
    ],
)
def test_what_is_no_problem_is_told_all_the_same(change: dict[str, object]) -> None:
    seen = dataclasses.replace(WELL, **change)  # type: ignore[arg-type]
    assert seen.problems == []
    assert json.loads(seen.json()) != json.loads(WELL.json())


def test_json_has_every_field_and_what_is_not_well() -> None:
    seen = dataclasses.replace(WELL, queue=-1)
    said = json.loads(seen.json())
    assert said == {**dataclasses.asdict(seen), "ok": False, "problems": seen.problems}
