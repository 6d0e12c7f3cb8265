"""Postfix's queue: the messages that wait, since when and why; and what an operator does with them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from podserve import running
from podserve.commands import Result, podman
from podserve.errors import Problem
from podserve.pod import Pod


@dataclass(frozen=True)
class Message:
    """A message in the queue: its queue ID, Postfix's name of the queue, when it came, bytes, and the sender.

    `recipients` are those that have not got it, each with the reason; the reason is empty before the first attempt.
    """

    identity: str
    queue: str
    arrived: datetime
    size: int
    sender: str
    recipients: dict[str, str]

    @property
    def deferred(self) -> bool:
        """Whether a delivery has failed, and is tried again."""
        return any(self.recipients.values())


@dataclass(frozen=True)
class Queue:
    """The messages in the queue, the oldest first."""

    messages: Sequence[Message] = field(default_factory=tuple)

    @property
    def oldest(self) -> Message | None:
        """The deferred message that has waited longest."""
        return next((message for message in self.messages if message.deferred), None)

    @property
    def reason(self) -> str:
        """The commonest reason for which messages wait, in the words of Postfix; empty if none waits."""
        reasons = Counter(reason for message in self.messages for reason in message.recipients.values() if reason)
        return next((reason for reason, _ in reasons.most_common(1)), "")

    def stuck(self, hours: int) -> str:
        """Return the problem if the oldest deferred message has waited for `hours` or longer; otherwise nothing."""
        if self.oldest is None or (waited := datetime.now(UTC) - self.oldest.arrived) < timedelta(hours=hours):
            return ""
        return (
            f"a message has waited in the mail queue for {waited // timedelta(hours=1)} hours (queue_hours: {hours}), "
            f"mostly because: {self.reason}. invoke queue.list shows all; invoke queue.flush tries them now"
        )

    def as_json(self) -> str:
        """Return it as a JSON object: `messages`, each with the fields of Message."""
        return json.dumps({"messages": [asdict(message) for message in self.messages]}, indent=2, default=str)


def _message(line: str) -> Message:
    """Return a message, from a line of postqueue(1) -j."""
    read = json.loads(line)
    recipients = {each["address"]: each.get("delay_reason", "") for each in read["recipients"]}
    arrived = datetime.fromtimestamp(read["arrival_time"], UTC)
    return Message(read["queue_id"], read["queue_name"], arrived, read["message_size"], read["sender"], recipients)


def _postfix(pod: Pod, *words: str) -> Result:
    """Run a program of Postfix in the mail container. Raises Problem if that fails."""
    ran = podman("exec", pod.containers["mail"], *words, check=False)
    if not ran.ok:
        if not running.exists(pod):
            raise running.missing(pod)
        raise Problem(f"{words[0]} failed: {ran.stderr.strip()}. The log may say why: invoke logs --service mail")
    return ran


def read_queue(pod: Pod) -> Queue:
    """Return the queue. Raises Problem if it cannot be read."""
    messages = map(_message, _postfix(pod, "postqueue", "-j").stdout.splitlines())
    return Queue(sorted(messages, key=lambda message: message.arrived))


def _expect(pod: Pod, identity: str) -> None:
    """Raise Problem if no message in the queue has this ID.

    Postfix itself takes ALL for every message.
    """
    if identity not in {message.identity for message in read_queue(pod).messages}:
        raise Problem(f"no message in the queue has the ID {identity!r}: expected one of invoke queue.list")


def flush_queue(pod: Pod, identity: str = "") -> None:
    """Try to deliver all deferred messages now, or one. Raises Problem for an unknown ID."""
    if identity:
        _expect(pod, identity)
    _postfix(pod, "postqueue", *(["-i", identity] if identity else ["-f"]))


def remove_from_queue(pod: Pod, identity: str) -> None:
    """Remove a message; its sender is told nothing. Raises Problem for an unknown ID."""
    _expect(pod, identity)
    _postfix(pod, "postsuper", "-d", identity)


def show_queued(pod: Pod, identity: str) -> str:
    """Return the envelope and the header of a message. Raises Problem for an unknown ID."""
    _expect(pod, identity)
    return _postfix(pod, "postcat", "-e", "-h", "-q", identity).stdout
