"""Two domains in one pod: what is apart, what is refused, and who signs."""

import re
import smtplib
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.mail import STRANGER, arrived, delivered, wait_until_answered
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, letter, token
from tests.testbed.two_domains import TwoDomains, another_domain

FIRST, SECOND = "lab.sethlakowske.com", f"{token()}.sethlakowske.com"
THIRD = "example.com"


@pytest.fixture(scope="module")
def two() -> Iterator[PodUnderTest]:
    """A pod with two domains."""
    names = f"autoconfig.{SECOND} mta-sts.{SECOND}"
    with play_test_pod("-two", mail_domains=SECOND, certificate_names=names, mta_sts="testing") as made:
        yield made


@pytest.fixture(scope="module")
def far(two: PodUnderTest) -> Iterator[TwoDomains]:
    """That pod, and one of another domain, which verifies its mail."""
    with another_domain(two) as made:
        yield made


@pytest.fixture
def namesakes(two: PodUnderTest) -> tuple[Account, Account]:
    """Accounts of the same name, one at each domain."""
    name = token()
    return two.new_account(name), two.new_account(name, domain=SECOND)


def send(pod: PodUnderTest, recipient: str) -> str:
    """Send a message from a stranger, and return its subject."""
    subject = token()
    with pod.server.smtp() as client:
        client.send_message(letter(STRANGER, recipient, subject), STRANGER, [recipient])
    return subject


def subjects(pod: PodUnderTest, account: Account) -> set[str]:
    """Return the subjects of all messages in the mailbox of an account."""
    found = set[str]()
    with pod.server.imap(account) as client:
        for folder in ("INBOX", "Junk"):
            client.select_folder(folder, readonly=True)
            there = client.fetch(client.search(), ["BODY.PEEK[]"]).values()
            found |= {str(message_from_bytes(one[b"BODY[]"])["Subject"]) for one in there}
    return found


def test_accounts_of_the_same_name_get_their_own_mail_only(
    two: PodUnderTest, namesakes: tuple[Account, Account]
) -> None:
    sent = [send(two, account.address) for account in namesakes]
    for account, subject in zip(namesakes, sent, strict=True):
        sealed = str(message_from_bytes(arrived(two.server, account, subject))["ARC-Seal"])
        assert f"d={account.address.partition('@')[2]};" in " ".join(sealed.split())
    assert [subjects(two, account) for account in namesakes] == [{subject} for subject in sent]


def test_an_unknown_address_of_the_second_domain_and_a_third_domain_are_refused(
    two: PodUnderTest, namesakes: tuple[Account, Account]
) -> None:
    nobody = token()
    with two.server.smtp() as client:
        for recipient in (f"{nobody}@{SECOND}", f"{namesakes[1].local_part}@{THIRD}", f"{nobody}@lists.{SECOND}",
                          f"{namesakes[1].local_part}%{THIRD}@{SECOND}"):  # fmt: skip
            assert answer(client, STRANGER, recipient) in {550, 554}, recipient
            client.rset()


def test_a_catch_all_is_that_of_its_domain_only(two: PodUnderTest, namesakes: tuple[Account, Account]) -> None:
    two.invoke("aliases.add", f"@{SECOND}", namesakes[0].address)
    try:
        wait_until_answered(two.server, f"{token()}@{SECOND}", 250)
        subject = send(two, f"{token()}@{SECOND}")
        assert arrived(two.server, namesakes[0], subject)
        assert arrived(two.server, namesakes[1], send(two, namesakes[1].address))
        wait_until_answered(two.server, f"{token()}@{FIRST}", 550)
    finally:
        two.invoke("aliases.remove", f"@{SECOND}")


def test_a_stranger_does_not_send_as_either_domain(two: PodUnderTest, namesakes: tuple[Account, Account]) -> None:
    with two.server.smtp() as client:
        for account in namesakes:
            for sender in (account.address, f"{token()}@{account.address.partition('@')[2]}", account.address.upper()):
                assert answer(client, sender, namesakes[0].address) == 554, sender
                client.rset()


def test_a_login_does_not_send_as_its_namesake(two: PodUnderTest, namesakes: tuple[Account, Account]) -> None:
    for own, other in (namesakes, namesakes[::-1]):
        with two.server.submission(own) as client:
            assert answer(client, other.address, own.address) == 553
            client.rset()
            with pytest.raises(smtplib.SMTPDataError, match="From: must be one address of"):
                client.send_message(letter(other.address, own.address, token()), own.address)
            client.rset()
            assert answer(client, f"postmaster@{SECOND}", own.address) == 553


def test_an_alias_of_one_domain_belongs_to_the_account_of_the_other(
    two: PodUnderTest, namesakes: tuple[Account, Account]
) -> None:
    alias = f"{token()}@{SECOND}"
    two.invoke("aliases.add", alias, namesakes[0].address)
    wait_until_answered(two.server, alias, 250)
    with two.server.submission(namesakes[0]) as client:
        client.send_message(letter(alias, namesakes[1].address, subject := token()))
    assert f"d={SECOND};" in str(message_from_bytes(arrived(two.server, namesakes[1], subject))["DKIM-Signature"])
    with two.server.submission(namesakes[1]) as client:
        assert answer(client, alias, namesakes[0].address) == 553


@pytest.mark.parametrize("number", [0, 1], ids=["domain", "mail_domains"])
def test_mail_of_each_domain_is_signed_by_its_own_keys_and_trusted_elsewhere(
    far: TwoDomains, namesakes: tuple[Account, Account], number: int
) -> None:
    sender, bob, subject = namesakes[number], far.other.new_account(), token()
    with far.own.server.submission(sender) as client:
        client.send_message(letter(sender.address, bob.address, subject))
    folder, content = delivered(far.other.server, bob, subject)
    message, domain = message_from_bytes(content), (FIRST, SECOND)[number]
    found = " ".join(str(message["Authentication-Results"]).split())
    assert folder == "INBOX"
    assert re.findall(r"dkim=pass header.d=(\S+)", found) == [domain, domain], found
    assert f"spf=pass ({far.other.settings.mail_host}: domain of {sender.address}" in found
    assert re.search(rf"dmarc=pass .*header.from={domain}", found), found


def test_an_answer_of_a_rule_is_signed_by_the_domain_of_its_account(
    far: TwoDomains, namesakes: tuple[Account, Account]
) -> None:
    bob, subject = far.other.new_account(), token()
    with far.own.server.rules(namesakes[1]) as rules:
        assert rules.putscript("away", f'require "vacation"; vacation :subject "away {subject}" "I am away.";')
        assert rules.setactive("away")
    with far.other.server.submission(bob) as client:
        client.send_message(letter(bob.address, namesakes[1].address, token()))
    message = message_from_bytes(delivered(far.other.server, bob, f"away {subject}")[1])
    found = " ".join(str(message["Authentication-Results"]).split())
    assert re.findall(r"dkim=pass header.d=(\S+)", found) == [SECOND, SECOND], found


def test_mail_to_the_postmaster_of_each_domain_arrives(two: PodUnderTest) -> None:
    for recipient in (f"postmaster@{SECOND}", f"Abuse@{SECOND}", f"postmaster@{FIRST}"):
        assert arrived(two.server, two.postmaster, send(two, recipient))
    with two.server.submission(two.postmaster) as client:
        client.send_message(letter(f"postmaster@{SECOND}", f"abuse@{SECOND}", subject := token()))
    assert f"d={SECOND};" in str(message_from_bytes(arrived(two.server, two.postmaster, subject))["DKIM-Signature"])
    refused = two.invoke("users.add", f"postmaster@{SECOND}", "--password-stdin", stdin="long enough\n", check=False)
    assert f"mail to this address goes to postmaster@{FIRST}" in refused.stderr


def test_forwarded_mail_of_each_domain_keeps_its_sender_and_a_strangers_gets_one_of_ours(
    two: PodUnderTest, namesakes: tuple[Account, Account]
) -> None:
    two.invoke("aliases.add", f"{token()}@{SECOND}", f"someone@{THIRD}")

    def sender(address: str) -> str:
        return two.exec("mail", "postmap", "-q", address, "tcp:127.0.0.1:10001", check=False).stdout.strip()

    def signed() -> None:
        if not sender(STRANGER).endswith(f"@{FIRST}"):
            raise NotYet(sender(STRANGER))

    wait_until(signed, 5, "the daemon that signs senders")
    assert not any(sender(account.address) for account in namesakes)


def test_namesakes_have_their_own_homes_on_the_web_and_not_each_others(
    two: PodUnderTest, namesakes: tuple[Account, Account]
) -> None:
    homes = f"/webdav/home/{namesakes[0].local_part}/", f"/webdav/home/{namesakes[1].address}/"
    for own, other, account in ((*homes, namesakes[0]), (*homes[::-1], namesakes[1])):
        with two.server.http(account) as client:
            assert client.put(f"{own}file", content=account.address).status_code == 201
            for place in (other, f"{other}file"):
                assert client.get(place).status_code == 403, place
            assert client.put(f"{other}file", content="x").status_code == 403
            assert client.request("MOVE", f"{own}file", headers={"Destination": f"{other}x"}).status_code == 403
            assert client.get("/webdav/").status_code == 200
            assert client.get(f"{own}file").text == account.address


def test_a_mail_client_of_each_domain_finds_its_settings(two: PodUnderTest) -> None:
    with two.server.http() as client:
        for host, path in ((FIRST, "/.well-known/autoconfig/mail/config-v1.1.xml"),
                           (f"autoconfig.{FIRST}", "/mail/config-v1.1.xml"),
                           (f"autoconfig.{SECOND}", "/mail/config-v1.1.xml")):  # fmt: skip
            found = client.get(path, headers={"Host": host})
            assert found.status_code == 200, host
            provider = ET.fromstring(found.text)[0]  # noqa: S314
            assert [one.text for one in provider.findall("domain")] == [FIRST, SECOND]
        assert client.get("/webdav/", headers={"Host": f"autoconfig.{SECOND}"}).status_code == 404
    assert f"autoconfig.{SECOND}" in two.invoke("certs.show").stdout


def test_the_policy_for_other_mail_servers_is_that_of_each_domain(two: PodUnderTest) -> None:
    with two.server.http() as client:
        for domain in (FIRST, SECOND):
            found = client.get("/.well-known/mta-sts.txt", headers={"Host": f"mta-sts.{domain}"})
            assert (found.status_code, f"mx: {two.settings.mail_host}\n" in found.text) == (200, True)
            assert client.get("/webdav/", headers={"Host": f"mta-sts.{domain}"}).status_code == 404
    records = two.invoke("dns.records", "--domain", SECOND, INVOKE_PUBLIC_ADDRESS="203.0.113.7").stdout
    for name in ("_mta-sts IN TXT", "_smtp._tls IN TXT", "_dmarc IN TXT", "mta-sts IN A", "autoconfig IN A"):
        assert name in records


def test_a_domain_does_not_go_while_somebody_is_there(two: PodUnderTest, namesakes: tuple[Account, Account]) -> None:
    refused = two.invoke("up", INVOKE_MAIL_DOMAINS="", check=False)
    assert (refused.code, "mail to these accounts and aliases would be refused" in refused.stderr) == (1, True)
    assert arrived(two.server, namesakes[1], send(two, namesakes[1].address))


def selectors(two: PodUnderTest, account: Account) -> set[str]:
    """Return the selectors by which mail of an account is signed."""
    with two.server.submission(account) as client:
        client.send_message(letter(account.address, account.address, subject := token()))
    found = message_from_bytes(arrived(two.server, account, subject)).get_all("DKIM-Signature", [])
    assert all(f"d={SECOND};" in one for one in found)
    return {match[1] for one in found if (match := re.search(r"\bs=([^;\s]+)", one))}


def test_a_restored_pod_signs_as_before_for_each_domain(
    two: PodUnderTest, namesakes: tuple[Account, Account], tmp_path: Path
) -> None:
    before, subject = selectors(two, namesakes[1]), send(two, namesakes[1].address)
    assert len(before) == 2
    assert arrived(two.server, namesakes[1], subject)
    two.invoke("backup", "--to", str(tmp_path / "backup"))
    for key in (two.folder("dkim") / SECOND).iterdir():
        key.unlink()
    two.invoke("restore", str(tmp_path / "backup"), "--yes")
    assert selectors(two, namesakes[1]) == before
    assert arrived(two.server, namesakes[1], subject)
