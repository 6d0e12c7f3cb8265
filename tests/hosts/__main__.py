"""`python -m tests.hosts [KIND]...`: run a newcomer's commands on pristine hosts, and show a table of the results."""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from podserve.accounts import random_password
from podserve.commands import ROOT, Result, run
from podserve.errors import Problem, explain_interruptions
from podserve.manifests import defaults
from podserve.waiting import NotYet, wait_until
from tests.hosts.machine import KINDS, NETWORK, Kind, Machine, addresses, machine, surroundings

Step = Callable[[Machine], str]
"""A step on a host. It returns its output, and raises AssertionError or Problem if it failed."""
OUTPUT = ROOT / "artefacts" / "hosts"
"""The folder for the output of the steps."""
START = 60
"""Seconds after the start of a host within which all endpoints must answer."""
WEDGED = 30
"""Seconds within which a service that hangs must be replaced."""
DEFAULT = "A", "B", "C"
"""The kinds to run by default: those that PodServe supports."""
SHORT = "up", "acceptance", "outside"
"""The steps of --short: `invoke up`, then `acceptance`, or `outside` for a user, who cannot run `acceptance`."""
SERVICES = 3
"""Containers with a health check: apache, mail and dns."""
IDLE = 20
"""Lines that the journal may get in a minute in which nobody uses the pod."""
WATCHED = 30.0
"""Seconds in which these lines are counted."""
LATER = 25
"""Seconds after a replacement in which the service must not be replaced again. Five failed probes take less."""


@dataclass(frozen=True)
class Outcome:
    """The result of a step: the kind of host, the name, the failure (empty if it passed), and its seconds."""

    kind: str
    step: str
    failure: str
    seconds: float


def expect(result: Result) -> str:
    """Return the output of a command. Raises AssertionError with its last lines if the command failed."""
    said = (result.stdout + result.stderr).splitlines()[-400:]
    assert result.ok, "\n".join([f"exit code {result.code}", *said])
    return result.stdout


def remedied(host: Machine, command: str) -> str:
    """Run a command until it succeeds. After each failure, run as root the fix that the output names for root."""
    said = ""
    for _ in range(5):
        tried = host.run(command)
        said += tried.stdout
        remedies = re.findall(r"^  (apt-get update && .*)$|To solve it\b.*?: (.*)$", tried.stdout, re.MULTILINE)
        if tried.ok or host.kind.user == "root" or not remedies:
            return said + expect(tried)
        for remedy in (command for told in remedies for command in "".join(told).split(" && ")):
            for_root = remedy.startswith("apt-get") or "sudo " in remedy
            said += expect(host.run(remedy.replace("sudo ", ""), as_root=for_root))
    raise AssertionError(said[-2000:])


def up(host: Machine) -> str:
    """Run `up` on a host with nothing installed."""
    return remedied(host, "./bootstrap invoke up")


def refused(host: Machine) -> str:
    """`up` must refuse a user with Podman 4 before it builds anything, and say what to do."""
    remedied(host, "./bootstrap true")
    said = host.run("./bootstrap invoke up")
    assert said.code == 1, said
    assert "rootless: expected 5.0 or later" in said.stdout, said
    assert "STEP" not in said.stdout, said
    return said.stdout


def doctor(host: Machine) -> str:
    """`doctor` must find no problem."""
    return expect(host.run("./bootstrap invoke doctor"))


def journal(host: Machine) -> str:
    """Turn off the events of health checks as `doctor` says: the journal then grows by IDLE lines a minute at most."""
    found = json.loads(expect(host.run("./bootstrap invoke doctor --json")))["findings"]
    expect(host.run(next(finding["fix"] for finding in found if finding["check"] == "health checks")))
    begun = expect(host.run("date +%s", as_root=True)).strip()
    time.sleep(WATCHED)  # the length of the measurement
    told = expect(host.run(f"journalctl --quiet --no-pager --since=@{begun}", as_root=True)).splitlines()
    lines = [line for line in told if " kernel: " not in line]  # the kernel tells of the pods of other hosts, too
    assert len(lines) <= IDLE * WATCHED / 60, "\n".join(lines)
    states = expect(host.run("podman ps")).splitlines()
    assert sum("(healthy)" in state for state in states) == SERVICES, states
    return "\n".join([*lines, *states])


def acceptance(host: Machine) -> str:
    """Run all acceptance tests on the host."""
    return expect(host.run("./bootstrap nox -s acceptance"))


def outside(host: Machine, process: str) -> str:
    """Run the acceptance tests that need no access to the pod's inside, from the network namespace of `process`."""
    password = random_password()
    with tempfile.TemporaryDirectory() as folder:
        secret, authority = Path(folder) / "password", Path(folder) / "ca.crt"
        secret.write_text(f"{password}\n")
        added = host.run("./bootstrap invoke users.add guest --password-stdin", stdin=f"{password}\n")
        (account,) = re.findall(r"^(guest@\S+) can log in", expect(added), re.MULTILINE)
        fetch = "import httpx, sys; print(httpx.get(f'https://{sys.argv[1]}/ca.crt', verify=False).text)"
        authority.write_text(run([*_enter(process), "-c", fetch, host.addresses[0]]).stdout)
        options = {
            "target": host.addresses[0],
            "user": account,
            "password-file": secret,
            "ca": authority,
            "timeout": 600,
        }
        words = ["-m", "pytest", "-q", "tests/acceptance", *(f"--{name}={value}" for name, value in options.items())]
        return expect(run([*_enter(process), *words], check=False, timeout=900))


def _enter(process: str) -> list[str]:
    """Return the first words of a command that runs Python in the network namespace of a process."""
    return ["nsenter", f"--net=/proc/{process}/ns/net", sys.executable]


def _systemctl(host: Machine) -> str:
    return "systemctl" if host.kind.user == "root" else "systemctl --user"


def install(host: Machine) -> str:
    """Make the pod a service, and run the renewal and the watch that its timers start."""
    systemctl = _systemctl(host)
    said = remedied(host, "./bootstrap invoke install")
    for unit in ("podserve-simple-renew", "podserve-simple-watch"):
        said += expect(host.run(f"{systemctl} is-active {unit}.timer && {systemctl} start {unit}.service"))
    return said


def no_service(host: Machine) -> str:
    """`install` must say what to do on a host without systemd."""
    refused = host.run("./bootstrap invoke install")
    assert refused.code == 1, refused
    assert "@reboot" in refused.stdout, refused
    return refused.stdout


def _answers(host: Machine) -> str:
    def well() -> str:
        seen = host.run("./bootstrap invoke status --json", timeout=60)
        if not seen.ok:
            raise NotYet(seen.stdout[-500:])
        return seen.stdout

    return wait_until(well, START, "all endpoints to answer")


def reboot(host: Machine) -> str:
    """Restart the host: all endpoints must answer again without a command."""
    host.switch_off_and_on()
    return _answers(host)


def killed(host: Machine) -> str:
    """Kill the process of the pod that systemd watches: systemd must play the pod again."""
    pod = "podman pod inspect --format {{.Id}} podserve-simple"
    before = expect(host.run(pod))
    expect(host.run(f"{_systemctl(host)} kill --signal KILL podserve-simple"))

    def anew() -> None:
        now = host.run(pod)
        if not now.ok or now.stdout == before:
            raise NotYet("it is the same pod")

    wait_until(anew, START, "systemd to play the pod")
    return _answers(host)


def power_cycle(host: Machine) -> str:
    """Restart the host: after one `up` all endpoints must answer again."""
    host.switch_off_and_on()
    return expect(host.run("./bootstrap invoke up")) + _answers(host)


def service(host: Machine) -> str:
    """Run each task on the installed pod; uninstall it; install it again."""
    script = """
set -e
in_service() { SYSTEMCTL is-active -q podserve-simple; }
no() { if "$@"; then return 1; fi; }
./bootstrap invoke up | grep 'nothing was changed'; in_service
./bootstrap invoke restart; in_service
./bootstrap invoke logs --service mail | grep -c postfix
./bootstrap invoke down; no in_service; no podman pod exists podserve-simple
./bootstrap invoke up | grep 'is up'; in_service
./bootstrap invoke uninstall; no in_service
folders="/etc/containers/systemd /etc/systemd/system $HOME/.config/containers $HOME/.config/systemd"
test -z "$(find $folders -name 'podserve-simple*' 2>/dev/null)"
./bootstrap invoke status
./bootstrap invoke up | grep 'nothing was changed'
./bootstrap invoke install | grep 'is up'; in_service
"""
    return expect(host.run(script.replace("SYSTEMCTL", _systemctl(host)), timeout=400))


INTERRUPTED = "podserve: interrupted. Run the same command again"
INSTALLED = "It starts with this machine"
"""The last line of `install`. An interruption after this line has no effect."""
MOMENTS = 1.0, 2.0, 3.0, 4.0
"""Seconds after the start of `install` at which it is interrupted: before, while and after systemd plays the pod."""


def interruptions(host: Machine) -> str:
    """Interrupt `install` at several moments: it must report this or have ended, and the next one must succeed."""
    told = ""
    for after in MOMENTS:
        expect(host.run("./bootstrap invoke uninstall && ./bootstrap invoke down"))
        # `podman unshare`, the parent of a user's task, may exit first; cat waits until the task closes the pipe.
        ended = host.run(f"timeout --signal INT {after} ./bootstrap invoke install | cat")
        told += ended.stdout
        assert INSTALLED in ended.stdout or INTERRUPTED in ended.stdout, ended
        told += expect(host.run(f"./bootstrap invoke install && {_systemctl(host)} is-active podserve-simple"))
    assert INTERRUPTED in told, "it was always too late"
    return told


def _state(host: Machine, service: str) -> dict[str, int]:
    """Return the process id of a service's container, and the number of its restarts by Podman."""
    told = host.run(f"podman container inspect podserve-simple-{service}", timeout=60)
    state = json.loads(expect(told))[0]
    return {"process": state["State"]["Pid"], "restarts": state["RestartCount"]}


WEDGEABLE = [("dns", "named"), ("apache", "apache2"), ("mail", "postfix"), ("mail", "dovecot")]
"""Containers, each with a daemon in it. The daemon is named by a word in the paths of its programs."""
WEDGE = """
found=''
for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/pid")" = "$(readlink /proc/%d/ns/pid)" ] || continue
    case $(readlink "$process/exe") in */*%s*) kill -STOP "${process#/proc/}"; found=yes ;; esac
done
[ -n "$found" ]
"""


def liveness(host: Machine) -> str:
    """Send SIGSTOP to all processes of each daemon: they must be replaced within WEDGED seconds, and only once."""
    told = []
    for name, program in WEDGEABLE:
        before = _state(host, name)
        expect(host.run(WEDGE % (before["process"], program), as_root=True))
        begin = time.monotonic()

        def replaced(name: str = name, before: dict[str, int] = before) -> None:
            now = _state(host, name)
            if now["process"] in {0, before["process"]}:
                raise NotYet("it still hangs")

        wait_until(replaced, WEDGED, f"{program} to be replaced")
        told.append(f"{program}: replaced after {time.monotonic() - begin:.0f} s")
        _answers(host)
        after = _state(host, name)
        assert after["restarts"] == before["restarts"] + 1, f"{program} was replaced more than once"
        try:
            wait_until(lambda name=name, after=after: _changed(host, name, after), LATER, "nothing")  # type: ignore[misc]
        except Problem:
            continue
        raise AssertionError(f"{program} was replaced again")
    return "\n".join(told)


def _changed(host: Machine, name: str, before: dict[str, int]) -> None:
    if _state(host, name) == before:
        raise NotYet("as before")


def stranger(host: Machine, process: str) -> str:
    """Connect from outside the host: the pod must serve the client, refuse relay and recursion, and log its addresses.

    BIND does not log clients. That it refuses recursion shows that it sees the client's address.
    """
    asked = list(zip(host.addresses, addresses(f"{NETWORK}-stranger"), strict=False))
    assert len(asked) == 2, asked  # IPv4 and IPv6
    for there, _ in asked:
        tried = run(
            [*_enter(process), "-m", "tests.hosts.stranger", there, defaults()["domain"]], check=False, timeout=120
        )
        assert tried.ok, tried
    logged = expect(host.run("./bootstrap invoke logs"))
    for _, own in asked:
        seen = {"Apache": f"{own} - -", "Postfix": f"[{own}]", "Dovecot": f"rip={own}"}
        missing = [daemon for daemon, text in seen.items() if text not in logged]
        assert not missing, f"{own} is not in the logs of {', '.join(missing)}"
    return logged


def steps(kind: Kind, process: str) -> Iterator[tuple[str, Step]]:
    """Yield the steps for a kind of host, in order, each with its name."""
    if kind.user != "root" and kind.suite == "bookworm":
        yield "refused", refused
        return
    yield "up", up
    yield "doctor", doctor
    if kind.systemd:
        yield "journal", journal
    yield "stranger", lambda host: stranger(host, process)
    if kind.user != "root":
        yield "outside", lambda host: outside(host, process)
    else:
        yield "acceptance", acceptance
    if kind.systemd:
        yield "install", install
        yield "Ctrl-C", interruptions
        yield "reboot", lambda host: reboot(host) + stranger(host, process)
        yield "killed", killed
        yield "liveness", liveness
        yield "service", service
    else:
        yield "no service", no_service
        yield "reboot", power_cycle


def attempt(host: Machine, name: str, step: Step) -> Outcome:
    """Run a step, save its output, and return its result."""
    begin = time.monotonic()
    try:
        said, failure = step(host), ""
    except (AssertionError, Problem) as error:
        said = failure = str(error) or repr(error)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{host.kind.letter}-{name}.log").write_text(said)
    return Outcome(host.kind.letter, name, failure, time.monotonic() - begin)


def main() -> int:
    """Run the steps on the chosen kinds, or on DEFAULT; return 1 if a step failed."""
    parser = argparse.ArgumentParser(prog="nox -s hosts --", description=__doc__)
    known = f"{', '.join(KINDS)} (otherwise: {', '.join(DEFAULT)})"
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=known)
    parser.add_argument("--without", action="append", default=[], metavar="STEP", help="leave a step out, as liveness")
    parser.add_argument("--short", action="store_true", help=f"no more than {' and '.join(SHORT)}")
    asked = parser.parse_args()
    if unknown := set(asked.kinds) - set(KINDS):
        parser.error(f"no kind {', '.join(sorted(unknown))}: expected {', '.join(KINDS)}")
    explain_interruptions()
    console, outcomes = Console(), list[Outcome]()
    begin = time.monotonic()
    with surroundings() as (upstream, process):
        for letter in asked.kinds or DEFAULT:
            with machine(KINDS[letter], upstream) as host:
                for name, step in steps(host.kind, process):
                    if name in asked.without or (asked.short and name not in SHORT):
                        continue
                    outcome = attempt(host, name, step)
                    outcomes.append(outcome)
                    ended = f"failed: {outcome.failure}" if outcome.failure else "passed"
                    console.print(f"{letter} {outcome.step} {ended} ({outcome.seconds:.0f} s)", markup=False)
                    if outcome.failure and step is up:
                        break
    table = Table("Kind", "Step", "Result", "Seconds", box=None, caption=f"{time.monotonic() - begin:.0f} s in all")
    for outcome in outcomes:
        result = "[red]failed[/]" if outcome.failure else "[green]passed[/]"
        table.add_row(outcome.kind, outcome.step, result, f"{outcome.seconds:.0f}")
    console.print(table)
    return 1 if any(outcome.failure for outcome in outcomes) else 0


sys.exit(main())
