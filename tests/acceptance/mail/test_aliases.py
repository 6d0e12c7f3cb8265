"""Aliases: who gets their mail and may send as them, and what is refused."""

import json
import smtplib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.mail import STRANGER, arrived, wait_until_answered
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token


def add(test_pod: PodUnderTest, alias: str, *targets: Account | str) -> None:
    """Add an alias by the task, and wait until Postfix knows it: 2 s."""
    words = [target if isinstance(target, str) else target.address for target in targets]
    test_pod.invoke("aliases.add", alias, ",".join(words))
    wait_until_answered(test_pod.server, f"{token() if alias == '@' else alias}@{test_pod.server.domain}", 250)


def send(server: Server, recipient: str) -> str:
    """Send a message from a stranger, and return its subject."""
    subject = token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, recipient, subject), STRANGER, [recipient])
    return subject


def test_mail_to_an_alias_reaches_each_of_its_targets_within_two_seconds_and_to_its_tags_too(
    test_pod: PodUnderTest, server: Server, alice: Account, bob: Account
) -> None:
    alias, outer = token(), token()
    test_pod.invoke("aliases.add", alias, alice.local_part)
    test_pod.invoke("aliases.add", alias, bob.address.upper())
    added = time.monotonic()
    wait_until_answered(server, f"{alias}@{server.domain}", 250)
    assert time.monotonic() - added < 2
    add(test_pod, outer, alias)
    for recipient in (f"{alias}@{server.domain}", f"{outer.upper()}+tag@{server.domain}"):
        subject = send(server, recipient)
        for account in (alice, bob):
            assert arrived(server, account, subject)
    listed = json.loads(test_pod.invoke("aliases.list", "--json").stdout)["aliases"]
    targets = [alice.address, bob.address]
    assert {"address": f"{alias}@{server.domain}", "targets": targets, "in_use": True} in listed
    assert f"{alias}@{server.domain}: {', '.join(targets)}" in test_pod.invoke("aliases.list").stdout.splitlines()


def test_a_removed_target_gets_no_more_mail_and_mail_to_a_removed_alias_is_refused(
    test_pod: PodUnderTest, server: Server, alice: Account, new_account: Account
) -> None:
    alias, other = token(), token()
    add(test_pod, alias, alice, new_account)
    add(test_pod, other, new_account)
    test_pod.invoke("aliases.remove", alias, "--targets", new_account.address)
    assert f"{alias}@{server.domain}: {alice.address}" in test_pod.invoke("aliases.list").stdout.splitlines()
    test_pod.invoke("aliases.remove", other)
    wait_until_answered(server, f"{other}@{server.domain}", 550)
    subject = send(server, f"{alias}@{server.domain}")
    assert arrived(server, alice, subject)
    with server.imap(new_account) as client:
        assert client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"] == 0


def test_the_catch_all_gets_what_is_nobodys_and_only_that(
    test_pod: PodUnderTest, server: Server, alice: Account, bob: Account
) -> None:
    alias = token()
    add(test_pod, alias, bob)
    add(test_pod, "@", alice)
    try:
        assert arrived(server, alice, send(server, f"{token()}@{server.domain}"))
        for recipient, account in (
            (alias, bob),
            (bob.local_part, bob),
            (f"{bob.local_part}+{token()}", bob),
            ("postmaster", test_pod.postmaster),
            ("abuse", test_pod.postmaster),
        ):
            assert arrived(server, account, send(server, f"{recipient}@{server.domain}"))
        with server.submission(alice) as client:
            assert answer(client, f"{token()}@{server.domain}", alice.address) == 553
            assert answer(client, f"{alias}@{server.domain}", alice.address) == 553
    finally:
        test_pod.invoke("aliases.remove", f"@{server.domain}")
    wait_until_answered(server, f"{token()}@{server.domain}", 550)


def test_an_owner_sends_as_the_alias_and_nobody_else_does(
    test_pod: PodUnderTest, server: Server, alice: Account, bob: Account, new_account: Account
) -> None:
    alias, outer = (f"{token()}@{server.domain}" for _ in range(2))
    test_pod.invoke("aliases.add", alias, f"{alice.address},{new_account.address}")
    add(test_pod, outer.partition("@")[0], alias)
    for owner in (alice, new_account):
        for sender in (alias, outer, outer.upper(), alias.replace("@", "+tag@")):
            with server.submission(owner) as client:
                client.send_message(letter(sender, bob.address, subject := token()), sender)
            assert f"\nFrom: {sender}".encode() in arrived(server, bob, subject).replace(b"\r\n", b"\n")
    with server.submission(bob) as client:
        assert answer(client, alias, alice.address) == 553
        with pytest.raises(smtplib.SMTPDataError, match="From: must be one address of"):
            client.send_message(letter(alias, alice.address, token()), bob.address)
    test_pod.invoke("aliases.remove", alias, "--targets", new_account.address)

    def refused() -> None:
        with server.submission(new_account) as client:
            if (said := answer(client, alias, bob.address)) != 553:
                raise NotYet(str(said))

    wait_until(refused, 2, "the former owner to be refused")


def test_the_only_target_of_an_alias_is_not_removed_and_another_target_is_named(
    test_pod: PodUnderTest, server: Server, alice: Account, new_account: Account
) -> None:
    alias, outer = (f"{token()}@{server.domain}" for _ in range(2))
    add(test_pod, alias.partition("@")[0], new_account)
    test_pod.invoke("aliases.add", outer, alias)
    for task, name, follower in (("users.remove", new_account.address, alias), ("aliases.remove", alias, outer)):
        refused = test_pod.invoke(task, name, check=False)
        assert refused.code == 1
        assert f"{name} is the only target of the alias {follower}" in refused.stderr
    assert arrived(server, new_account, send(server, outer))
    test_pod.invoke("aliases.add", alias, alice.address)
    removed = test_pod.invoke("users.remove", new_account.address)
    assert f"{new_account.address} is no target of {alias} any more" in removed.stdout
    assert arrived(server, alice, send(server, outer))


def test_a_file_of_aliases_that_is_wrong_gives_nobody_mail_that_is_refused_later(
    test_pod: PodUnderTest, server: Server, alice: Account
) -> None:
    file, domain = test_pod.folder("accounts") / "aliases", server.domain
    before, words = file.read_text() if file.exists() else "", [token() for _ in range(5)]
    wrong = [f"{words[0]}@{domain} {words[1]}@{domain}", f"{words[1]}@{domain} {words[0]}@{domain}",
             f"{words[2]}@{domain} nobody@{domain} bob@ex/ample.com", f"{words[3]} {alice.address}",
             f"{words[3]}@example.com {alice.address}", f"../{words[3]}@{domain} {alice.address}",
             f"{words[4]}@{domain} {words[0]}@{domain} nobody@{domain} {alice.address}"]  # fmt: skip
    new = file.with_name("aliases.test")
    new.write_text(before + "".join(f"{line}\n" for line in wrong))
    new.rename(file)
    try:
        wait_until_answered(server, f"{words[4]}@{domain}", 250)
        for word in words[:4]:
            wait_until_answered(server, f"{word}@{domain}", 550)
        assert arrived(server, alice, send(server, f"{words[4]}@{domain}"))
    finally:
        new.write_text(before)
        new.rename(file)


def test_an_account_sends_while_the_tables_are_made_again(
    test_pod: PodUnderTest, server: Server, new_account: Account, bob: Account
) -> None:
    with ThreadPoolExecutor() as pool, server.submission(new_account) as client:
        made = pool.submit(test_pod.exec, "mail", "sh", "-c", "for _ in $(seq 20); do mailboxes; done")
        for _ in range(100):
            if not made.done():
                client.send_message(letter(new_account.address, bob.address, token()))
        assert made.result().ok
