"""Port 25: the server accepts mail from other domains to its accounts, and no other mail."""

import base64
import contextlib
import inspect
import json
import os
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import SMTP, SMTPUTF8
from itertools import product

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed import envelopes
from tests.testbed.envelopes import Envelope, answer, not_refused
from tests.testbed.mail import STRANGER, arrived, ordinary, queued, refusal_of_tls_1_1, sasl_plain
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token
from tests.testbed.vantage import Vantage, first_process

ELSEWHERE = (
    "{user}@example.com",
    "{user}%example.com@{domain}",
    "{user}%example.com",
    '"{user}@example.com"@{domain}',
    '"{user}@example.com"',
    '"{user}%example.com"@{domain}',
    "{user}@example.com@{domain}",
    "{user}@{domain}@example.com",
    "@{domain}:{user}@example.com",
    "@{domain},@example.net:{user}@example.com",
    "example.com!{user}",
    "example.com!{user}@{domain}",
    "{domain}!example.com!{user}",
    "{user}@[127.0.0.1]",
    "{user}@[192.0.2.1]",
    "{user}@[IPv6:::1]",
    "{user}@localhost",
    "{user}@mail.{domain}",
    "{user}@sub.{domain}",
)
"""Recipients of other domains, in all spellings that ask a server to relay: the classic tests for an open relay."""

SENDERS = ("", STRANGER, "invented@{domain}", "{local}", "postmaster@{domain}", "postmaster", "root@localhost")
LONGEST_HEADER = 32768
"""Bytes at which Postfix cuts off a header (header_size_limit in main.cf.static)."""
HELOS = ("client.example.com", "[127.0.0.1]", "{domain}")


@dataclass(frozen=True)
class Place:
    """A place to send from, and the server's address there."""

    vantage: Vantage
    host: str

    def not_refused(self, tried: list[Envelope]) -> list[Envelope]:
        """Return the envelopes that the server does not refuse from here."""
        script = inspect.getsource(envelopes)
        left = json.loads(self.vantage.python(script, self.host, json.dumps(tried)))
        return [Envelope(*words) for words in left]


def relay_attempts(account: Account, user: str) -> list[Envelope]:
    """Return an envelope for each combination of a sender, a recipient of another domain, and a HELO name."""
    _, _, domain = account.address.partition("@")
    return [
        Envelope(*(word.format(user=user, domain=domain, local=account.address) for word in words))
        for words in product(SENDERS, ELSEWHERE, HELOS)
    ]


@pytest.fixture(scope="session")
def inside(test_pod: PodUnderTest) -> Vantage:
    """The pod's own network namespace, with the pod's address."""
    container = test_pod.container("mail")
    process = first_process(container)
    return Vantage(container, test_pod.address, process)


@pytest.fixture(params=["neighbour", "outsider", "inside", "loopback"])
def place(request: pytest.FixtureRequest, test_pod: PodUnderTest) -> Place:
    """Each place to send from."""
    if request.param == "loopback":
        return Place(request.getfixturevalue("inside"), "127.0.0.1")
    return Place(request.getfixturevalue(request.param), test_pod.address)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[smtplib.SMTP]:
    """A client of port 25, without TLS and with it."""
    with server.smtp(tls=request.param) as connected:
        yield connected


def test_mail_from_elsewhere_is_delivered(client: smtplib.SMTP, server: Server, alice: Account) -> None:
    subject, body = token(), token()
    client.send_message(letter(STRANGER, alice.address, subject, f"{body}\n"))
    received = message_from_bytes(arrived(server, alice, subject), policy=SMTP)
    assert received["From"] == STRANGER
    assert received["Return-Path"] == f"<{STRANGER}>"
    assert received.get_content() == f"{body}\r\n"


@pytest.mark.usefixtures("test_pod")  # from an address of the internet, it would have to come again (greylisting)
def test_a_message_of_a_stranger_gets_no_header_that_it_lacks(server: Server, alice: Account) -> None:
    subject = token()
    with server.smtp() as client:
        client.sendmail(STRANGER, alice.address, f"From: stranger\r\nSubject: {subject}\r\n\r\nHi.\r\n")
    received = message_from_bytes(arrived(server, alice, subject))
    assert (received["Date"], received["Message-ID"], received["From"]) == (None, None, "stranger")


def test_mail_from_a_domain_below_ours_is_delivered(server: Server, alice: Account) -> None:
    subject = token()
    sender = f"news@lists.{server.domain}"
    with server.smtp() as client:
        client.send_message(letter(sender, alice.address, subject))
        for below in (f"news@lists.mail.{server.domain}", f"bounces+{token()}@a.b.{server.domain}"):
            assert answer(client, below, alice.address) == 250
            client.docmd("RSET")
    assert f"Return-Path: <{sender}>".encode() in arrived(server, alice, subject)


def test_a_bounce_is_delivered(server: Server, alice: Account) -> None:
    subject = token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, alice.address, subject), from_addr="")
    assert b"Return-Path: <>" in arrived(server, alice, subject)


def test_a_tagged_address_reaches_its_account(server: Server, alice: Account) -> None:
    subject = token()
    _, _, domain = alice.address.partition("@")
    with server.smtp() as client:
        client.send_message(letter(STRANGER, f"{alice.local_part}+{token()}@{domain}", subject))
    assert arrived(server, alice, subject)


def test_many_letters_at_once_for_one_account_are_all_there_soon(
    test_pod: PodUnderTest, server: Server, new_account: Account
) -> None:
    # More concurrent deliveries to one user than Dovecot allows by default. The others would be deferred for minutes.
    many = 300
    test_pod.exec("mail", "smtp-source", "-s", "20", "-m", str(many), "-M", "client.example.com", "-f", STRANGER,
             "-t", new_account.address, "localhost:25")  # fmt: skip
    with server.imap(new_account) as client:

        def check() -> None:
            found = client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"]
            if found != many:
                raise NotYet(f"{found} of {many} are there")

        wait_until(check, 20, "all of them")


def test_capital_letters_in_an_address_mean_the_same_account(server: Server, alice: Account) -> None:
    subject = token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, alice.address.upper(), subject))
    assert arrived(server, alice, subject)


def test_what_becomes_of_mail_is_logged(
    server: Server, test_pod: PodUnderTest, new_account: Account, since: float
) -> None:
    subject = token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, new_account.address, subject))
    assert "status=sent" in test_pod.wait_for_log("mail", f"to=<{new_account.address}>, ", since)
    assert arrived(server, new_account, subject)
    assert "imap-login" in test_pod.wait_for_log("mail", f"user=<{new_account.address}>", since)


@pytest.mark.parametrize("recipient", ["postmaster@{domain}", "abuse@{domain}", "Postmaster@{domain}", "postmaster"])
def test_the_addresses_that_every_domain_has_reach_the_postmaster(
    server: Server, test_pod: PodUnderTest, recipient: str
) -> None:
    subject = token()
    with server.smtp() as client:
        client.sendmail(
            STRANGER, recipient.format(domain=server.domain), letter(STRANGER, "postmaster", subject).as_bytes()
        )
    assert arrived(server, test_pod.postmaster, subject)


@pytest.mark.parametrize("recipient", ["{user}@{domain}", "{user}+tag@{domain}", "+{local}@{domain}"])
def test_mail_to_nobody_is_refused(server: Server, alice: Account, recipient: str) -> None:
    recipient = recipient.format(user=token(), domain=server.domain, local=alice.local_part)
    with server.smtp() as client:
        assert answer(client, STRANGER, recipient) == 550


@pytest.mark.parametrize(
    "sender",
    ["{local}", "{user}@{domain}", "postmaster@{domain}", "{tagged}", "{upper}", "{name}", '"{name}"@{domain}',
     "@example.com:{local}", "{name}%{domain}", "{user}@mail.{domain}", "{local}.", "{name}@[127.0.0.1]",
     "{name}@[198.51.100.1]", "{name}@[IPv6:::1]", '"{local}"@[127.0.0.1]', "{name}@MAIL.{domain}",
     '"{local}"', "{domain}!{name}", "{name}%{domain}@[127.0.0.1]", "@[127.0.0.1]:{local}", "{name}%[127.0.0.1]"],
)  # fmt: skip
def test_a_sender_of_our_own_is_refused_without_login(
    client: smtplib.SMTP, server: Server, alice: Account, sender: str
) -> None:
    name = alice.local_part
    sender = sender.format(
        local=alice.address, domain=server.domain, user=token(), tagged=f"{name}+tag@{server.domain}",
        upper=alice.address.upper(), name=name,
    )  # fmt: skip
    assert answer(client, sender, alice.address) == 554


@pytest.mark.parametrize("sender", ["root@localhost", "{name}@{label}", "someone@example", "{name}@[{domain}]"])
def test_a_sender_without_a_whole_domain_is_refused(
    client: smtplib.SMTP, server: Server, alice: Account, sender: str
) -> None:
    label, _, _ = server.domain.partition(".")
    assert answer(client, sender.format(name=alice.local_part, label=label, domain=server.domain), alice.address) in {
        501,
        504,
    }


def test_nobody_is_sent_a_receipt_for_a_strangers_letter(
    server: Server, test_pod: PodUnderTest, alice: Account
) -> None:
    victim, subject = f"{token()}@example.com", token()
    with server.smtp() as client:
        assert not client.has_extn("dsn")
        assert not client.has_extn("etrn")
        for words in ("RET=FULL", "RET=HDRS", "ENVID=a"):
            assert client.docmd("MAIL", f"FROM:<{victim}> {words}")[0] // 100 == 5, words
        assert client.docmd("MAIL", f"FROM:<{victim}>")[0] == 250
        for words in ("NOTIFY=SUCCESS", "NOTIFY=SUCCESS,FAILURE,DELAY", "notify=success", "ORCPT=rfc822;a@example.com"):
            assert client.docmd("RCPT", f"TO:<{alice.address}> {words}")[0] // 100 == 5, words
        assert client.docmd("RCPT", f"TO:<{alice.address}>")[0] == 250
        code, _ = client.data(f"From: {victim}\r\nReturn-Receipt-To: {victim}\r\nSubject: {subject}\r\n\r\nHi.\r\n")
        assert code == 250
    assert arrived(server, alice, subject)
    assert queued(test_pod, victim) == []


@pytest.mark.parametrize("recipient", ['"{}+\x01x"@{}', '"{}+\x7fx"@{}', "{}+é@{}", "é{}@{}"])
def test_a_stranger_names_no_recipient_that_is_refused_only_later(
    server: Server, test_pod: PodUnderTest, alice: Account, recipient: str
) -> None:
    victim = f"{token()}@example.com"
    written = recipient.format(alice.local_part, server.domain).encode()
    with server.smtp() as client:
        for words in (b"", b" SMTPUTF8"):
            client.docmd("RSET")
            client.send(b"MAIL FROM:<" + victim.encode() + b">" + words + b"\r\n")
            assert client.getreply()[0] == 250
            client.send(b"RCPT TO:<" + written + b">\r\n")
            assert client.getreply()[0] // 100 == 5
        client.send(b'RSET\r\nMAIL FROM:<"vic\x01tim"@example.com>\r\n')
        assert client.getreply()[0] == 250
        refused = client.getreply()[0] // 100 == 5 or client.docmd("RCPT", f"TO:<{alice.address}>")[0] // 100 == 5
        assert refused
    assert queued(test_pod, victim) == []


@pytest.mark.parametrize(("letter_of_ascii", "other"), [("s", "\u017f"), ("k", "\u212a")])
def test_a_recipient_in_letters_that_become_ascii_is_the_account(
    server: Server, test_pod: PodUnderTest, letter_of_ascii: str, other: str
) -> None:
    account, subject, sender = test_pod.new_account(f"{letter_of_ascii}{token()}"), token(), f"{token()}@example.com"
    written = f"{other}{account.address[1:]}".encode()
    with server.smtp() as client:
        client.send(b"MAIL FROM:<" + sender.encode() + b"> SMTPUTF8\r\n")
        assert client.getreply()[0] == 250
        client.send(b"RCPT TO:<" + written + b">\r\n")
        assert client.getreply()[0] == 250
        assert client.data(f"Subject: {subject}\r\n\r\nHi.\r\n")[0] == 250
    assert arrived(server, account, subject)
    assert queued(test_pod, sender) == []


def test_a_header_without_end_is_cut_off(server: Server, alice: Account) -> None:
    subject = token()
    names = "\r\n ".join(f"<{number}@example.com>" for number in range(5000))
    head = f"{ordinary(STRANGER, alice.address)}Subject: {subject}\r\n"
    with server.smtp() as client:
        client.sendmail(STRANGER, alice.address, f"{head}References: {names}\r\nX-Last: there\r\n\r\nHi.\r\n")
    content = arrived(server, alice, subject)
    received = message_from_bytes(content)
    assert len(received["References"].replace("\r\n", "\n")) <= LONGEST_HEADER
    assert (received["X-Last"], received.get_payload()) == ("there", "Hi.\r\n")


def test_relay_is_refused_to_clients_of_this_host(server: Server, alice: Account) -> None:
    assert not_refused(server.host, relay_attempts(alice, token())) == []


def test_relay_is_refused_everywhere(place: Place, test_pod: PodUnderTest, alice: Account) -> None:
    user = token()
    assert place.not_refused(relay_attempts(alice, user)) == []
    assert queued(test_pod, user) == []


def test_mail_to_an_account_is_taken_everywhere(place: Place, alice: Account) -> None:
    tried = [Envelope(STRANGER, alice.address), Envelope("", alice.address, "[127.0.0.1]")]
    assert place.not_refused(tried) == tried


def test_a_sender_of_our_own_is_refused_everywhere(place: Place, alice: Account) -> None:
    assert place.not_refused([Envelope(alice.address, alice.address)]) == []


def test_login_is_not_offered(client: smtplib.SMTP) -> None:
    assert not client.has_extn("auth")


def test_login_is_refused(client: smtplib.SMTP, alice: Account) -> None:
    code, _ = client.docmd("AUTH", f"PLAIN {sasl_plain(alice)}")
    assert code // 100 == 5
    assert answer(client, STRANGER, f"{token()}@example.com") == 554


@pytest.mark.parametrize("command", ["VRFY", "EXPN"])
def test_who_has_an_account_is_not_told(client: smtplib.SMTP, alice: Account, command: str) -> None:
    of_alice = client.docmd(command, alice.address)
    assert of_alice[0] in {252, 500, 502}
    assert client.docmd(command, f"{token()}@example.com") == of_alice


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_starttls_takes(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version
    with server.smtp(tls=False) as client:
        assert client.starttls(context=context)[0] == 220
        assert client.ehlo()[0] == 250


def test_starttls_refuses_tls_1_1(server: Server) -> None:
    assert "alert protocol version" in refusal_of_tls_1_1(server, 25, "smtp")


def test_eight_bit_text_stays_as_it_is(server: Server, alice: Account) -> None:
    subject, body = token(), "Grüße, 你好\r\n".encode()
    head = f"{ordinary(STRANGER, alice.address)}Subject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    content = f"{head}Content-Transfer-Encoding: 8bit\r\n\r\n".encode() + body
    with server.smtp() as client:
        assert client.has_extn("8bitmime")
        client.sendmail(STRANGER, alice.address, content, ["BODY=8BITMIME"])
    assert arrived(server, alice, subject).endswith(b"\r\n\r\n" + body)


def test_a_utf8_sender_and_header_stay_as_they_are(server: Server, alice: Account) -> None:
    word, sender = token(), "jürgen@example.com"
    subject = f"{word} Grüße 你好"
    with server.smtp() as client:
        assert client.has_extn("smtputf8")
        client.send_message(letter(sender, alice.address, subject))
    content = arrived(server, alice, word)
    assert f"\r\nSubject: {subject}\r\n".encode() in content
    received = message_from_bytes(content, policy=SMTPUTF8)
    assert received["From"] == sender
    assert received["Return-Path"] == f"<{sender}>"


def test_an_encoded_utf8_subject_stays_as_it_is(server: Server, alice: Account) -> None:
    word = token()
    subject = f"{word} Grüße 你好"
    with server.smtp() as client:
        client.send_message(letter(STRANGER, alice.address, subject))
    received = message_from_bytes(arrived(server, alice, word), policy=SMTP)
    assert received["Subject"] == subject


def test_an_address_that_is_not_utf8_is_refused(server: Server) -> None:
    with server.smtp() as client:
        client.send(b"MAIL FROM:<\xff@example.com> SMTPUTF8\r\n")
        assert client.getreply()[0] // 100 == 5


def test_the_size_limit_is_told(server: Server, test_pod: PodUnderTest) -> None:
    with server.smtp() as client:
        assert client.esmtp_features["size"] == str(test_pod.settings.message_size_limit)


def test_a_message_of_just_the_largest_size_is_taken(client: smtplib.SMTP) -> None:
    assert client.docmd("MAIL", f"FROM:<{STRANGER}> SIZE={client.esmtp_features['size']}")[0] == 250


def test_a_message_above_the_largest_size_is_refused(client: smtplib.SMTP) -> None:
    assert client.docmd("MAIL", f"FROM:<{STRANGER}> SIZE={int(client.esmtp_features['size']) + 1}")[0] == 552


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r"], ids=repr)
def test_only_crlf_dot_crlf_ends_a_message(server: Server, alice: Account, end: bytes) -> None:
    outer, inner = token(), token()
    smuggled = f"MAIL FROM:<{STRANGER}>\r\nRCPT TO:<{alice.address}>\r\nDATA\r\nSubject: {inner}\r\n\r\nInner.\r\n.\r\n"
    with server.smtp() as client:
        assert answer(client, STRANGER, alice.address) == 250
        assert client.docmd("DATA")[0] == 354
        begin = f"{ordinary(STRANGER, alice.address)}Subject: {outer}\r\n\r\nOuter."
        client.send(begin.encode() + end + smuggled.encode())
        assert client.getreply()[0] == 250
    assert inner.encode() in arrived(server, alice, outer), "what follows is no part of the message any more"


def test_commands_ahead_of_their_turn_are_refused(server: Server) -> None:
    with smtplib.SMTP(server.host, 25, timeout=10) as client:
        client.send(f"EHLO client.example.com\r\nMAIL FROM:<{STRANGER}>\r\n")
        assert client.getreply()[0] // 100 == 5


STRANGE_NAMES = (
    "two {domain}@{domain}", "@{domain} {local}", "..@{domain}", ".@{domain}", "../x@{domain}", "x@..", "x@.postfix",
    "%{{env:PATH}}@{domain}", "a/b@{domain}", "x@{domain}@{domain}",
)  # fmt: skip
"""Names in lines of the accounts file that are no valid addresses of accounts."""


def test_a_strange_line_in_the_accounts_file_gives_nobody_mail(
    test_pod: PodUnderTest, server: Server, alice: Account
) -> None:
    file = test_pod.folder("accounts") / "passwd"
    text, marker = file.read_text(), f"{token()}@{server.domain}"
    secret = next(line.partition(":")[2] for line in text.splitlines() if line.startswith(alice.address))
    strange = [name.format(domain=server.domain, local=alice.address) for name in STRANGE_NAMES]

    def put(lines: str) -> None:
        new = file.with_name("passwd.test")
        new.write_text(lines)
        new.chmod(file.stat().st_mode)
        os.chown(new, file.stat().st_uid, file.stat().st_gid)
        new.rename(file)

    def known() -> None:
        with server.smtp() as client:
            if answer(client, STRANGER, marker) != 250:
                raise NotYet("the last line is not in use")

    put(text + "".join(f"{name}:{secret}\n" for name in (*strange, marker)))
    try:
        wait_until(known, 5, "the accounts file to be in use")
        for recipient in (*strange, "two", f"two@{server.domain}", f"{token()}@{server.domain}"):
            with server.smtp() as client:
                assert answer(client, STRANGER, recipient) // 100 == 5, recipient
        with contextlib.ExitStack() as stack:  # in parallel, because each wrong login is answered after 2 s
            clients = [stack.enter_context(server.smtp(port=587)) for _ in strange]
            for client, name in zip(clients, strange, strict=True):
                plain = base64.b64encode(f"\0{name}\0{alice.password}".encode()).decode()
                client.putcmd("AUTH", f"PLAIN {plain}")
            said = {name: client.getreply()[0] for client, name in zip(clients, strange, strict=True)}
        assert said == dict.fromkeys(strange, 535)
    finally:
        put(text)
