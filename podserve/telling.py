"""Mail to the postmaster about the pod's own problems, once a day for each."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path

from podserve.commands import podman
from podserve.errors import Problem, printable
from podserve.folder import Folder
from podserve.pod import Pod

OFTEN = timedelta(days=1)
"""The time after which a problem that lasts is told again."""


def _kind(problem: str) -> str:
    """Return a problem without its numbers, which change while it lasts (days left, MiB free)."""
    return re.sub(r"\d+", "#", problem)


def untold(problems: Sequence[str], told: Mapping[str, datetime], now: datetime) -> list[str]:
    """Return the problems that were not told within OFTEN. `told` holds the last times by what `_kind` returns."""
    return [each for each in problems if _kind(each) not in told or now - told[_kind(each)] >= OFTEN]


def _file(pod: Pod) -> Path:
    """Return the file with the last times, beside the pod's lock. `down` does not remove it."""
    return pod.state / f"{pod.name}.told"


def tell_postmaster(pod: Pod, problems: Sequence[str]) -> list[str]:
    """Mail the problems that were not told today to the postmaster, in one message; return them.

    Raises Problem if the message cannot be delivered. Then the same problems are told by the next call.
    """
    now, file = datetime.now(UTC), _file(pod)
    told = {kind: time for kind, time in _read(pod).items() if now - time < OFTEN}
    if not (due := untold(problems, told, now)):
        return []
    _deliver(pod, due, now)
    told |= {_kind(each): now for each in due}
    with Folder.at(file.parent).replacing(file.name, 0o644) as opened:
        opened.write(json.dumps({kind: time.isoformat() for kind, time in told.items()}).encode())
    return due


def _read(pod: Pod) -> dict[str, datetime]:
    """Return when each problem was told. A file that cannot be read counts as none: told twice is better than never."""
    try:
        read = json.loads(_file(pod).read_text())
        return {kind: datetime.fromisoformat(time) for kind, time in read.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _deliver(pod: Pod, problems: Sequence[str], now: datetime) -> None:
    """Deliver a message to the postmaster's mailbox. Dovecot does it, because the queue may be what is stuck."""
    account, message = pod.settings.postmaster_address, EmailMessage()
    message["From"] = f"PodServe <postmaster@{pod.settings.domain}>"
    message["To"] = account
    message["Subject"] = f"{pod.name} has {len(problems)} problem{'s'[: len(problems) > 1]}"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=pod.settings.domain)
    message["Auto-Submitted"] = "auto-generated"
    listed = "".join(f"- {problem}\n" for problem in problems)
    message.set_content(f"invoke status found:\n\n{printable(listed)}\nEach is told once a day while it lasts.\n")
    words = "/usr/lib/dovecot/dovecot-lda", "-o", "log_path=/dev/null", "-d", account, "-f", ""
    done = podman("exec", "--interactive", "--user", "vmail", pod.containers["mail"], *words,
                  stdin=message.as_string(), check=False)  # fmt: skip
    if not done.ok:
        raise Problem(f"no message was delivered to {account}: {done.stderr.strip()}. Then: invoke status")
