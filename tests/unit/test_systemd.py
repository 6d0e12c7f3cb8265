"""The pod as a systemd service: its units, and hosts on which it cannot be one."""

from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest

from podserve import forwarding, homes, host, images, lifecycle, network, running, state, status, systemd, volumes
from podserve.accounts import Accounts
from podserve.certificates import renewal
from podserve.commands import ROOT, Result
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.running import Inspected
from tests.unit.helpers import FakePodman, pod_with

GOOD = host.PodmanInfo((5, 4, 2), "netavark", "v2", Path("/"), ("memory", "pids"))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The calls of systemctl. Units are written into a folder of the test."""
    calls: list[str] = []

    def run(argv: list[str], **_: object) -> Result:
        calls.append(" ".join(argv))
        return Result(tuple(argv), 0, "active\n", "")

    monkeypatch.setattr(systemd, "run", run)
    monkeypatch.setattr(systemd, "environment", lambda: {"CONTAINERS_CONF": "/here/100%.conf", "HOME": "/root"})
    monkeypatch.setattr(systemd, "_folder", lambda kind: tmp_path / kind)
    monkeypatch.setattr("podserve.pod.STATE", tmp_path / "state")
    return calls


def unit(file: Path) -> dict[str, dict[str, str]]:
    """Return the settings of a unit, by section."""
    read = ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(file.read_text())
    return {name: dict(read[name]) for name in read.sections()}


def test_the_units_play_what_the_pod_applies_after_the_network(called: list[str], tmp_path: Path) -> None:
    pod = pod_with(Path("/state"), domain="example.org")
    assert not systemd.installed(pod)
    systemd.write_units(pod)
    assert systemd.installed(pod)
    assert systemd.journalled(pod)
    played = unit(tmp_path / "containers/systemd/podserve-simple.kube")
    assert played["Kube"]["Yaml"] == "/state/podserve-simple/played/podserve.yaml"
    assert played["Kube"]["ConfigMap"] == "/state/podserve-simple/played/config.yaml"
    assert played["Kube"]["Network"] == "podserve-simple.network"
    assert played["Kube"]["LogDriver"] == "journald"
    assert "network-online.target" in played["Unit"]["After"]
    assert played["Service"]["Restart"] == "always"
    assert played["Service"]["Environment"] == '"CONTAINERS_CONF=/here/100%%.conf"'
    assert played["Install"]["WantedBy"] == "multi-user.target"
    network = unit(tmp_path / "containers/systemd/podserve-simple.network")
    ipv6 = str(host.has_ipv6()).lower()
    assert network["Network"] == {"NetworkName": "podserve-simple", "DisableDNS": "true", "IPv6": ipv6}
    assert called == ["systemctl daemon-reload"]


def test_a_users_units_need_no_bridge_and_wait_for_nothing(
    called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "rootless", lambda: True)
    monkeypatch.setattr(host, "podman_info", lambda: GOOD)
    systemd.write_units(pod_with())
    played = unit(tmp_path / "containers/systemd/podserve-simple.kube")
    assert played["Kube"]["Network"] == "pasta"
    assert played["Install"]["WantedBy"] == "default.target"
    assert played["Quadlet"]["DefaultDependencies"] == "false"
    assert "After" not in played["Unit"]
    assert "LogDriver" not in played["Kube"]
    assert played["Kube"]["PodmanArgs"] == "--log-opt max-size=50mb"
    assert systemd.installed(pod_with())
    assert not systemd.journalled(pod_with())
    assert not (tmp_path / "containers/systemd/podserve-simple.network").exists()
    assert called == ["systemctl --user daemon-reload"]


def test_the_timer_renews_with_the_pods_own_settings(called: list[str], tmp_path: Path) -> None:
    pod = pod_with(domain="example.org", forwarders="192.0.2.1 192.0.2.2")
    systemd.write_units(pod)
    file = tmp_path / "systemd/system/podserve-simple-renew.service"
    service = unit(file)["Service"]
    assert service["ExecStart"] == f"{ROOT}/.venv/bin/invoke certs.renew"
    assert service["WorkingDirectory"] == str(ROOT)
    for name, value in pod.settings.environment().items():
        assert f'Environment="INVOKE_{name}={value}"\n' in file.read_text()
    assert unit(tmp_path / "systemd/system/podserve-simple-renew.timer")["Timer"]["OnCalendar"] == "daily"
    systemd.enable(pod)
    assert called[-1] == "systemctl enable --now podserve-simple-renew.timer podserve-simple-watch.timer"


def test_a_timer_mails_problems_to_the_postmaster_every_hour(called: list[str], tmp_path: Path) -> None:
    systemd.write_units(pod_with(domain="example.org"))
    file = tmp_path / "systemd/system/podserve-simple-watch.service"
    assert unit(file)["Service"]["ExecStart"] == f"{ROOT}/.venv/bin/invoke status --tell"
    assert unit(file)["Service"]["SuccessExitStatus"] == "1"
    assert 'Environment="INVOKE_DOMAIN=example.org"\n' in file.read_text()
    assert unit(tmp_path / "systemd/system/podserve-simple-watch.timer")["Timer"]["OnCalendar"] == "hourly"
    assert called == ["systemctl daemon-reload"]


def test_up_gives_the_timer_of_a_pod_that_runs_the_settings_of_now(
    called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd.write_units(pod_with())
    as_it_was = called.copy()
    monkeypatch.setattr(lifecycle, "_runs_as_set", lambda *_: True)
    for module, name in [(network, "ensure_network"), (volumes, "ensure_volumes"), (renewal, "provide"),
                         (lifecycle, "wait_until_answering"), (homes, "ensure_homes")]:  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(host, "podman_info", lambda: GOOD)
    monkeypatch.setattr(images, "identifiers", lambda _: ["1", "2", "3"])
    monkeypatch.setattr(volumes, "folder", lambda _: Folder.at(tmp_path))
    monkeypatch.setattr(Accounts, "ensure", lambda *_: "")
    monkeypatch.setattr(lifecycle, "renew_if_due", lambda _: [])
    monkeypatch.setattr(forwarding, "problem", lambda _: "")
    lifecycle.up(pod_with())
    assert called == as_it_was
    lifecycle.up(pod_with(certificate_source="acme", acme_email="a@example.org"))
    enabled = "systemctl enable --now podserve-simple-renew.timer podserve-simple-watch.timer"
    assert called[-2:] == ["systemctl daemon-reload", enabled]
    said = (tmp_path / "systemd/system/podserve-simple-renew.service").read_text()
    assert 'Environment="INVOKE_CERTIFICATE_SOURCE=acme"\n' in said


def test_a_pod_that_is_played_again_keeps_the_certificates_settings_of_now(
    called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pod_with(domain="before.example.org")
    systemd.write_units(before)
    before.manifests.write(state.applied_folder(before))
    monkeypatch.setattr(running, "inspected", lambda _: Inspected("Running"))

    def answers(pod: Pod) -> None:
        if pod.settings.domain != before.settings.domain:
            raise Problem("it does not")

    monkeypatch.setattr(lifecycle, "wait_until_answering", answers)
    now = pod_with(domain="now.example.org", certificate_source="import", key_type="ec384")
    with pytest.raises(Problem, match="it does not"):
        lifecycle._replace(now, ["1", "2", "3"], Inspected("Running"))
    said = (tmp_path / "systemd/system/podserve-simple-renew.service").read_text()
    for variable in ("DOMAIN=before.example.org", "CERTIFICATE_SOURCE=import", "KEY_TYPE=ec384"):
        assert f'Environment="INVOKE_{variable}"\n' in said
    assert called[-1] == "systemctl restart podserve-simple.service"


def test_what_was_written_is_taken_back(called: list[str], tmp_path: Path) -> None:
    pod = pod_with()
    systemd.write_units(pod)
    removed = systemd.remove_units(pod)
    assert len(removed) == 6
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    assert "systemctl stop podserve-simple.service podserve-simple-network.service" in called
    assert called[-1] == "systemctl daemon-reload"
    assert not systemd.installed(pod)


@pytest.mark.parametrize(
    ("told", "booted", "why"),
    [
        (GOOD, False, "this host has no systemd"),
        (replace(GOOD, version=(4, 3, 1)), True, "Podman is 4.3.1, and Quadlet needs 4.4"),
    ],
    ids=["no systemd", "no Quadlet"],
)
def test_a_host_that_cannot_have_a_service_is_told_what_to_do_instead(
    monkeypatch: pytest.MonkeyPatch,
    told: host.PodmanInfo,
    booted: bool,  # noqa: FBT001
    why: str,
) -> None:
    monkeypatch.setattr(host, "podman_info", lambda: told)
    monkeypatch.setattr(host, "has_systemd", lambda: booted)
    with pytest.raises(Problem) as refused:
        systemd.require_systemd(pod_with())
    assert why in refused.value.text
    assert f"@reboot cd {ROOT} && ./bootstrap invoke up" in refused.value.text


def test_a_host_with_systemd_and_quadlet_can_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "podman_info", lambda: GOOD)
    monkeypatch.setattr(host, "has_systemd", lambda: True)
    systemd.require_systemd(pod_with())


@pytest.mark.usefixtures("called")
def test_the_volumes_of_a_service_are_not_removed(fake_podman: FakePodman) -> None:
    systemd.write_units(pod_with())
    ended = fake_podman.invoke_here("down", "--volumes", "--yes")
    assert ended.code == 1
    assert "is a service of this machine, which needs its volumes: invoke uninstall first" in ended.stderr
    assert fake_podman.calls == []


def test_the_tasks_go_through_systemd(
    fake_podman: FakePodman, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "wait_until_answering", lambda _: None)
    monkeypatch.setattr(running, "exists", lambda _: True)
    systemd.write_units(pod_with())
    assert fake_podman.invoke_here("restart").code == 0
    assert called[-1] == "systemctl restart podserve-simple.service"
    assert [call for call in fake_podman.calls if "restart" in call] == []
    assert fake_podman.invoke_here("down").code == 0
    assert called[-1] == "systemctl stop podserve-simple.service podserve-simple-network.service"


def test_the_journal_is_asked_for_what_containers_logged() -> None:
    words = systemd.journal(["podserve-simple-mail"], "--follow")
    assert words[0] == "journalctl"
    assert words[-2:] == ["--follow", "CONTAINER_NAME=podserve-simple-mail"]


def test_there_is_nothing_to_take_back_where_nothing_was_installed(fake_podman: FakePodman, called: list[str]) -> None:
    ended = fake_podman.invoke_here("uninstall")
    assert ended.code == 1
    assert "is not a service of this machine: there is nothing to uninstall" in ended.stderr
    assert called == []


@pytest.mark.parametrize(("rootless", "which"), [(False, ""), (True, "--user ")])
@pytest.mark.parametrize("task", [status.look, lifecycle.restart], ids=["status", "restart"])
def test_a_service_without_its_pod_is_told_with_what_systemd_says(
    called: list[str],
    monkeypatch: pytest.MonkeyPatch,
    task: Callable[[Pod], object],
    rootless: bool,  # noqa: FBT001
    which: str,
) -> None:
    pod = pod_with()
    monkeypatch.setattr(running, "exists", lambda _: False)
    monkeypatch.setattr(host, "rootless", lambda: rootless)
    monkeypatch.setattr(host, "podman_info", lambda: GOOD)
    with pytest.raises(Problem) as alone:
        task(pod)
    assert alone.value.text == "there is no pod podserve-simple. Start it: invoke up"
    assert called == []
    systemd.write_units(pod)
    monkeypatch.setattr(systemd, "state", lambda _: "failed")
    with pytest.raises(Problem) as service:
        task(pod)
    more = f"(systemctl {which}status podserve-simple shows why). Start it: invoke up"
    assert service.value.text == f"there is no pod podserve-simple, and its service is failed {more}"
