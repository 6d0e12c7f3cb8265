"""Sums up the reports that other mail servers send to postmaster@: DMARC aggregate reports and TLS reports.

They come from strangers, so everything in them is bounded, and may be invented. The formats are XML and JSON of a few
fields. parsedmarc would bring 33 more packages for them (lxml, httpx, a client of mailboxes), defusedxml brings none.
"""

import datetime as dt
import email
import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email import policy
from typing import Any

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from podserve import volumes
from podserve.errors import printable
from podserve.folder import Folder
from podserve.pod import Pod

DAYS = 8
"""Days that are looked at. Reports come once a day, and are about the day before."""
_LARGEST_MESSAGE, _LARGEST_REPORT, _MOST = 2**20, 2**23, 2000
"""Bytes of a message that is looked at, bytes of an unpacked report, messages that are looked at: the newest."""
_DIGITS = 9


@dataclass(frozen=True)
class Sender:
    """An address that sent mail as the domain, how much, and what receivers did with it (RFC 7489: disposition)."""

    address: str
    messages: int
    disposition: str
    ours: bool


@dataclass(frozen=True)
class Reports:
    """The sums: reports by kind, messages that passed DMARC, those that did not, sessions with TLS, and those without.

    `failed` are mail senders that are not this server, or whose mail did not pass. `tls_failures` are numbers of
    sessions by reason (RFC 8460, section 4.3). `by` are the organisations that sent the reports.
    """

    dmarc: int = 0
    tls: int = 0
    unreadable: int = 0
    passed: int = 0
    failed: tuple[Sender, ...] = ()
    tls_sessions: int = 0
    tls_failures: dict[str, int] = field(default_factory=dict)
    by: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What needs attention, in one line; empty if nothing does."""
        others = sum(sender.messages for sender in self.failed if not sender.ours)
        own = sum(sender.messages for sender in self.failed if sender.ours)
        failures = sum(self.tls_failures.values())
        lines = [f"{others} messages of other servers claimed to be from this domain"] if others else []
        lines += [f"{own} messages of this server did not pass DMARC"] if own else []
        lines += [f"{failures} connections failed to encrypt, or to verify this server"] if failures else []
        return f"{'; '.join(lines)} (invoke mail.reports)" if lines else ""

    @property
    def lines(self) -> list[str]:
        """The sums as a person reads them."""
        by = f" from {', '.join(self.by)}" if self.by else ""
        return [
            f"{self.dmarc} DMARC reports and {self.tls} TLS reports of the last {DAYS} days{by}",
            *([f"{self.unreadable} attachments were no reports"] if self.unreadable else []),
            f"{self.passed} messages of the domain passed DMARC",
            *(f"{one.messages} messages from {one.address}{' (this server)' if one.ours else ''} did not pass: "
              f"{one.disposition or 'none'}" for one in self.failed),
            f"{self.tls_sessions} connections to this server were encrypted as they should be",
            *(f"{number} were not: {reason}" for reason, number in self.tls_failures.items()),
        ]  # fmt: skip

    def json(self) -> str:
        """Return it as a JSON object with the fields of this class and `said`."""
        return json.dumps({**asdict(self), "said": self.said}, indent=2)


def _number(text: str | int | None) -> int:
    """Return a number in a report; 0 for anything that is none."""
    found = str(text or "").strip()
    return int(found) if found.isascii() and found.isdigit() and len(found) <= _DIGITS else 0


def _unpacked(content: bytes) -> bytes:
    """Return the report in an attachment: unpacked, if it is packed. Raises ValueError, zlib.error, BadZipFile."""
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(archive.namelist()[0]) as file:
            found = file.read(_LARGEST_REPORT + 1)
    elif content.startswith(b"\x1f\x8b"):
        found = zlib.decompressobj(wbits=31).decompress(content, _LARGEST_REPORT + 1)
    else:
        found = content
    if len(found) > _LARGEST_REPORT:
        raise ValueError("it is too large")
    return found


def _attachments(message: bytes) -> Iterator[bytes]:
    """Yield the parts of a message that may be reports."""
    for part in email.message_from_bytes(message, policy=policy.compat32).walk():
        kind, name = part.get_content_type(), str(part.get_filename() or "")
        if kind.endswith(("zip", "gzip", "xml")) or "tlsrpt" in kind or name.endswith((".gz", ".zip", ".xml", ".json")):
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                yield content


def _messages(folder: Folder, since: float) -> Iterator[bytes]:
    """Yield the messages in a Maildir with all its folders that came since a time, the newest first."""
    found = []
    for place in folder.walk():
        if place.parts and place.parts[-1] in {"cur", "new"}:
            there = folder.enter(*place.parts)
            stats = ((there.look(name), there, name) for name in place.files)
            found += [(stat.st_mtime, there, name) for stat, there, name in stats
                      if stat and stat.st_mtime >= since and stat.st_size <= _LARGEST_MESSAGE]  # fmt: skip
    for _, there, name in sorted(found, key=lambda one: one[0], reverse=True)[:_MOST]:
        if content := there.read(name, _LARGEST_MESSAGE):  # a mail program may have moved it
            yield content


class _Sums:
    """The sums of the reports so far."""

    def __init__(self, pod: Pod) -> None:
        self._domains = pod.settings.domains
        self._own = {str(address) for address in pod.settings.public_address}
        self._seen, self._by = set[tuple[str, str]](), set[str]()
        self._senders, self._failures = Counter[tuple[str, str]](), Counter[str]()
        self._kinds, self._passed, self._sessions = Counter[str](), 0, 0

    def add(self, content: bytes) -> None:
        """Add a report, unless it is about another domain, or a copy of an earlier one."""
        try:
            text = _unpacked(content).lstrip(b"\xef\xbb\xbf \r\n\t")
            (self._add_tls if text.startswith(b"{") else self._add_dmarc)(text)
        except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError, NotImplementedError,
                zlib.error, zipfile.BadZipFile, SyntaxError, DefusedXmlException):  # fmt: skip
            self._kinds["unreadable"] += 1  # ParseError is a SyntaxError

    def _is_new(self, kind: str, by: str, identifier: str) -> bool:
        new = (by, identifier) not in self._seen
        self._seen.add((by, identifier))
        if new:
            self._kinds[kind] += 1
            self._by.add(printable(by)[:100])
        return new

    def _add_dmarc(self, text: bytes) -> None:
        root: Any = ElementTree.fromstring(text, forbid_dtd=True)
        domain = (root.findtext("{*}policy_published/{*}domain") or "").strip().lower()
        by, identifier = (
            root.findtext(f"{{*}}report_metadata/{{*}}{name}") or "" for name in ("org_name", "report_id")
        )
        if root.tag.rpartition("}")[2] != "feedback" or not domain:
            raise ValueError("it is no DMARC report")
        if domain not in self._domains or not self._is_new("dmarc", by, identifier):
            return
        for row in root.iterfind("{*}record/{*}row"):
            number = _number(row.findtext("{*}count"))
            address = printable((row.findtext("{*}source_ip") or "").strip())[:45]
            said = {name: (row.findtext(f"{{*}}policy_evaluated/{{*}}{name}") or "").strip()
                    for name in ("dkim", "spf", "disposition")}  # fmt: skip
            if "pass" in {said["dkim"], said["spf"]}:
                self._passed += number
            else:
                self._senders[address, printable(said["disposition"])[:20]] += number

    def _add_tls(self, text: bytes) -> None:
        root = json.loads(text)
        if not self._is_new("tls", str(root["organization-name"]), str(root["report-id"])):
            return
        for one in root["policies"]:
            if str(one["policy"]["policy-domain"]).lower() not in self._domains:
                continue
            summary = one["summary"]
            self._sessions += _number(summary["total-successful-session-count"])
            details = one.get("failure-details", [])
            for detail in details:
                self._failures[printable(str(detail["result-type"]))[:60]] += _number(detail["failed-session-count"])
            if not details and (failed := _number(summary["total-failure-session-count"])):
                self._failures["no reason given"] += failed

    def reports(self) -> Reports:
        """Return the sums."""
        kinds = self._kinds
        failed = [Sender(address, number, done, address in self._own)
                  for (address, done), number in self._senders.most_common() if number]  # fmt: skip
        return Reports(kinds["dmarc"], kinds["tls"], kinds["unreadable"], self._passed, tuple(failed), self._sessions,
                       {reason: number for reason, number in self._failures.most_common() if number},
                       tuple(sorted(self._by)))  # fmt: skip


def received(pod: Pod, days: int = DAYS) -> Reports:
    """Return the sums of the reports that came in the last days to the mailbox of postmaster@."""
    sums, since = _Sums(pod), (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).timestamp()
    volume, settings = volumes.folder(pod.volumes["mail"].name), pod.settings
    there = volume
    for name in (settings.domain, settings.postmaster, "Maildir"):
        if not there.has_folder(name):
            return sums.reports()
        there = there.enter(name)
    with suppress(FileNotFoundError):  # a folder that a mail program has just removed
        for message in _messages(there, since):
            for content in _attachments(message):
                sums.add(content)
    return sums.reports()
