"""The sums of reports in postmaster's mailbox, and what is no report."""

import gzip
import json
import os
import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from podserve import mail_reports, volumes
from podserve.folder import Folder
from podserve.mail_reports import Reports, Sender
from tests.testbed.reports import dmarc_report, report_letter, tls_report, zipped
from tests.unit.helpers import pod_with

DOMAIN, OWN = "lab.sethlakowske.com", "203.0.113.7"


@pytest.fixture
def maildir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Postmaster's mailbox."""
    made = tmp_path / DOMAIN / "postmaster" / "Maildir"
    for folder in ("new", "cur", ".Reports/cur"):
        (made / folder).mkdir(parents=True)
    monkeypatch.setattr(volumes, "folder", lambda _: Folder.at(tmp_path))
    return made


def put(folder: Path, content: bytes, kind: str = "") -> Path:
    """Put a message with a report into a folder."""
    file = folder / f"{time.time_ns()}.host"
    file.write_bytes(report_letter("postmaster", "A report", content, kind).as_bytes())
    return file


def received() -> Reports:
    """Return the sums."""
    return mail_reports.received(pod_with(public_address=OWN))


def test_reports_in_all_folders_are_summed_up_and_each_counts_once(maildir: Path) -> None:
    rows = [(OWN, 10, "pass", "none"), ("192.0.2.9", 3, "fail", "quarantine"), (OWN, 1, "fail", "none")]
    for folder in ("new", "cur"):
        put(maildir / folder, dmarc_report(DOMAIN, "1", rows), "zip")
    put(maildir / ".Reports/cur", dmarc_report(DOMAIN, "2", [("192.0.2.9", 4, "fail", "quarantine")]))
    put(maildir / "new", tls_report(DOMAIN, "3", 100, {"certificate-expired": 2}), "tlsrpt+gzip")
    put(maildir / "new", dmarc_report("example.org", "4", rows))
    seen = received()
    assert seen == Reports(
        2, 1, 0, 10, (Sender("192.0.2.9", 7, "quarantine", ours=False), Sender(OWN, 1, "none", ours=True)),
        100, {"certificate-expired": 2}, ("example.com", "example.net"),
    )  # fmt: skip
    assert seen.said == (
        "7 messages of other servers claimed to be from this domain; 1 messages of this server did not pass DMARC; "
        "2 connections failed to encrypt, or to verify this server (invoke mail.reports)"
    )
    assert json.loads(seen.json())["said"] == seen.said
    assert "7 messages from 192.0.2.9 did not pass: quarantine" in seen.lines


def test_without_reports_nothing_needs_attention(maildir: Path) -> None:
    assert received().said == ""
    old = put(maildir / "new", dmarc_report(DOMAIN, "1", [("192.0.2.9", 3, "fail", "none")]))
    os.utime(old, (0, 0))
    plain = EmailMessage()
    plain.set_content("<feedback>")
    (maildir / "new" / "plain").write_bytes(plain.as_bytes())
    assert received() == Reports()


BOMB = dmarc_report(DOMAIN, "&b;", []).replace(
    b"<feedback>", b'<!DOCTYPE feedback [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><feedback>'
)
DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "zip"), (b"<feedback", "zip"), (b"<html/>", ""), (BOMB, ""), (BOMB.decode().encode("utf-16"), ""),
        (b"{}", "tlsrpt+gzip"), (b"{" + DEEP, "tlsrpt+gzip"), (b'{"organization-name": 1, "report-id": 2}', ""),
        (b" " * 2**24, "zip"), (b" " * 2**24, ""), (b"\xff\xfe\x00", ""), (b"<a>" * 200_000, ""),
        (dmarc_report("", "1", []), ""), (zipped(b"<feedback/>"), ""),
    ],
)  # fmt: skip
def test_what_is_no_report_is_counted_and_harms_nothing(maildir: Path, content: bytes, kind: str) -> None:
    put(maildir / "new", content, kind)
    put(maildir / "new", dmarc_report(DOMAIN, "1", [("192.0.2.9", 3, "fail", "none")]))
    assert (received().unreadable, received().dmarc) == (1, 1)


@pytest.mark.parametrize("number", ["-3", "3e9", "٣", "9" * 30, ""])
def test_a_number_that_is_none_counts_for_nothing_and_no_text_controls_the_terminal(maildir: Path, number: str) -> None:
    text = dmarc_report(DOMAIN, "1", [("192.0.2.9\x9b31m", 3, "fail", "none\n")])
    put(maildir / "new", text.replace(b">3<", f">{number}<".encode()))
    put(maildir / "new", text.replace(b">1<", b">2<"))
    seen = received()
    assert sum(sender.messages for sender in seen.failed) == 3
    assert all(line.isprintable() for line in seen.lines)


def test_a_damaged_archive_is_counted(maildir: Path) -> None:
    message = report_letter("postmaster", "A report", b"x")
    for content in (zipped(b"x" * 1000)[:60], gzip.compress(b"x" * 1000)[:20], b"PK\x03\x04", b"\x1f\x8b"):
        message.add_attachment(content, "application", "zip")
    (maildir / "new" / "damaged").write_bytes(message.as_bytes())
    assert received().unreadable == 5
