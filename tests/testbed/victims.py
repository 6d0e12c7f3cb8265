"""Targets of kills: the processes of a container by program, and whole containers."""

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
"""The name of the whole container, beside the names of its processes."""
BETWEEN = 0.5, 1.5
"""The minimum and maximum seconds between two kills."""


@dataclass(frozen=True)
class Container:
    """A container. Its control group identifies its processes, because a restart by Podman keeps this group."""

    name: str
    identifier: str

    @classmethod
    def of(cls, test_pod: PodUnderTest, service: str) -> "Container":
        """Return the container of a service."""
        name = test_pod.container(service)
        return cls(name, podman("container", "inspect", "--format", "{{.Id}}", name).stdout.strip())

    def processes(self) -> dict[int, str]:
        """Return the programs that run in the container, named by `program`. The keys are process ids on this host."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # the process has just exited
                if f"libpod-{self.identifier}" in (process / "cgroup").read_text():
                    words = (process / "cmdline").read_text(errors="replace").split("\0")
                    name = program(words)
                    first = re.search(r"^NSpid:.*\t1$", (process / "status").read_text(), re.MULTILINE)
                    found[int(process.name)] = f"{name}, process 1" if name and first else name
        return {number: name for number, name in found.items() if name}

    def kill(self) -> None:
        """Kill all processes of the container, as the kernel does when its memory is exhausted.

        After `podman kill` Podman would not restart the container, because the user asked for its end.
        """
        for number in self.processes():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def program(words: Sequence[str]) -> str:
    """Return the name of a process from its command line: its program, with a distinction where two share a name.

    The name is empty for a process that has exited, or that Podman's runtime is still creating.
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
    # Dovecot and Postfix have programs of the same name; Dovecot's command lines begin with dovecot/.
    return command.split(" ")[0] if command.startswith("dovecot/") else first


@dataclass
class Storm:
    """Random kills in a container during some other work, and the count of kills by program."""

    container: Container
    chance: random.Random
    kills: dict[str, int] = field(default_factory=dict)

    def strike(self) -> None:
        """Kill a process of a program with the fewest kills so far; the whole container counts as a program."""
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
        """Return the row of the table with the counts."""
        kills: dict[str, str | float] = {"kills": sum(self.kills.values()), **dict(sorted(self.kills.items()))}
        return Outcome(section, f"kills in {self.container.name}", kills)

    def raging(self) -> AbstractContextManager[None]:
        """Return a context that kills again and again during its body."""

        def rage(over: threading.Event) -> None:
            while not over.wait(self.chance.uniform(*BETWEEN)):
                self.strike()

        return meanwhile(rage)
