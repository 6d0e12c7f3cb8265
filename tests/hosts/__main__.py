"""`python -m tests.hosts [KIND]...`: does on pristine hosts what a newcomer does, and shows a table of it."""

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
"""What is done on a host; returns what was printed, and raises AssertionError or Problem when it failed."""
OUTPUT = ROOT / "artefacts" / "hosts"
"""Where all that the steps printed is kept."""
START = 60
"""Seconds after a host's own start within which all endpoints answer again."""
WEDGED = 30
"""Seconds within which a service that hangs is replaced."""
DEFAULT = "A", "B", "C"
"""The kinds that are gone through when none is named: those that PodServe is made for."""
SHORT = "up", "acceptance", "outside"
"""The steps of the short form: both commands, or what a user has in place of the second."""
LATER = 25
"""Seconds afterwards in which it must not be replaced again: more than five failures of a probe take."""


@dataclass(frozen=True)
class Outcome:
    """A step that ended: its host's kind, its name, why it failed (empty when it passed), and the seconds it took."""

    kind: str
    step: str
    failure: str
    seconds: float


def expect(result: Result) -> str:
    """Return what a command printed. Raises AssertionError, with its last lines, when it failed."""
    said = (result.stdout + result.stderr).splitlines()[-400:]
    assert result.ok, "\n".join([f"exit code {result.code}", *said])
    return result.stdout


def remedied(host: Machine, command: str) -> str:
    """Run a command until it succeeds. What a user is told to have root do, root does."""
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
    """Bring the pod up, with nothing installed before."""
    return remedied(host, "./bootstrap invoke up")


def refused(host: Machine) -> str:
    """Hear from `up`, before anything is built, that a user of Podman 4 cannot be served well, and what to do."""
    remedied(host, "./bootstrap true")
    said = host.run("./bootstrap invoke up")
    assert said.code == 1, said
    assert "rootless: expected 5.0 or later" in said.stdout, said
    assert "STEP" not in said.stdout, said
    return said.stdout


def doctor(host: Machine) -> str:
    """Hear that nothing stands in the way."""
    return expect(host.run("./bootstrap invoke doctor"))


def acceptance(host: Machine) -> str:
    """Prove it, in full."""
    return expect(host.run("./bootstrap nox -s acceptance"))


def outside(host: Machine, process: str) -> str:
    """Prove what needs no inside view, from outside the host: what is accepted and what is refused."""
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
    """Return the beginning of a command that runs Python in a process's network namespace."""
    return ["nsenter", f"--net=/proc/{process}/ns/net", sys.executable]


def _systemctl(host: Machine) -> str:
    return "systemctl" if host.kind.user == "root" else "systemctl --user"


def install(host: Machine) -> str:
    """Make it a service, whose timer renews certificates."""
    renewal, systemctl = "podserve-simple-renew", _systemctl(host)
    said = remedied(host, "./bootstrap invoke install")
    return said + expect(host.run(f"{systemctl} is-active {renewal}.timer && {systemctl} start {renewal}.service"))


def no_service(host: Machine) -> str:
    """Be told what to do instead where there is no systemd."""
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
    """Switch it off and on: all endpoints answer again without a hand."""
    host.switch_off_and_on()
    return _answers(host)


def killed(host: Machine) -> str:
    """Kill what systemd watches of the pod: it plays it again."""
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
    """Switch it off and on: one `up`, and all endpoints answer again."""
    host.switch_off_and_on()
    return expect(host.run("./bootstrap invoke up")) + _answers(host)


def service(host: Machine) -> str:
    """Go through systemd with every task, and back."""
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
"""The last thing that `install` says: who interrupts it then, interrupts nothing."""
MOMENTS = 1.0, 2.0, 3.0, 4.0
"""Seconds after its beginning at which a task is interrupted: before, while and after systemd plays the pod."""


def interruptions(host: Machine) -> str:
    """Type Ctrl-C at several moments of `install`: it says so, or has ended; and once more, it gets there."""
    told = ""
    for after in MOMENTS:
        expect(host.run("./bootstrap invoke uninstall && ./bootstrap invoke down"))
        # Podman, between a user's task and itself in the user namespace, may end first: cat ends when nobody writes.
        ended = host.run(f"timeout --signal INT {after} ./bootstrap invoke install | cat")
        told += ended.stdout
        assert INSTALLED in ended.stdout or INTERRUPTED in ended.stdout, ended
        told += expect(host.run(f"./bootstrap invoke install && {_systemctl(host)} is-active podserve-simple"))
    assert INTERRUPTED in told, "it was always too late"
    return told


def _state(host: Machine, service: str) -> dict[str, int]:
    """Return the process id of a service's container, and how often Podman has restarted it."""
    told = host.run(f"podman container inspect podserve-simple-{service}", timeout=60)
    state = json.loads(expect(told))[0]
    return {"process": state["State"]["Pid"], "restarts": state["RestartCount"]}


WEDGEABLE = [("dns", "named"), ("apache", "apache2"), ("mail", "postfix"), ("mail", "dovecot")]
"""Containers, and the daemon in each whose processes are all stopped: by a word in their programs' paths."""
WEDGE = """
found=''
for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/pid")" = "$(readlink /proc/%d/ns/pid)" ] || continue
    case $(readlink "$process/exe") in */*%s*) kill -STOP "${process#/proc/}"; found=yes ;; esac
done
[ -n "$found" ]
"""


def liveness(host: Machine) -> str:
    """Stop all processes of each daemon: they are replaced in time, and only once."""
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
    """Be a client outside the host: served, refused relay and recursion, and seen by its own addresses.

    BIND, which refuses recursion by the address, logs no client.
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
    """Yield what is done on a kind of host, in order, and what that is called."""
    if kind.user != "root" and kind.suite == "bookworm":
        yield "refused", refused
        return
    yield "up", up
    yield "doctor", doctor
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
    """Do a step, keep what it printed, and return how it ended."""
    begin = time.monotonic()
    try:
        said, failure = step(host), ""
    except (AssertionError, Problem) as error:
        said = failure = str(error) or repr(error)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{host.kind.letter}-{name}.log").write_text(said)
    return Outcome(host.kind.letter, name, failure, time.monotonic() - begin)


def main() -> int:
    """Go through the kinds that are asked for, or DEFAULT; return 1 when a step failed."""
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
