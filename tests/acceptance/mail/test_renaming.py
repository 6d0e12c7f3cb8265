"""Renamed accounts and domains: what clients keep, what is refused, and that no mail is lost meanwhile."""

import poplib
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from imapclient.exceptions import LoginError

from podserve.commands import ROOT
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until
from tests.testbed.concurrency import meanwhile
from tests.testbed.mail import STRANGER, arrived, queued, wait_until_answered
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server, letter, token

SCRIPT = 'require ["fileinto", "mailbox"]; if header :contains "Subject" "news" {{ fileinto :create "{}"; }}'


def send(server: Server, recipient: str, subject: str = "") -> str:
    """Send a message from a stranger, and return its subject."""
    subject = subject or token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, recipient, subject), STRANGER, [recipient])
    return subject


def rename(test_pod: PodUnderTest, account: Account, *options: str, domain: str = "") -> Account:
    """Rename an account by the task, and return it with its new address."""
    new = replace(account, address=f"{token()}@{domain or account.address.partition('@')[2]}")
    told = test_pod.invoke("users.rename", account.address, new.address, *options).stdout
    assert f"{account.address} is {new.address} now" in told
    return new


def seen(server: Server, account: Account, folder: str) -> object:
    """Return what a mail program keeps of a folder: its UIDVALIDITY, and the flags and subject of each UID."""
    with server.imap(account) as client:
        chosen = client.select_folder(folder, readonly=True)
        there = client.fetch(client.search(), ["FLAGS", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"])
        return chosen[b"UIDVALIDITY"], {uid: (one[b"FLAGS"], one[b"BODY[HEADER.FIELDS (SUBJECT)]"])
                                        for uid, one in there.items()}  # fmt: skip


def test_a_renamed_account_keeps_its_mail_flags_rules_aliases_files_quota_and_password(
    test_pod: PodUnderTest, server: Server, new_account: Account
) -> None:
    folder, alias = f"v1.5 {token()}", f"{token()}@{server.domain}"
    with server.rules(new_account) as rules:
        assert rules.putscript("mine", SCRIPT.format(folder))
        assert rules.setactive("mine")
    test_pod.invoke("aliases.add", alias, new_account.address)
    test_pod.invoke("users.quota", new_account.address, "2G")
    with server.http(new_account) as client:
        assert client.put(f"/webdav/home/{new_account.local_part}/file", content="hers").status_code == 201
    assert arrived(server, new_account, send(server, new_account.address))
    with server.imap(new_account) as client:
        client.create_folder(folder)
        client.select_folder("INBOX")
        client.add_flags(client.search(), ["\\Flagged", "$Label1"])
        client.copy(client.search(), folder)
    before = [seen(server, new_account, place) for place in ("INBOX", folder)]
    app_password = test_pod.invoke("users.token", new_account.address, "phone").stdout.splitlines()[0]

    new = rename(test_pod, new_account)
    assert [seen(server, new, place) for place in ("INBOX", folder)] == before
    with server.rules(new) as rules:
        assert rules.listscripts() == ("mine", [])
    assert arrived(server, new, send(server, alias))
    with server.submission(new) as sender:
        sender.send_message(letter(alias, new.address, subject := token()))
    assert arrived(server, new, subject)
    subject = send(server, new.address, f"news {token()}")

    def filed() -> None:
        with server.imap(new) as mailbox:
            mailbox.select_folder(folder, readonly=True)
            if not mailbox.search(["SUBJECT", subject]):
                raise NotYet("it is not in the folder")

    wait_until(filed, 10, "the rule to file a message")
    with server.imap(new) as mailbox:
        assert mailbox.get_quota()[0].limit == 2 * 2**20
    with server.http(new) as client:
        assert client.get(f"/webdav/home/{new.local_part}/file").text == "hers"
    with server.imap(replace(new, password=app_password)) as mailbox:
        assert mailbox.folder_exists(folder)
    listed = test_pod.invoke("users.list").stdout
    assert f"{new.address} uses 0 % of 2G" in listed
    assert new_account.address not in listed


def test_nobody_logs_in_by_the_old_name_or_writes_to_it(
    test_pod: PodUnderTest, server: Server, new_account: Account
) -> None:
    new = rename(test_pod, new_account)
    for error, session in (
        (LoginError, server.imap(new_account)),
        (poplib.error_proto, server.pop3(new_account)),
        (smtplib.SMTPAuthenticationError, server.submission(new_account)),
        (LoginError, server.rules(new_account)),
    ):
        with pytest.raises(error), session:
            pass
    with server.http(new_account) as client:
        assert client.get("/webdav/").status_code == 401
    with server.http(new) as client:
        assert client.get(f"/webdav/home/{new_account.local_part}/").status_code == 403
    wait_until_answered(server, new_account.address, 550)
    with server.imap(new), server.pop3(new), server.submission(new), server.rules(new):
        pass


def test_an_old_address_may_stay_as_an_alias(test_pod: PodUnderTest, server: Server, new_account: Account) -> None:
    new = rename(test_pod, new_account, "--alias")
    assert arrived(server, new, send(server, new_account.address))
    with server.submission(new) as client:
        client.send_message(letter(new_account.address, new.address, subject := token()))
    assert arrived(server, new, subject)


@contextmanager
def arriving(server: Server, recipients: list[str]) -> Iterator[list[str]]:
    """Send messages to each of these in turn during the body; yield the subjects of those that were taken.

    A message may be refused for now (4xx), and never for good.
    """
    subjects, failures = list[str](), list[smtplib.SMTPResponseException]()

    def keep_sending(over: threading.Event) -> None:
        with server.smtp() as client:
            while not over.is_set():
                for recipient in recipients:
                    client.docmd("MAIL", f"FROM:<{STRANGER}>")
                    code, said = client.docmd("RCPT", f"TO:<{recipient}>")
                    if code == 250:
                        code, said = client.data(letter(STRANGER, recipient, subject := token()).as_bytes())
                    if code == 250:
                        subjects.append(subject)
                    elif code >= 500:
                        failures.append(smtplib.SMTPResponseException(code, said))
                    client.rset()

    with meanwhile(keep_sending):
        yield subjects
    assert not failures, failures[0]


def test_mail_that_arrives_during_a_renaming_arrives_once(
    test_pod: PodUnderTest, server: Server, new_account: Account
) -> None:
    alias = f"{token()}@{server.domain}"
    test_pod.invoke("aliases.add", alias, new_account.address)
    wait_until_answered(server, alias, 250)
    account = new_account
    with arriving(server, [new_account.address, alias]) as sent:
        for _ in range(3):
            account = rename(test_pod, account, "--alias")
    wanted = set(sent)

    def complete() -> None:
        with server.imap(account) as client:
            found = list[str]()
            for folder in ("INBOX", "Junk"):
                client.select_folder(folder, readonly=True)
                for one in client.fetch(client.search(), ["ENVELOPE"]).values():
                    found.append(one[b"ENVELOPE"].subject.decode())
        if missing := wanted - set(found):
            raise NotYet(f"{len(missing)} of {len(wanted)} have not arrived")
        assert len(found) == len(wanted), "some arrived twice"

    assert len(wanted) > 20
    wait_until(complete, 60, "all mail to arrive")


def test_mail_that_waits_for_the_old_name_reaches_the_new_one(
    test_pod: PodUnderTest, server: Server, new_account: Account
) -> None:
    test_pod.exec("mail", "s6-svc", "-wd", "-d", "/run/s6/dovecot")
    try:
        subject = send(server, new_account.address)

        def held() -> str:
            found = queued(test_pod, new_account.local_part)
            if not found:
                raise NotYet("it is not in the queue")
            return found[0]

        identity = wait_until(held, 10, "the message to wait")
        test_pod.exec("mail", "postsuper", "-h", identity)
    finally:
        test_pod.exec("mail", "s6-svc", "-u", "/run/s6/dovecot")
    test_pod.wait_until_known(new_account)
    new = rename(test_pod, new_account)
    test_pod.exec("mail", "postsuper", "-H", identity)
    test_pod.exec("mail", "postqueue", "-i", identity)
    assert arrived(server, new, subject)
    wait_until_answered(server, new_account.address, 550)


def test_a_renaming_that_was_killed_defers_mail_and_is_completed_by_the_same_command(
    test_pod: PodUnderTest, server: Server, new_account: Account
) -> None:
    new, file = replace(new_account, address=f"{token()}@{server.domain}"), test_pod.folder("accounts") / "renamed"
    command = sys.executable, "-m", "invoke", "users.rename", new_account.address, new.address
    with subprocess.Popen(command, cwd=ROOT, env=test_pod.environment) as task:

        def begun() -> None:
            if not (file.exists() and f"{new_account.address} {new.address} moving" in file.read_text()):
                raise NotYet("it has not begun")

        wait_until(begun, 20, "the renaming to begin")
        task.kill()

    def deferred() -> None:
        if test_pod.exec("mail", "doveadm", "user", new_account.address, check=False).code != 75:
            raise NotYet("it is not deferred")

    wait_until(deferred, 5, "the account to be deferred")
    subject = send(server, new_account.address)
    with pytest.raises(LoginError), server.imap(new_account):
        pass
    test_pod.invoke("users.rename", new_account.address, new.address)
    assert arrived(server, new, subject)


@pytest.mark.parametrize("name", ["bob", "x@elsewhere.example", "../x"])
def test_a_name_that_is_taken_or_elsewhere_is_refused(
    test_pod: PodUnderTest, server: Server, new_account: Account, bob: Account, name: str
) -> None:
    refused = test_pod.invoke("users.rename", new_account.address, name, check=False)
    assert (refused.code, refused.stderr.startswith("podserve: ")) == (1, True)
    with server.imap(new_account), server.imap(bob):
        pass


def test_a_change_of_the_domain_strands_nobody() -> None:
    """The order of docs/operation.md: the settings and `up`, then `users.rename --domain`, then the settings again."""
    old_domain, new_domain = "old.sethlakowske.com", "new.sethlakowske.com"
    with play_test_pod("-moving", domain=old_domain) as old:
        alice, info = old.new_account("alice"), f"info@{old_domain}"
        old.invoke("aliases.add", "info", "alice")
        wait_until_answered(old.server, info, 250)
        with old.server.http(alice) as client:
            assert client.put("/webdav/home/alice/file", content="hers").status_code == 201
        kept = [arrived(old.server, account, send(old.server, account.address)) for account in (alice, old.postmaster)]

        refused = old.invoke("up", check=False, INVOKE_DOMAIN=new_domain)
        assert f'mail_domains: "{old_domain}"' in " ".join(refused.stderr.split())
        both = partial(old.invoke, INVOKE_DOMAIN=new_domain, INVOKE_MAIL_DOMAINS=old_domain, INVOKE_MAIL_HOST="",
                       INVOKE_FILES_HOST="")  # fmt: skip
        early = both("users.rename", "--domain", old_domain, new_domain, check=False)
        assert "the domains are others than at the last up" in early.stderr
        both("up")
        settings = replace(old.settings, domain=new_domain, mail_domains=(old_domain,), mail_host=f"mail.{new_domain}",
                           files_host=f"mail.{new_domain}")  # fmt: skip
        new = replace(old, pod=Pod.of(settings))
        with new.server.http(alice) as client:
            assert client.get(f"/webdav/home/{alice.address}/file").text == "hers"
        with arriving(new.server, [alice.address, info]) as sent:
            new.invoke("users.rename", "--domain", old_domain, new_domain, "--alias")
        alice_now = replace(alice, address=f"alice@{new_domain}")
        postmaster = replace(old.postmaster, address=f"postmaster@{new_domain}")
        with new.server.imap(alice_now) as client:
            client.select_folder("INBOX", readonly=True)
            assert client.fetch("1", ["BODY.PEEK[]"])[1][b"BODY[]"] == kept[0]
        for recipient, account in ((alice.address, alice_now), (f"info@{new_domain}", alice_now), (info, alice_now),
                                   (f"postmaster@{old_domain}", postmaster)):  # fmt: skip
            assert arrived(new.server, account, send(new.server, recipient))
        for subject in sent:
            assert arrived(new.server, alice_now, subject)
        with new.server.imap(postmaster) as client:
            client.select_folder("INBOX", readonly=True)
            assert client.fetch("1", ["BODY.PEEK[]"])[1][b"BODY[]"] == kept[1]
        with new.server.http(alice_now) as client:
            assert client.get("/webdav/home/alice/file").text == "hers"
        assert new.invoke("users.list").stdout.splitlines() == [f"alice@{new_domain}", f"postmaster@{new_domain}"]
