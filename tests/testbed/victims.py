"""Who is killed: the processes of a container by what they are, and whole containers."""

import os
import random
import re
import signal
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from podserve.commands import podman
from tests.testbed.concurrency import meanwhile
from tests.testbed.outcome import Outcome
from tests.testbed.pod import PodUnderTest

WHOLE = "container"
"""The name of the whole container, among those of its processes."""
BETWEEN = 0.5, 1.5
"""Seconds from one kill to the next, at least and at most."""


@dataclass(frozen=True)
class Container:
    """A container, whose processes are found by its control group: this stays as it is when Podman starts it again."""

    name: str
    identifier: str

    @classmethod
    def of(cls, test_pod: PodUnderTest, service: str) -> "Container":
        """Return a service's."""
        name = test_pod.container(service)
        return cls(name, podman("container", "inspect", "--format", "{{.Id}}", name).stdout.strip())

    def processes(self) -> dict[int, str]:
        """Return the programs that run in it, by their number on this host: as `program` names them."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                if f"libpod-{self.identifier}" in (process / "cgroup").read_text():
                    words = (process / "cmdline").read_text(errors="replace").split("\0")
                    name = program(words)
                    first = re.search(r"^NSpid:.*\t1$", (process / "status").read_text(), re.MULTILINE)
                    found[int(process.name)] = f"{name}, process 1" if name and first else name
        return {number: name for number, name in found.items() if name}

    def kill(self) -> None:
        """Kill all that runs in it, as the kernel does where its memory is over.

        Not by `podman kill`, after which Podman does not start it again: somebody wanted it so.
        """
        for number in self.processes():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def program(words: Sequence[str]) -> str:
    """Return what a process is called here, from its command line: its program, told apart where one name has two.

    A process that is no more, or that Podman's runtime is still making, has none.
    """
    command = words[0].strip()
    first = Path(command.split(" ")[0].rstrip(":")).name
    if first in {"", "runc", "runc:[2:INIT]", "crun", "conmon"}:
        return ""
    if first in {"sh", "bash", "perl"} and len(words) > 1:
        first = Path(words[1]).name
    if first == "s6-supervise":
        return f"{first} {words[1]}"
    if first == "git":
        return f"git {words[1]}"
    # Dovecot and Postfix have programs of one name; Dovecot's say whose they are.
    return command.split(" ")[0] if command.startswith("dovecot/") else first


@dataclass
class Storm:
    """Kills in a container while something else is done, and what was killed how often."""

    container: Container
    chance: random.Random
    kills: dict[str, int] = field(default_factory=dict)

    def strike(self) -> None:
        """Kill one of what was killed least: a program, however many processes it has, or the whole container."""
        running = self.container.processes()
        fewest = min(self.kills.get(name, 0) for name in {WHOLE, *running.values()})
        least = [name for name in {WHOLE, *running.values()} if self.kills.get(name, 0) == fewest]
        victim = self.chance.choice(sorted(least))
        if victim == WHOLE:
            self.container.kill()
        else:
            number = self.chance.choice(sorted(n for n, name in running.items() if name == victim))
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.kills[victim] = self.kills.get(victim, 0) + 1

    def outcome(self, section: str) -> Outcome:
        """Return the row that says what was killed."""
        kills: dict[str, str | float] = {"kills": sum(self.kills.values()), **dict(sorted(self.kills.items()))}
        return Outcome(section, f"kills in {self.container.name}", kills)

    def raging(self) -> AbstractContextManager[None]:
        """Strike again and again, until the body is done."""

        def rage(over: threading.Event) -> None:
            while not over.wait(self.chance.uniform(*BETWEEN)):
                self.strike()

        return meanwhile(rage)
