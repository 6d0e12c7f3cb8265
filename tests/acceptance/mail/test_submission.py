"""Ports 587 and 465: a client that has logged in sends to any address, but only as itself."""

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import SMTP

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.mail import a_right_login_follows, arrived, queued, refusal_of_tls_1_1, sasl_plain
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import SUBMISSION, SUBMISSIONS, Account, Server, letter, token


@pytest.fixture(params=[SUBMISSION, SUBMISSIONS])
def port(request: pytest.FixtureRequest) -> int:
    """Each port that clients send by."""
    return int(request.param)


@pytest.fixture
def client(server: Server, alice: Account, port: int) -> Iterator[smtplib.SMTP]:
    """A client that has logged in as alice."""
    with server.submission(alice, port) as connected:
        yield connected


@pytest.fixture
def stranger(test_pod: PodUnderTest) -> Iterator[str]:
    """An address of another domain. Messages to this address are removed from the queue afterwards."""
    name = token()
    yield f"{name}@example.com"
    for number in queued(test_pod, name):
        test_pod.exec("mail", "postsuper", "-d", number)


def wait_for_queued(test_pod: PodUnderTest, word: str) -> str:
    """Wait until Postfix's queue has a message with this word in an address, and return its queue id."""

    def check() -> str:
        found = queued(test_pod, word)
        if not found:
            raise NotYet("no such message in the queue")
        return found[0]

    return wait_until(check, 10, f"a message of {word} in the queue")


def test_mail_to_an_account_is_delivered(client: smtplib.SMTP, server: Server, alice: Account) -> None:
    subject, body = token(), token()
    client.send_message(letter(alice.address, alice.address, subject, f"{body}\n"))
    received = message_from_bytes(arrived(server, alice, subject), policy=SMTP)
    assert received["Return-Path"] == f"<{alice.address}>"
    assert received.get_content() == f"{body}\r\n"


def test_the_headers_that_each_message_must_have_are_added(
    client: smtplib.SMTP, server: Server, alice: Account
) -> None:
    subject = token()
    client.sendmail(alice.address, alice.address, f"From: {alice.local_part}\r\nSubject: {subject}\r\n\r\nHi.\r\n")
    received = message_from_bytes(arrived(server, alice, subject), policy=SMTP)
    assert received["Date"].datetime
    assert received["Message-ID"].endswith(f".{server.domain}>"), "the name of the mail host"
    assert received["From"] == alice.address


def test_headers_that_a_message_has_stay_as_they_are(client: smtplib.SMTP, server: Server, alice: Account) -> None:
    subject, own = token(), f"<{token()}@client.example.com>"
    date = "Mon, 02 Jan 2006 15:04:05 -0700"
    text = f"From: {alice.address}\r\nDate: {date}\r\nMessage-ID: {own}\r\nSubject: {subject}\r\n\r\nHi.\r\n"
    client.sendmail(alice.address, alice.address, text)
    received = message_from_bytes(arrived(server, alice, subject), policy=SMTP)
    assert received.get_all("Date") == [date]
    assert received.get_all("Message-ID") == [own]


def test_mail_to_another_account_reaches_it_alone(
    client: smtplib.SMTP, server: Server, alice: Account, bob: Account
) -> None:
    subject = token()
    client.send_message(letter(alice.address, bob.address, subject))
    assert arrived(server, bob, subject)
    with server.imap(alice) as mailbox:
        mailbox.select_folder("INBOX", readonly=True)
        assert mailbox.search(["SUBJECT", subject]) == []


def test_mail_to_elsewhere_is_queued_on_the_mail_volume(
    client: smtplib.SMTP, alice: Account, test_pod: PodUnderTest, stranger: str
) -> None:
    client.send_message(letter(alice.address, stranger, token()))
    number = wait_for_queued(test_pod, stranger)
    assert list((test_pod.folder("mail") / ".postfix").rglob(number))


def test_mail_to_nobody_is_refused(client: smtplib.SMTP, server: Server, alice: Account) -> None:
    assert answer(client, alice.address, f"{token()}@{server.domain}") == 550


def test_mail_to_a_domain_that_is_not_there_comes_back(
    server: Server, new_account: Account, test_pod: PodUnderTest, port: int
) -> None:
    user, subject = token(), token()
    with server.submission(new_account, port) as client:
        client.send_message(letter(new_account.address, f"{user}@nowhere.invalid", subject))
    returned = arrived(server, new_account, "Undelivered Mail Returned to Sender")
    assert f"<{user}@nowhere.invalid>: Host or domain name not found".encode() in returned
    assert queued(test_pod, user) == []


def test_mail_without_login_is_refused(server: Server, alice: Account, port: int) -> None:
    for sender in ("", alice.address, "someone@example.com"):
        with server.smtp(port=port) as client:
            assert client.docmd("MAIL", f"FROM:<{sender}>")[0] == 530, sender
            assert client.docmd("RCPT", f"TO:<{alice.address}>")[0] == 503, sender


def test_login_is_offered_after_starttls_only(server: Server) -> None:
    with server.smtp(port=587, tls=False) as client:
        assert not client.has_extn("auth")
        client.starttls(context=server.context())
        client.ehlo()
        assert client.has_extn("auth")


def test_login_and_mail_are_refused_before_starttls(server: Server, alice: Account) -> None:
    with server.smtp(port=587, tls=False) as client:
        assert client.docmd("AUTH", f"PLAIN {sasl_plain(alice)}")[0] // 100 == 5
        assert client.docmd("MAIL", f"FROM:<{alice.address}>")[0] == 530


FROM_THE_POD_ITSELF = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], 587, timeout=10) as client:
    client.ehlo()
    print(client.has_extn("auth"), client.docmd("AUTH", f"PLAIN {sys.argv[2]}")[0] // 100)
"""


def test_login_is_refused_before_starttls_from_the_pod_itself(test_pod: PodUnderTest, alice: Account) -> None:
    for address in ("127.0.0.1", test_pod.address):
        assert test_pod.inside.python(FROM_THE_POD_ITSELF, address, sasl_plain(alice)) == "False 5"


def test_exactly_these_mechanisms_are_offered(server: Server, port: int) -> None:
    with server.smtp(port=port) as client:
        assert sorted(client.esmtp_features["auth"].split()) == ["LOGIN", "PLAIN"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_login_by(server: Server, alice: Account, mechanism: str, port: int) -> None:
    with server.smtp(port=port) as client:
        client.user, client.password = alice.address, alice.password
        code, _ = client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
        assert code == 235


def test_a_wrong_password_is_refused(server: Server, alice: Account, port: int) -> None:
    with a_right_login_follows(server, alice), server.smtp(port=port) as client:
        assert client.docmd("AUTH", f"PLAIN {sasl_plain(Account(alice.address, token()))}")[0] == 535
        assert client.docmd("MAIL", f"FROM:<{alice.address}>")[0] == 530


@pytest.mark.parametrize("sender", ["{name}@{domain}", "{name}+tag@{domain}", "{upper}", "{name}"])
def test_a_login_sends_as_itself(client: smtplib.SMTP, server: Server, alice: Account, sender: str) -> None:
    sender = sender.format(name=alice.local_part, domain=server.domain, upper=alice.address.upper())
    assert answer(client, sender, alice.address) == 250


@pytest.mark.parametrize(
    "sender",
    ["someone@example.com", "nobody@{domain}", "postmaster@{domain}", "postmaster", "abuse@{domain}",
     "{name}@sub.{domain}", "{name}@mail.{domain}", "{name}@example.com", "{name}+tag@example.com",
     '"{name}@{domain}"@example.com', "@{domain}:someone@example.com", "nobody+{name}@{domain}", "{name}@[127.0.0.1]",
     "{name}@localhost", "{name}%{domain}@example.com", "@example.com:nobody@{domain}", "{name}@[198.51.100.1]"],
)  # fmt: skip
def test_a_login_sends_as_nobody_else(client: smtplib.SMTP, server: Server, alice: Account, sender: str) -> None:
    sender = sender.format(name=alice.local_part, domain=server.domain)
    assert answer(client, sender, alice.address) == 553


@pytest.mark.parametrize("sender", ["{local}", "{name}+tag@{domain}", "{upper}"])
def test_a_login_sends_as_no_other_account(
    client: smtplib.SMTP, server: Server, alice: Account, bob: Account, sender: str
) -> None:
    sender = sender.format(local=bob.address, name=bob.local_part, domain=server.domain, upper=bob.address.upper())
    assert answer(client, sender, alice.address) == 553


def test_a_login_is_sent_the_receipts_that_it_asks_for(server: Server, new_account: Account, port: int) -> None:
    with server.submission(new_account, port) as client:
        assert client.has_extn("dsn")
        client.sendmail(new_account.address, new_account.address, b"Subject: a\r\n\r\nHi.\r\n", ["RET=HDRS"],
                            ["NOTIFY=SUCCESS"])  # fmt: skip
    assert b"Successful Mail Delivery Report" in arrived(server, new_account, "Successful Mail Delivery Report")


@pytest.mark.parametrize("name", ["postmaster", "abuse"])
def test_the_postmaster_sends_as_the_addresses_that_reach_him(
    server: Server, test_pod: PodUnderTest, name: str
) -> None:
    with server.submission(test_pod.postmaster) as client:
        assert answer(client, f"{name}@{server.domain}", test_pod.postmaster.address) == 250


def test_the_log_names_the_client_and_the_login_of_a_receipt_without_a_sender(
    client: smtplib.SMTP, server: Server, alice: Account, test_pod: PodUnderTest
) -> None:
    # Receipts have an empty sender (RFC 8098, section 3), which belongs to no login. The message does not name the
    # login, so the operator asks for it by the queue ID in Received.
    subject = token()
    client.send_message(letter(alice.address, alice.address, subject), from_addr="")
    received = message_from_bytes(arrived(server, alice, subject), policy=SMTP)
    assert received["Return-Path"] == "<>"
    found = re.search(r" id (\w+)", received.get_all("Received", [])[-1])
    assert found
    gateway = f"{test_pod.address.rpartition('.')[0]}.1"  # the pod sees it as the client of each test
    for identity in (found[1], received["Message-ID"]):
        told = test_pod.invoke("mail.why", identity).stdout
        assert f"client=unknown[{gateway}]" in told, told
        assert f"sasl_username={alice.address}" in told, told
        assert "helo=<client.example.com>" in told, told
        assert f"to=<{alice.address}>" in told, told


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_starttls_takes(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version
    with server.smtp(tls=False, port=587) as client:
        assert client.starttls(context=context)[0] == 220
        assert client.ehlo()[0] == 250


def test_starttls_refuses_tls_1_1(server: Server) -> None:
    assert "alert protocol version" in refusal_of_tls_1_1(server, 587, "smtp")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_port_465_takes_tls_from_the_first_byte(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version
    with smtplib.SMTP_SSL(server.host, SUBMISSIONS, timeout=10, context=context) as client:
        assert client.ehlo()[0] == 250
        assert not client.has_extn("starttls")


def test_port_465_says_nothing_without_tls_and_refuses_tls_1_1(server: Server) -> None:
    assert "alert protocol version" in refusal_of_tls_1_1(server, SUBMISSIONS)
    with (
        socket.create_connection((server.host, SUBMISSIONS), timeout=10) as client,
        contextlib.suppress(ConnectionResetError),
    ):
        client.sendall(b"EHLO client.example.com\r\n")
        assert b"220" not in client.recv(1000)


def test_a_message_above_the_largest_size_is_refused(client: smtplib.SMTP, alice: Account) -> None:
    largest = int(client.esmtp_features["size"])
    assert client.docmd("MAIL", f"FROM:<{alice.address}> SIZE={largest + 1}")[0] == 552
    assert client.docmd("MAIL", f"FROM:<{alice.address}> SIZE={largest}")[0] == 250


def test_logins_are_back_as_soon_as_dovecot_is(test_pod: PodUnderTest, server: Server, alice: Account) -> None:
    # An smtpd that does not find Dovecot's socket for logins exits. By default Postfix would start none for a minute.
    path = "/run/dovecot/auth-postfix"

    def log_in() -> None:
        with server.submission(alice):
            pass

    def be_refused() -> None:
        try:
            log_in()
        except OSError:
            return
        raise NotYet("an smtpd that found the socket while it was there has not ended")

    test_pod.exec("mail", "mv", path, f"{path}.away")
    try:
        test_pod.exec("mail", "postfix", "reload")  # an idle smtpd may serve one more client before it exits
        wait_until(be_refused, 5, "no login on port 587")
    finally:
        test_pod.exec("mail", "mv", f"{path}.away", path)
    wait_until(log_in, 5, "a login on port 587")
