"""What the logs of the mail container say about one message: what was decided, by which rules, and where it went."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from podserve import running
from podserve.errors import Problem
from podserve.logs import timed_lines
from podserve.pod import Pod

_TIME = r"(?P<time>\S+) "
_QUEUED = re.compile(_TIME + r".* postfix/(forward/)?cleanup\[\d+\]: (?P<queue>\w+): message-id=(?P<id>.+)")
_JUDGED = re.compile(
    _TIME + r".*rspamd_task_write_log: id: <(?P<id>.*?)>, qid: <(?P<queue>\w+)>, (?P<client>.*?),? "
    r"\((?P<action>[a-z ]+)\): \[(?P<score>[-0-9.]+)/[-0-9.nan]+\] \[(?P<rules>.*)\], time: "
)
_RULE = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*)\((?P<score>[-0-9.]+)\)\{(?P<details>[^}]*)\}")
_POSTFIX = re.compile(_TIME + r"\S+ +\d+ [0-9:]+ \S+ postfix/[a-z/]+\[\d+\]: (?P<queue>\w+): (?P<said>.*)")
_DOVECOT = re.compile(_TIME + r".* lmtp\((?P<account>[^)]*)\).*: (?P<said>sieve: msgid=(?P<id>.*?): .*)")
_SAID = "client=", "info:", "to=", "milter-reject", "milter-header-reject", "reject", "discard", "removed"


@dataclass(frozen=True)
class Rule:
    """A rule of the filter that applied: its name (as at rspamd.com/doc), its score, and what it saw."""

    name: str
    score: float
    details: str


@dataclass(frozen=True)
class Judgement:
    """What the filter decided: when, about whom, its action, the score, and the rules by what they counted."""

    time: str
    client: str
    action: str
    score: float
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Story:
    """All about a message: the filter's judgements, and what Postfix and Dovecot did, each line after its time.

    `message_id` is what was asked for if the log has no Message-ID.
    """

    message_id: str
    judgements: tuple[Judgement, ...]
    events: tuple[str, ...]

    def as_json(self) -> str:
        """Return it as a JSON object."""
        return json.dumps(asdict(self), indent=2)


def _judgement(found: re.Match[str]) -> Judgement:
    rules = [Rule(r["name"], float(r["score"]), r["details"].strip(";")) for r in _RULE.finditer(found["rules"])]
    rules.sort(key=lambda rule: -abs(rule.score))
    return Judgement(found["time"], found["client"], found["action"], float(found["score"]), tuple(rules))


def read_log(lines: Sequence[str], identity: str) -> Story:
    """Return what the lines of a log, each after its time, say about a message.

    `identity` is its Message-ID without angle brackets, or the queue ID that a Received header of this server names.
    A rspamd of another version may write other lines: then `judgements` is empty.
    """
    queued = [found for line in lines if (found := _QUEUED.match(line)) and identity in _identities(found)]
    queues = {found["queue"] for found in queued}
    ids = {identity, *(_identities(found)[1] for found in queued)} - {""}
    judgements, events = list[Judgement](), list[str]()
    for line in lines:
        if (found := _JUDGED.match(line)) and (found["id"] in ids or found["queue"] in queues):
            judgements.append(_judgement(found))
        elif (found := _POSTFIX.match(line)) and found["queue"] in queues and found["said"].startswith(_SAID):
            events.append(f"{found['time']} {found['said']}")
        elif (found := _DOVECOT.match(line)) and found["id"].strip("<>") in ids:
            events.append(f"{found['time']} {found['account']}: {found['said'].rpartition(': ')[2]}")
    return Story(next((_identities(found)[1] for found in queued), identity), tuple(judgements), tuple(events))


def _identities(queued: re.Match[str]) -> tuple[str, str]:
    return queued["queue"], queued["id"].strip("<>")


def told_about(pod: Pod, identity: str) -> Story:
    """Return what the logs say about a message, by its Message-ID or queue ID. Raises Problem if there is none."""
    if not running.exists(pod):
        raise running.missing(pod)
    lines = timed_lines(pod, "mail")
    wanted = identity.strip().strip("<>")
    found = read_log(lines, wanted)
    if not found.judgements and not found.events:
        begin = lines[0].partition(" ")[0] if lines else "now"
        raise Problem(
            f"the log of mail, which begins at {begin}, has no message with the ID {wanted!r}. Expected what the "
            "message's header Message-ID says, or what follows `id` in a Received header of this server. A "
            "message that was judged also says why in X-Spamd-Result"
        )
    return found
