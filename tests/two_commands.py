"""`python -m tests.two_commands [WORD...]`: `invoke up`, then `nox WORD...` beside that pod, as README says.

Afterwards the pod of the first command must be as it was. Then it is removed with all that it keeps, also when a
command failed or this process received SIGTERM. The next run removes what a killed run left. If time allows, the first
command then runs on a pristine host (kind B).
"""

import fcntl
import imaplib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from podserve import network
from podserve.accounts import random_password
from podserve.certificates import client_context
from podserve.commands import ROOT, podman, run
from podserve.configuration import load
from podserve.errors import Interrupted, Problem, explain_interruptions, uninterrupted
from podserve.manifests import defaults
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until
from tests.testbed.forwarders import start_upstream, write_names

BOOTSTRAP = str(ROOT / "bootstrap")
ALL = 1800
"""Seconds that everything may take, with kind B. Without it, nothing limits the time."""
KIND_B = 300
"""Seconds that the first command takes on kind B, at most: it installs and builds everything again."""
LOCK = Path("/run/lock/podserve-two-commands")
"""The lock of a run. Two runs cannot share a machine: both use the default names of the pod and its volumes."""
PATIENCE = 20
"""Seconds for a login, and until a new account is in use: a login that comes too early is answered after 2 s."""


def show(*words: str, **environment: str) -> None:
    """Run a command that prints as it goes. Raises Problem when the command fails."""
    print(f"$ {' '.join(words)}", flush=True)
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    # In a session of its own, the command gets Ctrl-C once: from here. It gets SIGTERM if this process is killed.
    with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *words], env=env, start_new_session=True) as process:
        try:
            code = process.wait()
        except BaseException:
            # Ctrl-C for all of it: nox and what nox has started remove their containers, and nox waits for that.
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
    if code:
        raise Problem(f"{' '.join(words)} ended with exit code {code}; its last lines say why")


class FirstPod:
    """The pod that `invoke up` plays, by default settings except for its forwarder; and an account of it."""

    def __init__(self, forwarder: str = "127.0.0.2") -> None:
        """Take the defaults, whatever this checkout's invoke.yaml says."""
        self.pod = Pod.of(load({"forwarders": forwarder}, defaults(), {}))
        self.account, self.password = f"first@{self.pod.settings.domain}", random_password()

    @property
    def upstream(self) -> str:
        """The container of the DNS server that the pod forwards to."""
        return f"{self.pod.name}-upstream"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make Invoke's tasks mean this pod."""
        return {f"INVOKE_{name}": value for name, value in self.pod.settings.environment().items()}

    def invoke(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run a task and return what it printed."""
        argv = [BOOTSTRAP, "invoke", *words]
        return run(argv, stdin=stdin, check=check, env={**os.environ, **self.environment}).stdout

    def not_ours(self) -> list[str]:
        """Return the pod and the volumes of these names that no run of this module made.

        A run starts the upstream first, and only if there is no pod and no volume of these names. So a killed run left
        what is younger than an upstream.
        """
        begin = _created("container", self.upstream)
        things = [("pod", self.pod.name), *(("volume", volume.name) for volume in self.pod.volumes.values())]
        made = [(f"the {kind} {name}", _created(kind, name)) for kind, name in things]
        return [thing for thing, when in made if when and not (begin and begin < when)]

    def log_in(self) -> None:
        """Log in over IMAPS. Raises NotYet if that fails."""
        with tempfile.NamedTemporaryFile("w") as authority:
            authority.write(self.invoke("certs.ca"))
            authority.flush()
            context = client_context(self.pod.settings.domain, authority.name)
        try:
            with imaplib.IMAP4_SSL(
                str(self.pod.settings.local_address), ssl_context=context, timeout=PATIENCE
            ) as client:
                client.login(self.account, self.password)
        except (imaplib.IMAP4.error, OSError) as error:
            raise NotYet(f"{self.account} cannot log in over IMAPS: {error}") from error

    def add_account(self) -> None:
        """Add the account, and return when it is in use."""
        self.invoke("users.add", self.account, "--password-stdin", stdin=f"{self.password}\n")
        wait_until(self.log_in, PATIENCE, f"{self.account} to be in use")

    def containers(self) -> str:
        """Return a line for each container: its id, its first process, when it started, how often it was restarted."""
        listed = podman("ps", "--all", "--quiet", "--no-trunc", "--filter", f"pod={self.pod.name}").stdout.split()
        words = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}"
        return podman("container", "inspect", "--format", words, *sorted(listed)).stdout

    def remove(self) -> None:
        """Remove the pod, its network and its volumes, and then the upstream that marks them as a run's."""
        print(self.invoke("down", "--volumes", "--yes"), end="")
        podman("rm", "--force", "--ignore", "--time", "0", self.upstream)
        network.remove_network(self.pod)


def _created(kind: str, name: str) -> datetime | None:
    """Return when Podman created a pod, container or volume, or None if there is none of this name."""
    field = "CreatedAt" if kind == "volume" else "Created"
    found = podman(kind, "inspect", "--format", f"{{{{json .{field}}}}}", name, check=False)
    return datetime.fromisoformat(found.stdout.strip().strip('"')) if found.ok else None


@contextmanager
def only_run() -> Iterator[None]:
    """Hold LOCK. Raises Problem if another run holds it."""
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Problem(f"another run holds {LOCK}: expected one at a time. To see it: fuser {LOCK}") from error
        yield


@contextmanager
def first_pod() -> Iterator[FirstPod]:
    """Yield the pod of the first command. Afterwards nothing of it is left.

    Raises Problem if a pod or a volume of its names exists, which would be lost, or if another run is under way.
    """
    first = FirstPod()
    with only_run(), tempfile.TemporaryDirectory() as scratch:
        if there := first.not_ours():
            raise Problem(f"this run would remove {', '.join(there)}: expected a machine without. "
                          "See invoke down --help")  # fmt: skip
        first.remove()
        try:
            show(BOOTSTRAP, "invoke", "build")
            network.ensure_network(first.pod)
            names = Path(scratch) / "names.zone"
            write_names(names, {})
            first = FirstPod(start_upstream(first.upstream, first.pod.name, names).address)
            show(BOOTSTRAP, "invoke", "up", **first.environment)
            yield first
        finally:
            with uninterrupted():
                first.remove()


def both(words: list[str]) -> None:
    """Run both commands. Raises Problem if one fails, or if the second changed the pod of the first."""
    with first_pod() as first:
        first.add_account()
        before = first.containers()
        show(BOOTSTRAP, "nox", *words)
        after = first.containers()
        if after != before:
            raise Problem(f"nox changed the pod that ran before. Its containers were\n{before}and are\n{after}")
        first.log_in()
        print(
            f"the pod of the first command runs on: the same {len(before.splitlines())} containers; its account logs in"
        )


def main(words: list[str]) -> int:
    """Run both commands; without words and if time allows, the first on kind B too. Return 1 if something failed."""
    begin = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would nox
    explain_interruptions()
    try:
        both(words)
        took = time.monotonic() - begin
        if words:
            return 0
        if took + KIND_B >= ALL:
            print(f"kind B is left out: the above took {took:.0f} s, and with kind B all would take over {ALL} s")
            return 0
        # Acceptance is left out there: no run of all its tests on this kind has ended yet.
        show(BOOTSTRAP, "nox", "-s", "hosts", "--", "B", "--short", "--without", "acceptance")
        podman("volume", "rm", "podserve-hosts-packages-trixie")  # only a next run would use it
    except (Problem, Interrupted, NotYet) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
