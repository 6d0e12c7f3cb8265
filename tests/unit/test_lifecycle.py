"""The life cycle of the pod: which pods `up` replaces, and which documents it plays."""

import json
from pathlib import Path
from typing import Any

import pytest

from podserve import forwarding, homes, host, images, lifecycle, network, running, state, volumes
from podserve.accounts import Accounts
from podserve.certificates import renewal
from podserve.commands import Result
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.running import Inspected
from tests.unit.helpers import pod_with

PLAYED = Inspected("Running")
"""A running pod without a digest, such as one that was played by hand."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of a fake Podman that runs PLAYED."""
    made: list[str] = []

    def podman(*argv: str, **_: Any) -> Result:
        made.append(" ".join(argv))
        return Result(argv, 0, json.dumps({"State": PLAYED.state}) if "inspect" in argv else "", "")

    monkeypatch.setattr(lifecycle, "podman", podman)
    monkeypatch.setattr(running, "podman", podman)
    monkeypatch.setattr(lifecycle, "wait_until_answering", lambda _: None)
    return made


def test_a_pod_that_was_played_by_hand_is_not_replaced(calls: list[str], tmp_path: Path) -> None:
    pod = pod_with(tmp_path)
    pod = pod.playing(pod.manifests.stamped("sha256:1"))
    with pytest.raises(Problem, match=r"was not played by this checkout.*invoke down"):
        lifecycle._replace(pod, [], PLAYED)
    pod.manifests.write(state.played_folder(pod))  # those of an earlier pod
    with pytest.raises(Problem, match="was not played by this checkout"):
        lifecycle._replace(pod, [], PLAYED)
    assert calls == []


def test_a_pod_that_an_up_played_is_replaced(calls: list[str], tmp_path: Path) -> None:
    before = pod_with(tmp_path)
    before.manifests.write(state.applied_folder(before))
    pod = pod_with(tmp_path, domain="example.org")
    lifecycle._replace(pod, pod.images, PLAYED)
    assert [call.split()[:2] for call in calls] == [["pod", "rm"], ["kube", "play"]]
    assert " --log-opt max-size=50mb " in calls[-1]


def test_a_pod_whose_up_was_killed_is_replaced(calls: list[str], tmp_path: Path) -> None:
    pod = pod_with(tmp_path)
    begun = pod.manifests.stamped("sha256:1")
    begun.write(state.played_folder(pod))
    lifecycle._replace(pod, pod.images, Inspected("Running", digest=begun.digest))
    assert [call.split()[:2] for call in calls] == [["pod", "rm"], ["kube", "play"]]


def bounds(pod: Pod) -> list[str]:
    """Return the memory limit of each container in a pod's documents; an empty text for no limit."""
    containers = pod.manifests.pod["spec"]["containers"]
    return [container.get("resources", {}).get("limits", {}).get("memory", "") for container in containers]


@pytest.mark.parametrize(
    ("controllers", "memory", "expected"),
    [
        (("memory",), 2**40, bounds(pod_with())),
        (("memory",), 2**31, ["1024Mi", "1024Mi", "512Mi"]),  # on a small host no limit is more than half of the memory
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
    for module, name in [(network, "ensure_network"), (volumes, "ensure_volumes"), (renewal, "provide"),
                         (homes, "ensure_homes")]:  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_: None)
    told = host.PodmanInfo((5, 4, 2), "netavark", "v2", Path("/"), controllers)
    monkeypatch.setattr(host, "podman_info", lambda: told)
    monkeypatch.setattr(host, "memory", lambda: memory)
    monkeypatch.setattr(images, "identifiers", lambda _: ["1", "2", "3"])
    monkeypatch.setattr(volumes, "folder", lambda _: Folder.at(tmp_path))
    monkeypatch.setattr(Accounts, "ensure", lambda *_: "")
    monkeypatch.setattr(lifecycle, "renew_if_due", lambda _: [])
    monkeypatch.setattr(running, "inspected", lambda _: Inspected())
    monkeypatch.setattr(forwarding, "problem", lambda _: "")
    pod = pod_with(tmp_path)
    lifecycle.up(pod)
    played = state.applied(pod)
    assert played
    assert bounds(played) == expected


def test_the_way_back_says_where_nothing_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pod_with(tmp_path)
    with pytest.raises(Problem, match="there is nothing to go back to"):
        lifecycle.back(pod)
    pod.manifests.write(state.previous_folder(pod))  # but its images are gone
    monkeypatch.setattr(images, "exist", lambda _: False)
    with pytest.raises(Problem, match="there is nothing to go back to"):
        lifecycle.back(pod)


def test_what_the_way_back_replaces_is_kept_once_the_pod_answers(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, pod = pod_with(tmp_path), pod_with(tmp_path, domain="example.org")
    before.manifests.write(state.applied_folder(before))

    def silent(_: Pod) -> None:
        raise Problem("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "wait_until_answering", silent)
        with pytest.raises(Problem, match="no answer"):
            lifecycle._replace(pod, pod.images, PLAYED, before)
    assert (state.previous(pod), state.applied(pod)) == (None, before)

    lifecycle._replace(pod, pod.images, PLAYED, before)
    assert (state.previous(pod), state.applied(pod)) == (before, pod)
    assert calls
