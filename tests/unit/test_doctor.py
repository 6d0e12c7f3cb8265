"""The doctor: its findings about a host, and how it reports them."""

import datetime as dt
import getpass
import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from podserve import commands, doctor, host, ports, running, volumes
from podserve.certificates import store
from podserve.certificates.keypair import Certificate
from podserve.errors import Interrupted, Problem
from podserve.findings import Finding, State
from tests.unit.helpers import FakePodman, chosen, pod_with

GOOD = host.PodmanInfo((5, 4, 2), "netavark", "v2", Path("/"), ("memory", "pids"))


def examine(
    monkeypatch: pytest.MonkeyPatch, told: host.PodmanInfo, *checks: str, exists: bool = False, bind: str = "127.0.0.1"
) -> list[Finding]:
    """Return the findings of these checks, with `told` as the answer of Podman about itself."""
    monkeypatch.setattr(host, "podman_info", lambda: told)
    seen = running.Inspected("Running", "infra") if exists else running.Inspected()
    monkeypatch.setattr(running, "inspected", lambda _: seen)
    named = [getattr(doctor, f"_{name}") for name in checks]
    return doctor.examine(pod_with(bind=bind), named)


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep state and locks out of this checkout."""
    monkeypatch.setattr("podserve.pod.STATE", tmp_path / "state")


@pytest.fixture
def _as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the user is not root."""
    monkeypatch.setattr(host, "rootless", lambda: True)


@pytest.mark.parametrize(
    ("version", "state"), [((4, 2, 9), "problem"), ((3, 4, 4), "problem"), ((4, 3, 0), "ok"), ((10, 0, 0), "ok")]
)
def test_a_podman_that_is_too_old_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], state: str
) -> None:
    (finding,) = examine(monkeypatch, replace(GOOD, version=version), "version")
    assert finding.state == state
    assert GOOD.named == "5.4.2"
    assert ".".join(map(str, version)) in finding.said


def test_nothing_more_is_asked_of_a_podman_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(monkeypatch, replace(GOOD, version=(3, 4, 4)), "version", "ports", "memory")
    assert [finding.check for finding in found] == ["podman"]


@pytest.mark.parametrize(("backend", "state"), [("netavark", "ok"), ("cni", "problem")])
def test_a_network_that_may_hide_clients_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, backend: str, state: str
) -> None:
    (finding,) = examine(monkeypatch, replace(GOOD, backend=backend), "source_addresses")
    assert finding.state == state
    assert ("invoke backup" in finding.fix.partition("podman system reset")[0]) == (state == "problem")
    assert ("deletes every one" in finding.fix) == (state == "problem")


@pytest.mark.usefixtures("_as_user")
def test_rootless_without_a_network_that_keeps_addresses_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = examine(monkeypatch, GOOD, "source_addresses")
    assert (finding.state, finding.fix) == ("problem", "sudo apt-get install passt")
    (tmp_path / "pasta").touch(mode=0o755)
    (finding,) = examine(monkeypatch, GOOD, "source_addresses")
    assert (finding.state, finding.said) == ("ok", "kept: pasta, rootless")
    for version in ((4, 3, 1), (4, 9, 3)):
        (finding,) = examine(monkeypatch, replace(GOOD, version=version), "source_addresses")
        assert finding.state == "problem"
        assert "expected 5.0 or later" in finding.said


@pytest.mark.usefixtures("_as_user")
@pytest.mark.parametrize(("first", "state"), [(1024, "problem"), (26, "problem"), (25, "ok"), (0, "ok")])
def test_low_ports_that_a_user_may_not_serve_on_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, first: int, state: str
) -> None:
    monkeypatch.setattr(host, "first_port", lambda: first)
    (finding,) = examine(monkeypatch, GOOD, "first_port")
    assert finding.state == state
    assert ("net.ipv4.ip_unprivileged_port_start=25 " in finding.fix) == (state == "problem")


@pytest.mark.usefixtures("_as_user")
@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("", "problem"),
        ("nobody-else:100000:65536\n", "problem"),
        (f"{os.getuid()}:100000:1000\n", "problem"),
        (f"nobody-else:100000:65536\n{os.getuid()}:165536:65536\n", "ok"),
    ],
    ids=["no file's line", "another's", "too few", "enough"],
)
def test_a_user_without_subordinate_ids_is_told_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, state: str
) -> None:
    (tmp_path / "subuid").write_text(line)
    monkeypatch.setattr(host, "SUBORDINATE_IDS", (tmp_path / "subuid",))
    monkeypatch.setattr(host, "in_passwd", lambda _: True)
    (finding,) = examine(monkeypatch, GOOD, "user_ids")
    assert finding.state == state
    assert ("usermod --add-subuids" in finding.fix) == (state == "problem")
    assert finding.fix.endswith(f" {getpass.getuser()} && podman system migrate") == (state == "problem")


@pytest.mark.usefixtures("_as_user")
@pytest.mark.parametrize(("local", "give"), [
    (True, "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 {user}"),
    (False, "echo {user}:165536:65536 | sudo tee -a /etc/subuid /etc/subgid"),
])  # fmt: skip
def test_the_subordinate_ids_to_give_are_nobodys_yet(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    local: bool,  # noqa: FBT001
    give: str,
) -> None:
    (tmp_path / "subgid").write_text("first-user-of-debian:100000:65536\n")
    monkeypatch.setattr(host, "SUBORDINATE_IDS", (tmp_path / "subuid", tmp_path / "subgid"))
    monkeypatch.setattr(host, "in_passwd", lambda _: local)
    (finding,) = examine(monkeypatch, GOOD, "user_ids")
    assert finding.fix == f"{give.format(user=getpass.getuser())} && podman system migrate"


@pytest.mark.parametrize(
    ("free", "exists", "state"),
    [(2**29, False, "problem"), (2**30, True, "warning"), (2**20, True, "problem"), (3 * 2**30, False, "warning"),
     (2**40, False, "ok"), (2**40, True, "ok")],
)  # fmt: skip
def test_free_space_is_judged_by_what_the_pod_needs(
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    exists: bool,  # noqa: FBT001
    state: str,
) -> None:
    monkeypatch.setattr(host, "free_space", lambda _: free)
    (finding,) = examine(monkeypatch, GOOD, "space", exists=exists)
    assert finding.state == state


def test_the_space_of_a_folder_that_is_not_there_yet_is_that_of_its_file_system(tmp_path: Path) -> None:
    assert abs(host.free_space(tmp_path / "not" / "yet") - host.free_space(tmp_path)) < 2**30


@pytest.mark.parametrize(("free", "state"), [(2**26, "problem"), (2**28 + 2**27, "warning"), (2**33, "ok")])
def test_free_memory_is_judged(monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(host, "free_memory", lambda: free)
    (finding,) = examine(monkeypatch, GOOD, "memory")
    assert finding.state == state


@pytest.mark.parametrize(
    ("there", "state", "said"),
    [
        (set(), "warning", "does not resolve here"),
        ({"203.0.113.9"}, "warning", "resolves to 203.0.113.9, not to this host"),
        ({"203.0.113.9", "127.0.0.1"}, "warning", "resolves to 203.0.113.9, not to this host"),
        ({"127.0.0.1", "::1"}, "warning", "resolves to 127.0.0.1, ::1, a loopback address"),
        ({"127.0.1.1"}, "warning", "resolves to 127.0.1.1, a loopback address"),
        ({"203.0.113.9", "192.0.2.7"}, "ok", "resolves to this host: 192.0.2.7"),
        ({"127.0.0.1", "2001:db8::7"}, "ok", "resolves to this host: 2001:db8::7"),
    ],
)
def test_a_name_that_leads_elsewhere_or_nowhere_for_others_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, there: set[str], state: str, said: str
) -> None:
    monkeypatch.setattr(host, "looked_up", lambda _: there)
    monkeypatch.setattr(host, "addresses", lambda: {"127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"})
    findings = examine(monkeypatch, GOOD, "name")
    settings = chosen()
    for finding, name in zip(findings, (settings.domain, settings.files_host), strict=True):
        assert finding.state == state
        assert f"{name} {said}" in finding.said


@pytest.mark.parametrize(
    ("moved", "kept", "state"),
    [(0, True, "ok"), (0, False, "warning"), (-2, True, "problem"), (-2, False, "problem")],
)
def test_a_clock_that_is_behind_or_that_nothing_keeps_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    moved: int,
    kept: bool,  # noqa: FBT001
    state: str,
) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.setattr(volumes, "existing", lambda _: set())
    monkeypatch.setattr(host, "clock_is_kept", lambda: kept)
    now = time.time() + 1
    monkeypatch.setattr(time, "time", lambda: now + moved)
    (finding,) = examine(monkeypatch, GOOD, "clock")
    assert finding.state == state


@pytest.mark.parametrize(("ago", "state"), [(dt.timedelta(hours=1), "ok"), (dt.timedelta(hours=-1), "problem")])
def test_a_clock_that_is_behind_the_certificate_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ago: dt.timedelta, state: str
) -> None:
    starts = dt.datetime.now(dt.UTC) - ago
    there = Certificate("authority", (), "an authority", starts, starts + dt.timedelta(days=90), "1", "ab", "ec256")
    monkeypatch.setattr(volumes, "existing", set)
    monkeypatch.setattr(volumes, "folder", lambda _: tmp_path)
    monkeypatch.setattr(store, "current", lambda _: (there,))
    monkeypatch.setattr(host, "clock_is_kept", lambda: True)
    (finding,) = examine(monkeypatch, GOOD, "clock")
    assert finding.state == state


@pytest.mark.parametrize(("hybrid", "state"), [(True, "warning"), (False, "ok")])
def test_cgroups_that_crun_refuses_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    hybrid: bool,  # noqa: FBT001
    state: str,
) -> None:
    monkeypatch.setattr(host, "hybrid_cgroups", lambda: hybrid)
    (finding,) = examine(monkeypatch, GOOD, "cgroups")
    assert finding.state == state


@pytest.mark.parametrize(("rootless", "fix"), [(False, "cgroup_enable=memory"), (True, "Delegate=memory")])
def test_a_host_that_bounds_no_memory_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    rootless: bool,  # noqa: FBT001
    fix: str,
) -> None:
    monkeypatch.setattr(host, "rootless", lambda: rootless)
    (finding,) = examine(monkeypatch, replace(GOOD, controllers=("pids",)), "cgroups")
    assert finding.state == "warning"
    assert "a container may use up the memory of the host" in finding.said
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        (
            "echo 'engine: Podman cannot run a container' >&2; exit 1",
            "problem",
            "engine: Podman cannot run a container",
        ),
        ("echo 'engine: with limits' >&2", "ok", "engine: with limits"),
        ('[ "$*" = --again ]', "ok", "runs a container and a build by Podman's own settings"),
    ],
    ids=["fails", "by settings that were found", "by its own settings"],
)
def test_a_podman_that_runs_no_container_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, state: str, said: str
) -> None:
    engine = tmp_path / "docker" / "engine.sh"
    engine.parent.mkdir()
    engine.write_text(f"#!/bin/sh\n{script}\n")
    engine.chmod(0o755)
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    (finding,) = examine(monkeypatch, GOOD, "runtime")
    assert (finding.state, finding.said) == (state, said)


def test_an_address_of_this_host_is_known() -> None:
    assert "127.0.0.1" in host.addresses()


@pytest.mark.parametrize("exists", [True, False], ids=["a pod that runs", "no pod"])
def test_an_address_of_another_host_is_a_problem(monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:  # noqa: FBT001
    (finding,) = examine(monkeypatch, GOOD, "ports", exists=exists, bind="192.0.2.1")
    assert finding.state == "problem"


@pytest.mark.parametrize(
    ("holder", "exists", "state"),
    [
        ("infra", True, "ok"),
        ("infra", False, "problem"),
        ("another", True, "problem"),
        (ports.SOME_POD, True, "ok"),
        (ports.SOME_POD, False, "problem"),
        ("", True, "problem"),
    ],
    ids=["itself", "its like", "another", "rootless", "another, rootless", "no pod"],
)
def test_ports_that_the_pod_holds_itself_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
    holder: str,
    exists: bool,  # noqa: FBT001
    state: str,
) -> None:
    monkeypatch.setattr(ports, "_container_of", lambda *_: holder)
    monkeypatch.setattr(ports, "_pod_of", lambda container: f"pod of {container}")
    with socket.create_server(("127.0.0.242", 995)):
        (finding,) = examine(monkeypatch, GOOD, "ports", exists=exists, bind="127.0.0.242")
    assert finding.state == state
    assert ("port 995/TCP is taken" in finding.said) == (state == "problem")
    assert (f"kill {os.getpid()}" in finding.fix) == (holder == "")


@pytest.mark.parametrize(("systemd", "state"), [(True, "ok"), (False, "warning")])
def test_without_systemd_health_checks_do_not_run_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
    systemd: bool,  # noqa: FBT001
    state: str,
) -> None:
    monkeypatch.setattr(host, "has_systemd", lambda: systemd)
    (finding,) = examine(monkeypatch, GOOD, "health")
    assert finding.state == state


@pytest.mark.parametrize(
    ("info", "text", "state"),
    [
        (replace(GOOD, events="journald"), "", "warning"),
        (replace(GOOD, events="journald"), "[engine]\nhealthcheck_events = false\n", "ok"),
        (replace(GOOD, events="journald"), "[engine]\nhealthcheck_events = true\n", "warning"),
        (replace(GOOD, events="file"), "", "ok"),
        (replace(GOOD, events="journald", version=(4, 3, 1)), "", "ok"),
    ],
)
def test_events_of_health_checks_in_the_journal_get_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, info: host.PodmanInfo, text: str, state: str
) -> None:
    monkeypatch.setattr(host, "has_systemd", lambda: True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "containers" / "containers.conf.d"
    folder.mkdir(parents=True)
    (folder / "own.conf").write_text(text)
    (finding,) = examine(monkeypatch, info, "health")
    assert finding.state == state
    assert ("healthcheck_events = false" in finding.fix) == (state == "warning")


@pytest.mark.parametrize(("states", "code"), [(["ok", "warning"], 0), (["ok", "problem"], 1), (["problem", "ok"], 1)])
def test_the_exit_code_and_the_json_tell_of_a_problem(
    fake_podman: FakePodman, monkeypatch: pytest.MonkeyPatch, states: list[State], code: int
) -> None:
    found = [Finding("memory", state, "as it is", "make it better") for state in states]
    monkeypatch.setattr(doctor, "examine", lambda _: found)
    ended = fake_podman.invoke_here("doctor", "--json")
    assert ended.code == code
    told = json.loads(ended.stdout)
    assert told["ok"] == (code == 0)
    assert [finding["state"] for finding in told["findings"]] == states
    shown = fake_podman.invoke_here("doctor")
    assert shown.code == code
    assert [line.split()[0] for line in str(shown.stdout).splitlines()[::2]] == states


def test_what_is_no_problem_stops_no_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda *_: [Finding("disk", "warning", "little", "df")])
    doctor.require(pod_with())


def test_an_up_that_cannot_be_tells_every_problem_and_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("disk", "problem", "no room", "df -h"), Finding("ports", "problem", "port 25 is taken", "kill 1")]
    monkeypatch.setattr(doctor, "examine", lambda *_: found)
    with pytest.raises(Problem) as refused:
        doctor.require(pod_with())
    assert refused.value.text.splitlines()[1:] == [
        "  no room. To solve it: df -h",
        "  port 25 is taken. To solve it: kill 1",
    ]


def test_up_on_a_podman_that_is_too_old_makes_nothing(fake_podman: FakePodman) -> None:
    fake_podman.told["version"]["Version"] = "3.4.4"
    ended = fake_podman.invoke_here("up", INVOKE_POD="podserve-unit")
    assert ended.code == 1
    assert "Podman is 3.4.4: expected 4.3 or later. To solve it: apt-get install podman" in ended.stderr
    assert fake_podman.calls == ["info --format json"]


HANGS = "no answer within 0 s from: podman info --format json. To see what else uses"


@pytest.fixture
def hanging_podman(fake_podman: FakePodman, monkeypatch: pytest.MonkeyPatch) -> FakePodman:
    """A fake Podman that never answers."""
    monkeypatch.setattr(host, "PATIENCE", 0.2)
    (fake_podman.folder / "podman").write_text("#!/bin/sh\nexec sleep 60\n")
    return fake_podman


@pytest.mark.parametrize("task", ["up", "build"])
def test_on_a_podman_that_hangs_a_task_ends_with_a_line(hanging_podman: FakePodman, task: str) -> None:
    ended = hanging_podman.invoke_here(task, INVOKE_POD="podserve-unit")
    assert ended.code == 1
    assert ended.stderr.startswith(f"podserve: {HANGS}")


def test_a_podman_that_hangs_is_a_problem_in_the_json_too(hanging_podman: FakePodman) -> None:
    ended = hanging_podman.invoke_here("doctor", "--json")
    assert (ended.code, ended.stderr) == (1, "")
    (finding,) = json.loads(ended.stdout)["findings"]
    assert (finding["check"], finding["state"]) == ("podman", "problem")
    assert finding["said"].startswith(HANGS)


def test_a_podman_that_is_missing_is_a_problem_in_the_json_too(fake_podman: FakePodman, tmp_path: Path) -> None:
    ended = fake_podman.invoke_here("doctor", "--json", PATH=str(tmp_path / "empty"))
    assert (ended.code, ended.stderr) == (1, "")
    (finding,) = json.loads(ended.stdout)["findings"]
    assert finding["said"].startswith("podman is not installed: run ./bootstrap podman --version")


def test_a_doctor_that_is_interrupted_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> list[Finding]:
        raise Interrupted

    monkeypatch.setattr(doctor, "examine", interrupted)
    with pytest.raises(Interrupted):
        doctor.diagnose(pod_with())


def test_up_where_a_port_is_taken_makes_nothing(fake_podman: FakePodman) -> None:
    with socket.create_server(("127.0.0.241", 995)):
        ended = fake_podman.invoke_here("up", INVOKE_POD="podserve-unit", INVOKE_BIND="127.0.0.241")
    assert ended.code == 1
    assert "port 995/TCP is taken on 127.0.0.241 by " in ended.stderr
    assert f"(process {os.getpid()})" in ended.stderr
    assert fake_podman.calls == ["info --format json", "pod inspect podserve-unit"]
