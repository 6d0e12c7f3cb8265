"""What the services have logged: lines of all or some of them, in the order of time."""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from podserve import commands, running, systemd
from podserve.errors import Problem, printable
from podserve.pod import Pod

_SINCE = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_QUEUE_ID = re.compile(r" postfix/[a-z/]+\[[0-9]+\]: ([0-9A-Za-z]{6,}): (?:message-id=<(.+)>)?")
_SESSION = re.compile(r" (postfix/[a-z/]*smtpd\[[0-9]+\]): (connect|disconnect|(?P<id>[0-9A-Za-z]{6,}): client=)")


@dataclass(frozen=True)
class Line:
    """A line of a log: its time, the service that wrote it, and its text."""

    time: datetime
    service: str
    text: str

    def __str__(self) -> str:
        """Return it for a terminal."""
        return printable(f"{self.time:%Y-%m-%d %H:%M:%S} {self.service:6} {self.text}")


@dataclass(frozen=True)
class Wanted:
    """What a user asked for: services, `since` (such as 90s, 30m, 1h or 7d; empty for all), and a regular expression.

    Raises Problem for what is none of these.
    """

    services: Sequence[str]
    since: str = ""
    grep: str = ""

    def __post_init__(self) -> None:
        """Check the texts."""
        if self.since and not _SINCE.fullmatch(self.since):
            raise Problem(f"--since {self.since!r} is no time: expected a number and s, m, h or d, such as 30m or 7d")
        try:
            re.compile(self.grep)
        except re.error as error:
            raise Problem(f"--grep {self.grep!r} is no regular expression: {error}") from error

    def _names(self, pod: Pod) -> dict[str, str]:
        """Return the containers of the services, by service. Raises Problem for a service that is none."""
        for service in self.services:
            if service not in pod.containers:
                raise Problem(f"there is no service {service!r}: expected one of {', '.join(pod.containers)}")
        return {
            service: name for service, name in pod.containers.items() if service in self.services or not self.services
        }

    def journal(self, pod: Pod, *, follow: bool) -> list[str]:
        """Return the command that shows the lines from systemd's journal, also those from before the last start."""
        words = [*(["--follow"] if follow else []), *([f"--since=-{self.since}"] if self.since else [])]
        words += ["--case-sensitive=yes", f"--grep={self.grep}"] if self.grep else []
        return systemd.journal(list(self._names(pod).values()), *words)

    def stored(self, pod: Pod) -> Iterator[Line]:
        """Yield the lines that Podman has stored. Raises Problem if there is no such pod."""
        names = self._names(pod)
        if not running.exists(pod):
            raise running.missing(pod)
        logs = [_stored(service, self._podman("--timestamps", name)) for service, name in names.items()]
        found = heapq.merge(*logs, key=lambda line: line.time)
        return (line for line in found if re.search(self.grep, line.text))

    def followed(self, pod: Pod) -> Iterator[str]:
        """Yield the lines, and new ones as they come, each after the name of its container."""
        found = commands.lines(
            self._podman("--follow", "--names", *self._names(pod).values()), env=commands.environment()
        )
        return (printable(line) for line in found if re.search(self.grep, line))

    def _podman(self, *words: str) -> list[str]:
        return ["podman", "logs", *(["--since", _in_hours(self.since)] if self.since else []), *words]


def _in_hours(since: str) -> str:
    """Return a time as Podman takes it, which knows no days."""
    return f"{int(since[:-1]) * 24}h" if since.endswith("d") else since


def _stored(service: str, argv: Sequence[str]) -> Iterator[Line]:
    """Yield the lines of a service. What Podman itself says has no time, and gets that of the line before."""
    time = datetime.fromtimestamp(0, UTC)
    for line in commands.lines(argv, env=commands.environment()):
        first, _, text = line.partition(" ")
        try:
            time = datetime.fromisoformat(first)
        except ValueError:
            text = line
        yield Line(time, service, text)


def timed_lines(pod: Pod, service: str) -> list[str]:
    """Return what a service has logged, in order, each line after its time; none if there is no container."""
    log = commands.podman("logs", "--timestamps", pod.containers[service], check=False)
    return sorted((log.stdout + log.stderr).splitlines()) if log.ok else []


def about_mail(lines: Iterable[Line], word: str) -> list[Line]:
    """Return the lines about the messages that `word` names: an address, a Message-ID or a queue ID.

    A line is about a message if it has the message's queue ID or Message-ID, or if it begins or ends the connection by
    which the message came. Raises Problem if there is no such message.
    """
    known = list(lines)
    named = [(found, line.text) for line in known if (found := _QUEUE_ID.search(line.text))]
    ids = {found[1] for found, text in named if word.strip("<>").lower() in text.lower()}
    ids |= {found[2] for found, _ in named if found[1] in ids and found[2]}
    if not ids:
        raise Problem(f"the log of mail has no message with {word!r}: expected an address, a Message-ID or a queue ID")
    kept = {number for number, line in enumerate(known) if any(each in line.text for each in ids)}
    return [known[number] for number in sorted(kept | _connections(known, ids))]


def _connections(lines: Sequence[Line], ids: set[str]) -> set[int]:
    """Return the numbers of the lines that begin and end the connections by which messages with these IDs came."""
    found, begun, wanted = set[int](), dict[str, int](), set[str]()
    for number, line in enumerate(lines):
        if not (session := _SESSION.search(line.text)):
            continue
        process = session[1]
        if session[2] == "connect":
            begun[process] = number
        elif session["id"] in ids:
            wanted.add(process)
        elif session[2] == "disconnect" and process in wanted:
            wanted.remove(process)
            found |= {number, begun.get(process, number)}
    return found
