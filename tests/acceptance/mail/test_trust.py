"""Mail between two domains that trust each other's signatures, and a third party that forges and changes mail."""

import os
import re
import smtplib
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from podserve.commands import run
from podserve.waiting import NotYet, wait_until
from podserve.zone.record import quoted
from tests.testbed.envelopes import answer
from tests.testbed.letters import key_record, of_kind, prose, signed, wire
from tests.testbed.mail import delivered
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import SUBMISSION, SUBMISSIONS, Account, letter, token
from tests.testbed.two_domains import THIRD, TwoDomains, another_domain
from tests.testbed.vantage import Vantage

MONTH = 30 * 24 * 3600
SIMILAR = 10
"""How many messages of a kind a person moves. Bayes judges when it knows as many (min_learns in rspamd.conf)."""


@pytest.fixture(scope="module")
def domains(test_pod: PodUnderTest) -> Iterator[TwoDomains]:
    """The worker's pod, and one of another domain."""
    with another_domain(test_pod) as made:
        yield made


@pytest.fixture(scope="module")
def bob(domains: TwoDomains) -> Account:
    """An account of the other domain."""
    return domains.other.new_account()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """A key that a test signs with."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def copy_of(pod: PodUnderTest, account: Account, subject: str) -> tuple[str, Message]:
    """Wait for a message; return its folder and the message."""
    folder, content = delivered(pod.server, account, subject)
    return folder, message_from_bytes(content)


def results(message: Message, pod: PodUnderTest) -> str:
    """Return the one Authentication-Results that this pod wrote, in one line."""
    own = [" ".join(words.split()) for words in message.get_all("Authentication-Results", [])]
    [found] = [words for words in own if words.startswith(f"{pod.settings.mail_host};")]
    return found


@pytest.mark.parametrize("way", ["there", "back"])
def test_mail_of_a_login_arrives_in_the_other_domain_signed_twice_and_trusted(
    domains: TwoDomains, alice: Account, bob: Account, way: str
) -> None:
    source, target = (domains.own, domains.other) if way == "there" else (domains.other, domains.own)
    sender, recipient, subject = *((alice, bob) if way == "there" else (bob, alice)), token()
    with source.server.submission(sender) as client:
        client.send_message(letter(sender.address, recipient.address, subject))
    folder, message = copy_of(target, recipient, subject)
    found = results(message, target)
    assert folder == "INBOX"
    assert found.count("dkim=pass") == 2, found
    assert re.search(r"dkim=pass header.d=\S+ header.s=[0-9]+ .*dkim=pass header.d=\S+ header.s=[0-9]+-ed25519 ", found)
    assert "spf=pass" in found
    assert "dmarc=pass" in found
    assert "with ESMTPS" in str(message.get_all("Received")), "the transfer was encrypted"


@pytest.mark.parametrize("port", [SUBMISSION, SUBMISSIONS])
def test_mail_of_a_login_does_not_tell_another_domain_where_it_was_written(
    domains: TwoDomains, alice: Account, bob: Account, port: int
) -> None:
    own, hidden = domains.own.settings, f"{token()}@example.com"
    # A client may write a Received of its own, even one like Postfix's. It stays as it is.
    forged = f"from host.example ([192.0.2.9]) by {own.mail_host} (Postfix) with ESMTPSA id 1; Fri, 27 Nov 2026 00:00"
    message = letter(alice.address, bob.address, token())
    del message["Message-ID"]
    content = f"Received: {forged}\r\nBcc: {hidden}\r\n".encode() + wire(message)
    with domains.own.server.submission(alice, port) as client:
        client.sendmail(alice.address, [bob.address], content)
    _, received = copy_of(domains.other, bob, message["Subject"])
    lines = [" ".join(value.split()) for value in received.get_all("Received", [])]
    theirs, ours = lines.pop(), lines.pop()
    assert theirs == forged
    expected = rf"by {re.escape(own.mail_host)} \(Postfix\) id \w+ for <{bob.address}>; [^;()]*\(UTC\)"
    assert re.fullmatch(expected, ours), ours
    head = received.as_bytes().partition(b"\n\n")[0].decode()
    for told in ("client.example.com", "Authenticated sender", hidden):
        assert told not in head
    assert results(received, domains.other).count("dkim=pass") == 2


def test_a_key_of_another_domain_breaks_one_signature_only(domains: TwoDomains, alice: Account, bob: Account) -> None:
    own, foreign = (
        next((pod.folder("dkim") / pod.settings.domain).glob("??????????????.key"))
        for pod in (domains.own, domains.other)
    )
    content = own.read_bytes()

    def sent() -> str:
        subject = token()
        with domains.own.server.submission(alice) as client:
            client.send_message(letter(alice.address, bob.address, subject))
        return results(copy_of(domains.other, bob, subject)[1], domains.other)

    try:
        own.write_bytes(foreign.read_bytes())
        found = sent()
    finally:
        own.write_bytes(content)
        later = time.time() + 2  # rspamd reads a key again when its file is newer by a second
        os.utime(own, (later, later))
    assert sorted(re.findall(r"dkim=(\w+)", found)) == ["fail", "pass"], found
    assert "dmarc=pass" in found
    assert sent().count("dkim=pass") == 2


def test_a_bounce_has_both_signatures(domains: TwoDomains) -> None:
    sender, nobody = domains.own.new_account(), f"{token()}@{domains.other.settings.domain}"
    with domains.own.server.submission(sender) as client:
        client.send_message(letter(sender.address, nobody, token()))
    with domains.own.server.imap(sender) as client:

        def bounced() -> Message:
            client.select_folder("INBOX", readonly=True)
            found = client.search(["SUBJECT", "Undelivered", "TEXT", nobody])
            if not found:
                raise NotYet("no bounce")
            return message_from_bytes(client.fetch(found, ["BODY.PEEK[]"])[found[0]][b"BODY[]"])

        message = wait_until(bounced, 10, "the bounce")
    signatures = message.get_all("DKIM-Signature", [])
    assert [re.search(r"a=([a-z0-9]+)", signature)[1] for signature in signatures] == ["rsa", "ed25519"]  # type: ignore[index]
    assert all(f"d={domains.own.settings.domain};" in signature for signature in signatures)


def test_forwarded_mail_keeps_its_sealed_results(
    domains: TwoDomains, outsider: Vantage, alice: Account, bob: Account
) -> None:
    sender, subject = f"{token()}@{THIRD}", token()
    with outsider.smtp(domains.own.address) as client:
        client.sendmail(sender, [alice.address], wire(letter(sender, alice.address, subject)))
    _, received = delivered(domains.own.server, alice, subject)
    assert "spf=pass" in results(message_from_bytes(received), domains.own)
    with domains.own.inside.smtp(domains.addresses[1]) as client:
        client.sendmail(sender, [bob.address], received)
    _, message = copy_of(domains.other, bob, subject)
    found = results(message, domains.other)
    assert "spf=fail" in found, "the forwarder is not the sender"
    assert "arc=pass" in found
    assert [re.search(r"i=(\d)", seal)[1] for seal in message.get_all("ARC-Seal", [])] == ["2", "1"]  # type: ignore[index]


@pytest.fixture(scope="module")
def forwarded(domains: TwoDomains) -> tuple[str, Account]:
    """An alias of the other domain, and the account of the first domain that it leads to."""
    account, alias = domains.own.new_account(), f"{token()}@{domains.other.settings.domain}"
    domains.other.invoke("aliases.add", alias, account.address)

    def known() -> None:
        with domains.other.server.smtp() as client:
            if (said := answer(client, f"someone@{THIRD}", alias)) != 250:
                raise NotYet(str(said))

    wait_until(known, 2, "the alias to be in use")
    return alias, account


@pytest.mark.parametrize("way", ["alias", "script"])
def test_mail_that_is_sent_on_is_trusted_by_the_next_domain(
    domains: TwoDomains, alice: Account, forwarded: tuple[str, Account], way: str
) -> None:
    address, account = forwarded
    if way == "script":
        person = domains.other.new_account()
        with domains.other.server.rules(person) as rules:
            assert rules.putscript("on", f'redirect "{account.address}";\n'), rules.errmsg
            assert rules.setactive("on")
        address = person.address
    domains.publish(policy="reject")
    with domains.own.server.submission(alice) as client:
        client.send_message(letter(alice.address, address, subject := token()))
    folder, message = copy_of(domains.own, account, subject)
    found, there = results(message, domains.own), domains.other.settings.domain
    assert folder == "INBOX", message.items()
    assert re.match(rf"<SRS0=\S+={domains.own.settings.domain}={alice.local_part}@{there}>", message["Return-Path"])
    assert ("spf=pass" in found, found.count("dkim=pass"), "dmarc=pass" in found) == (True, 2, True), found
    domains.publish()


def test_a_forgery_that_the_forged_domain_wants_in_junk_is_not_forwarded(
    domains: TwoDomains, outsider: Vantage, forwarded: tuple[str, Account]
) -> None:
    with pytest.raises(smtplib.SMTPDataError, match="is not forwarded"):
        forge(domains, outsider, forwarded[0], token())


def forge(domains: TwoDomains, place: Vantage, recipient: str, subject: str) -> None:
    """Send mail in the name of the first domain, from elsewhere."""
    author, sender = f"boss@{domains.own.settings.domain}", f"{token()}@{THIRD}"
    with place.smtp(domains.addresses[1]) as client:
        client.sendmail(sender, [recipient], wire(letter(author, recipient, subject)))


def test_forged_mail_is_treated_as_the_forged_domain_asks(domains: TwoDomains, outsider: Vantage, bob: Account) -> None:
    postmaster = domains.other.postmaster
    domains.publish(policy="reject")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        forge(domains, outsider, bob.address, token())
    assert refused.value.smtp_code == 550
    assert "5.7.26 " in str(refused.value.smtp_error)
    subject = token()
    forge(domains, outsider, postmaster.address, subject)
    assert copy_of(domains.other, postmaster, subject)[0] == "Junk"
    for policy, expected in (("quarantine", "Junk"), ("none", "INBOX")):
        domains.publish(policy=policy)
        subject = token()
        forge(domains, outsider, bob.address, subject)
        folder, message = copy_of(domains.other, bob, subject)
        assert folder == expected, policy
        assert "dmarc=fail" in results(message, domains.other).replace("dmarc=quarantine", "dmarc=fail")
    domains.publish()


def _short_key() -> rsa.RSAPrivateKey:
    made = load_pem_private_key(run(["openssl", "genrsa", "512"]).stdout.encode(), None)
    assert isinstance(made, rsa.RSAPrivateKey)
    return made


class Fault(NamedTuple):
    """What is wrong with a signature, its additional tags, what happens to the message under way, and DKIM's result.

    Without a result, it may be any other than "pass".
    """

    name: str
    tags: str = ""
    change: Callable[[bytes], bytes] = bytes
    result: str = ""


@pytest.mark.parametrize(
    "fault",
    [
        Fault("none", result="pass"),
        Fault("none, with a length and times", "l={length}; t={now}; x={later}; ", result="pass"),
        Fault("body", change=lambda text: text + b"More.\r\n", result="fail"),
        Fault("subject", change=lambda text: text.replace(b"Subject: ", b"Subject: Re: "), result="fail"),
        Fault("short key"),
        Fault("expired", "t={before}; x={earlier}; "),
        Fault("length beyond the body", "l={length}9; "),
        Fault("another length", "l=5; "),
        Fault("text after the length", "l={length}; ", lambda text: text + 50 * b"Buy this and that. "),
    ],
    ids=lambda fault: fault.name,
)
def test_a_signature_counts_only_without_a_fault(
    domains: TwoDomains, outsider: Vantage, bob: Account, key: rsa.RSAPrivateKey, fault: Fault
) -> None:
    sender, subject, selector, now = f"{token()}@{THIRD}", token(), token(), int(time.time())
    signer = _short_key() if fault.name == "short key" else key
    domains.publish(f"{selector}._domainkey TXT {quoted(key_record(signer))}\n")
    content = wire(letter(sender, bob.address, subject, prose()))
    times = {"now": now, "later": now + MONTH, "before": now - 2 * MONTH, "earlier": now - MONTH}
    more = fault.tags.format(length=len(content.partition(b"\r\n\r\n")[2]), **times)
    with outsider.smtp(domains.addresses[1]) as client:
        client.sendmail(sender, [bob.address], fault.change(signed(content, signer, THIRD, selector, more)))
    found = results(copy_of(domains.other, bob, subject)[1], domains.other)
    said = re.findall(r"dkim=(\w+)", found)
    if fault.result:
        assert said == [fault.result], found
    else:
        assert "pass" not in said, found


@pytest.mark.parametrize(("count", "verdict"), [(10, "pass"), (11, "fail")])
def test_a_sender_policy_may_cause_ten_lookups(
    domains: TwoDomains, outsider: Vantage, bob: Account, count: int, verdict: str
) -> None:
    # RFC 7208, section 4.6.4. rspamd does not stop with permerror there. It skips the lookups after the tenth.
    name, subject = token(), token()
    *first, last = [f"{name}-{number}" for number in range(count)]
    included = " ".join(f"include:{each}.{THIRD}" for each in [*first, last])
    policies = {name: f"v=spf1 {included} -all", last: f"v=spf1 ip4:{outsider.address} -all"}
    policies |= dict.fromkeys(first, "v=spf1 ip4:192.0.2.1 -all")
    domains.publish("".join(f"{each} TXT {quoted(text)}\n" for each, text in policies.items()))
    sender = f"anna@{name}.{THIRD}"
    with outsider.smtp(domains.addresses[1]) as client:
        client.sendmail(sender, [bob.address], wire(letter(sender, bob.address, subject)))
    assert f"spf={verdict} " in results(copy_of(domains.other, bob, subject)[1], domains.other)


def let_five_minutes_pass(pod: PodUnderTest) -> None:
    """Change the times at which the filter asked for messages to come again (greylisting)."""
    store = ["valkey-cli", "-s", "/run/valkey/socket"]
    asked = pod.exec("mail", *store, "keys", "rg*").stdout.split()
    assert asked
    for name in asked:
        pod.exec("mail", *store, "set", name, str(int(time.time()) - 301))


def test_the_filter_learns_from_what_people_move_into_junk_and_out_of_it(
    domains: TwoDomains, outsider: Vantage
) -> None:
    account, domain = domains.other.new_account(), f"{token()}.{THIRD}"
    domains.publish(f'{domain}. MX 10 mail\n{domain}. TXT "v=spf1 mx -all"\n_dmarc.{domain}. TXT "v=DMARC1; p=none"\n')
    text = prose(200)

    def newsletters(count: int) -> list[str]:
        subjects = [token() for _ in range(count)]
        with outsider.smtp(domains.addresses[1]) as client:
            for subject in subjects:
                sender = f"news@{domain}"
                message = wire(letter(sender, account.address, f"Offers of the week {subject}", f"{text}{prose(10)}"))
                try:
                    client.sendmail(sender, [account.address], message)
                except smtplib.SMTPDataError as doubtful:
                    if doubtful.smtp_code != 451:
                        raise
                    let_five_minutes_pass(domains.other)
                    client.sendmail(sender, [account.address], message)
        return subjects

    def move(subjects: list[str], source: str, target: str) -> None:
        with domains.other.server.imap(account) as client:
            for subject in subjects:
                client.select_folder(source)
                client.move(client.search(["SUBJECT", subject]), target)

    with outsider.smtp(domains.addresses[1]) as client:  # what the filter takes for good by itself
        for kind in ("mailing list", "reply", "forwarded", "invoice") * 5:
            sender = f"{token()}@{domain}"
            client.sendmail(sender, [account.address], wire(of_kind(kind, sender, account.address, token())))
    first = newsletters(SIMILAR)
    assert {delivered(domains.other.server, account, subject)[0] for subject in first} == {"INBOX"}
    move(first, "INBOX", "Junk")
    [next_one] = newsletters(1)
    assert delivered(domains.other.server, account, next_one)[0] == "Junk"
    move([*first, next_one], "Junk", "INBOX")
    [last] = newsletters(1)
    assert delivered(domains.other.server, account, last)[0] == "INBOX"
