"""The status: of a healthy pod, of one with a fault, and both as JSON."""

import dataclasses
import datetime as dt
import json

import pytest

from podserve.certificates.keypair import Certificate
from podserve.endpoints import Answer
from podserve.status import LITTLE, Container, Status, Use

NOW = dt.datetime.now(dt.UTC)


def certificates(*days_left: int, origin: str = "authority") -> tuple[Certificate, ...]:
    """Return a certificate for 90 days, of which `days_left` are left, or one of each algorithm."""
    ends = [NOW + dt.timedelta(days=days, hours=1) for days in days_left]
    keys = zip(ends, ("ab", "cd"), ("ec256", "rsa2048"), strict=False)
    return tuple(
        Certificate(origin, ("example.org",), "an authority", end - dt.timedelta(days=90), end, "1", digest, key)
        for end, digest, key in keys
    )


WELL = Status(
    pod="podserve-simple",
    domain="example.org",
    containers=[Container("podserve-simple-mail", "running", healthy=True, restarts=0)],
    endpoints=[Answer("smtp", "", 0.01, "ab"), Answer("http", "", 0.01)],
    certificates=certificates(15, 16),
    queue=0,
    volumes=[Use("podserve-simple-mail", 2**30, 2**30, LITTLE)],
    health_checks_run=True,
)


def test_a_pod_that_is_well_has_no_problems() -> None:
    assert WELL.problems == []
    assert json.loads(WELL.json())["ok"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"containers": [Container("mail", "exited", healthy=False, restarts=1)]},
            "container mail is exited: invoke up",
        ),
        (
            {"containers": [Container("mail", "paused", healthy=False, restarts=1)]},
            "container mail is paused: invoke up",
        ),
        ({"containers": [Container("mail", "running", healthy=False, restarts=0)]}, "container mail fails its health"),
        ({"endpoints": [Answer("smtp", "Connection refused", 0.01)]}, "smtp does not answer: Connection refused"),
        ({"endpoints": [Answer("smtp", "", 0.01, "ef")]}, "smtp serves a certificate other than the volume's"),
        ({"certificates": certificates(14)}, "the certificate has 14 days left: invoke certs.renew"),
        ({"certificates": certificates(80, 14)}, "the certificate has 14 days left: invoke certs.renew"),
        (
            {"certificates": certificates(14, origin="import")},
            "the certificate has 14 days left: invoke certs.import CERT KEY",
        ),
        ({"certificates": certificates(-1)}, "the certificate has -1 days left"),
        ({"certificates": ()}, "there is no certificate: invoke up makes one"),
        ({"forwarders": ["tls://192.0.2.1#a.example: expired"]}, "forwarder tls://192.0.2.1#a.example: expired"),
        ({"queue": -1}, "the mail queue cannot be read"),
        ({"queue": 1, "queue_stuck": "a message has waited"}, "a message has waited"),
        ({"volumes": [Use("mail", 2**30 + 1, 2**30, LITTLE)]}, "volume mail is full: 1073741825 of 1073741824 bytes"),
        (
            {"volumes": [Use("mail", 1, 2**30, LITTLE - 1), Use("web", 1, 2**30, LITTLE - 2)]},
            "1023 MiB are free for mail, web: expected 1024; make room",
        ),
        (
            {"renewal_failed": "on Monday: refused"},
            "the certificate was not renewed (on Monday: refused). Then: invoke",
        ),
        (
            {"backup_failed": "on Monday: full"},
            "the last backup failed (on Monday: full): invoke backup",
        ),
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
        {"endpoints": [Answer("smtp", "", 0.01, "cd")]},
        {"certificates": certificates(15)},
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
    expected = {**dataclasses.asdict(seen), "days_left": 15, "ok": False, "problems": seen.problems}
    shown = [{name: str(value) for name, value in dataclasses.asdict(one).items()} for one in seen.certificates]
    expected |= {"certificates": shown, "certificate": shown[0]}
    for one in (*said["certificates"], said["certificate"]):
        one["names"] = str(tuple(one["names"]))
    assert said == expected


def test_accounts_of_another_domain_are_named_but_are_no_problem() -> None:
    seen = dataclasses.replace(WELL, other_accounts=["alice@other.org"])
    assert seen.problems == []
    assert json.loads(seen.json())["other_accounts"] == ["alice@other.org"]
