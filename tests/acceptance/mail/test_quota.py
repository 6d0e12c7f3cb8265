"""Limits of mailboxes: what a full one refuses and for how long, what is delivered all the same, and who is warned."""

import imaplib
import json
import smtplib

import pytest
from imapclient import IMAPClient
from imapclient.imapclient import Quota

from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.mail import STRANGER, arrived, ordinary
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token

MEBIBYTE = 2**20
FULL = 452, b"4.2.2"
FULL_FOR_DAYS = 552, b"5.2.2"
FREE = 250, b"2.1.5"


def limits_of(client: IMAPClient) -> list[Quota]:
    """Return the limits that IMAP shows, and how much of them is used, in KiB."""
    return list(client.get_quota("INBOX")) if b"QUOTA" in client.capabilities() else []


def limit(test_pod: PodUnderTest, account: Account, size: str) -> None:
    """Set the quota of an account, and wait until Dovecot uses it."""
    test_pod.invoke("users.quota", account.address, size)

    def in_use() -> None:
        with test_pod.server.imap(account) as client:
            if bool(shown := limits_of(client)) != (size != "default"):
                raise NotYet(f"the limits are {shown}")

    wait_until(in_use, 2, f"the quota {size} to be in use")


@pytest.fixture
def small(test_pod: PodUnderTest, new_account: Account) -> Account:
    """An account whose mailbox may have 1 MiB."""
    limit(test_pod, new_account, "1M")
    return new_account


def fill(server: Server, account: Account, part: float) -> None:
    """Put a message into a mailbox of 1 MiB that takes this part of it."""
    with server.imap(account) as client:
        client.append("INBOX", b"Subject: large\r\n\r\n" + b"x" * int(part * MEBIBYTE))


def empty(server: Server, account: Account) -> None:
    """Remove all messages from the INBOX."""
    with server.imap(account) as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search("ALL"))
        client.expunge()


def deliver(client: smtplib.SMTP, server: Server, account: Account, size: int = 100) -> None:
    """Send a message of this size in bytes to an account, and wait until it has arrived."""
    subject = token()
    client.docmd("RSET")
    body = "x\r\n" * (size // 3)
    headers = f"{ordinary(STRANGER, account.address)}Subject: {subject}\r\n\r\n"
    assert not client.sendmail(STRANGER, account.address, headers + body)
    arrived(server, account, subject)


def recipient(client: smtplib.SMTP, address: str, sender: str = STRANGER) -> tuple[int, bytes]:
    """Return the reply to RCPT: its code, and the enhanced code."""
    client.docmd("RSET")
    assert client.docmd("MAIL", f"FROM:<{sender}>")[0] == 250
    code, text = client.docmd("RCPT", f"TO:<{address}>")
    return code, text.split()[0]


def test_imap_and_the_list_of_accounts_show_the_quota(server: Server, test_pod: PodUnderTest, small: Account) -> None:
    fill(server, small, 0.5)
    with server.imap(small) as client:
        (quota,) = limits_of(client)
    assert (quota.resource, quota.limit) == ("STORAGE", 1024)
    assert 512 <= quota.usage < 520
    assert f"{small.address} uses 50 % of 1M" in test_pod.invoke("users.list").stdout.splitlines()
    listed = json.loads(test_pod.invoke("users.list", "--json").stdout)["accounts"]
    (shown,) = [account for account in listed if account["address"] == small.address]
    assert shown["quota"] == MEBIBYTE
    assert shown["used"] == quota.usage * 1024
    assert {account["quota"] for account in listed if account["address"] == test_pod.postmaster.address} == {None}


def test_a_full_mailbox_refuses_mail_for_now_and_after_days_for_good_until_there_is_space(
    server: Server, test_pod: PodUnderTest, small: Account, bob: Account
) -> None:
    name, domain = small.address.split("@")
    with server.smtp() as client, server.submission(bob) as inside:
        assert recipient(client, small.address) == FREE
        fill(server, small, 0.99)
        assert recipient(client, small.address) == FREE
        deliver(client, server, small, 30_000)
        for address in (small.address, f"{name}+tag@{domain}", f"{name.upper()}@{domain}"):
            assert recipient(client, address) == FULL
        assert recipient(inside, small.address, bob.address) == FULL
        assert recipient(client, bob.address) == FREE
        with server.imap(small) as full, pytest.raises(imaplib.IMAP4.error, match=r"OVERQUOTA|Quota exceeded"):
            full.append("INBOX", b"Subject: more\r\n\r\n")

        marker = f"/var/mail/vhosts/{domain}/{name}/full"
        test_pod.exec("mail", "touch", "-d", "73 hours ago", marker)
        assert recipient(client, small.address) == FULL_FOR_DAYS
        assert recipient(inside, small.address, bob.address) == FULL_FOR_DAYS
        empty(server, small)
        assert recipient(client, small.address) == FREE

        fill(server, small, 0.99)
        deliver(client, server, small, 30_000)
        assert recipient(client, small.address) == FULL, "the days are counted anew"
        assert "no quota" in test_pod.invoke("users.quota", small.address, "none").stdout
        wait_until(lambda: _expect(recipient(client, small.address), FREE), 2, "the mailbox to have no limit")


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise NotYet(str(found))


def test_mail_that_was_accepted_is_delivered_to_a_mailbox_that_is_full_meanwhile(
    server: Server, small: Account
) -> None:
    subject = token()
    with server.smtp() as client:
        assert answer(client, STRANGER, small.address) == 250
        fill(server, small, 0.99)
        with server.smtp() as other:
            deliver(other, server, small, 30_000)
        assert client.data(ordinary(STRANGER, small.address) + f"Subject: {subject}\r\n\r\nHi.\r\n")[0] == 250
    arrived(server, small, subject)


def warnings(client: IMAPClient) -> list[bytes]:
    """Return the subjects of the messages from the mail service."""
    client.select_folder("INBOX", readonly=True)
    found = client.fetch(client.search(["SUBJECT", "Your mailbox"]), ["ENVELOPE"])
    return [message[b"ENVELOPE"].subject for message in found.values()]


def test_one_warning_comes_when_a_mailbox_is_nearly_full_and_one_when_it_is_full(
    server: Server, small: Account
) -> None:
    with server.imap(small) as client:

        def wait_for(*subjects: bytes) -> None:
            wait_until(lambda: _expect(warnings(client), list(subjects)), 5, f"these warnings: {subjects}")

        fill(server, small, 0.89)
        fill(server, small, 0.02)
        nearly, full = b"Your mailbox is 90 % full", b"Your mailbox is full"
        wait_for(nearly)
        fill(server, small, 0.02)
        with server.smtp() as stranger:
            deliver(stranger, server, small)
            assert warnings(client) == [nearly]
            deliver(stranger, server, small, 105_000)
        wait_for(nearly, full)


def test_the_postmaster_gets_mail_whatever_its_quota(server: Server, test_pod: PodUnderTest) -> None:
    postmaster = test_pod.postmaster
    limit(test_pod, postmaster, "1M")
    try:
        fill(server, postmaster, 0.9)
        with server.smtp() as client:
            for _ in range(2):
                deliver(client, server, postmaster, 150_000)
            assert recipient(client, f"abuse@{server.domain}") == FREE
    finally:
        limit(test_pod, postmaster, "default")


def test_the_setting_is_the_limit_of_each_account_without_its_own(test_pod: PodUnderTest, new_account: Account) -> None:
    def shows(limits: list[int]) -> None:
        with test_pod.server.imap(new_account) as client:
            _expect([quota.limit for quota in limits_of(client)], limits)

    test_pod.exec("mail", "env", "QUOTA=3M", "mailboxes")
    wait_until(lambda: shows([3072]), 2, "the limit of the setting")
    test_pod.exec("mail", "mailboxes")
    wait_until(lambda: shows([]), 2, "no limit")


def test_for_an_account_without_a_quota_nothing_of_it_is_loaded_and_nobody_is_asked(
    server: Server, test_pod: PodUnderTest, small: Account, bob: Account
) -> None:
    def asked(account: Account) -> bool:
        test_pod.exec("mail", "pkill", "-x", "quota-status", check=False)
        with server.smtp() as client:
            assert recipient(client, account.address) == FREE
        return test_pod.exec("mail", "pgrep", "-x", "quota-status", check=False).ok

    with server.imap(bob) as client, server.imap(small) as limited:
        assert b"QUOTA" not in client.capabilities()
        assert b"QUOTA" in limited.capabilities()
    assert not asked(bob)
    assert asked(small)
