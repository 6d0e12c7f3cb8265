"""The pod: what `up` does to one that it did not play, and whom it makes an account."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from podserve import endpoints, homes, host, images, network, pod, volumes
from podserve.accounts import Accounts
from podserve.certificates import renewal
from podserve.commands import Result
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.manifests import Manifests
from tests.unit.helpers import chosen

PLAYED = {"State": "Running", "Labels": {"app": "podserve"}}
"""What Podman tells of a pod without a digest, as one that was played by hand is."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What a Podman was called with that has such a pod."""
    made: list[str] = []

    def podman(*argv: str, **_: Any) -> Result:
        made.append(" ".join(argv))
        return Result(argv, 0, json.dumps(PLAYED) if "inspect" in argv else "", "")

    monkeypatch.setattr(pod, "podman", podman)
    monkeypatch.setattr(pod, "STATE", tmp_path)
    monkeypatch.setattr(pod, "wait_until_answering", lambda _: None)
    return made


def test_a_pod_that_was_played_by_hand_is_not_replaced(calls: list[str], tmp_path: Path) -> None:
    own = Manifests(chosen())
    own.stamp("sha256:1")
    with pytest.raises(Problem, match=r"was not played by this checkout.*invoke down"):
        pod._replace(own, [], PLAYED)
    own.write(tmp_path / "podserve-simple/played")  # of a pod that was here before that one
    with pytest.raises(Problem, match="was not played by this checkout"):
        pod._replace(own, [], PLAYED)
    assert calls == []


def test_a_pod_that_an_up_played_is_replaced(calls: list[str], tmp_path: Path) -> None:
    Manifests(chosen()).write(tmp_path / "podserve-simple/applied")
    own = Manifests(chosen(domain="example.org"))
    pod._replace(own, own.images, PLAYED)
    assert [call.split()[:2] for call in calls] == [["pod", "rm"], ["kube", "play"]]
    assert " --log-opt max-size=50mb " in calls[-1]


def bounds(manifests: Manifests) -> list[str]:
    """Return the bounds of memory that documents give their containers, an empty text for none."""
    containers = manifests.pod["spec"]["containers"]
    return [container.get("resources", {}).get("limits", {}).get("memory", "") for container in containers]


@pytest.mark.parametrize(
    ("controllers", "memory", "expected"),
    [
        (("memory",), 2**40, bounds(Manifests(chosen()))),
        (("memory",), 2**30, ["512Mi", "512Mi", "256Mi"]),  # on a small host no container may take more than half
        (("pids",), 2**40, [""] * 3),
    ],
)
@pytest.mark.usefixtures("calls")
def test_a_pod_has_bounds_of_memory_where_the_host_can_give_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    controllers: tuple[str, ...],
    memory: int,
    expected: list[str],
) -> None:
    for module, name in [(network, "ensure"), (volumes, "ensure"), (renewal, "provide"), (homes, "ensure")]:
        monkeypatch.setattr(module, name, lambda *_: None)
    told = host.Podman((5, 4, 2), "netavark", "crun", "v2", Path("/"), controllers)
    monkeypatch.setattr(host, "podman", lambda: told)
    monkeypatch.setattr(host, "memory", lambda: memory)
    monkeypatch.setattr(images, "identifiers", lambda _: ["1", "2", "3"])
    monkeypatch.setattr(volumes, "folder", lambda _: Folder.at(tmp_path))
    monkeypatch.setattr(pod, "ensure_postmaster", lambda *_: ("", ""))
    monkeypatch.setattr(pod, "_renewed", lambda _: [])
    monkeypatch.setattr(pod, "_inspect", lambda _: {})
    monkeypatch.setattr(endpoints, "line_problem", lambda _: "")
    pod.up(chosen())
    played = Manifests.read(tmp_path / "podserve-simple/applied")
    assert played
    assert bounds(played) == expected


def test_the_lock_of_another_users_pod_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pod, "STATE", tmp_path)
    with pod.alone(chosen()):
        pass
    monkeypatch.setattr(Path, "open", refuse)
    with (
        pytest.raises(Problem, match=rf"podserve-simple\.lock is {tmp_path.owner()}'s.* run this task as"),
        pod.alone(chosen()),
    ):
        pass


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """The accounts of a pod: alice's alone."""
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    made = Accounts(Folder.at(tmp_path))
    made.add("alice@example.org", "correct horse")
    return made


def test_an_account_for_the_postmaster_is_made_where_it_is_missing(there: Accounts) -> None:
    settings = chosen(domain="example.org", postmaster="carol")
    address, password = pod.ensure_postmaster(settings, there)
    assert address == "carol@example.org"
    assert bcrypt.checkpw(password.encode(), there.hashes()[address].encode())
    assert pod.ensure_postmaster(settings, there) == ("", "")


def test_no_account_is_made_for_a_postmaster_who_has_one(there: Accounts) -> None:
    assert pod.ensure_postmaster(chosen(domain="example.org", postmaster="alice"), there) == ("", "")
    assert set(there.hashes()) == {"alice@example.org"}
