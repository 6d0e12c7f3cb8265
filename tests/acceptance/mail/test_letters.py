"""What the filter makes of letters: ordinary ones, doubtful ones, and those that are made to break it."""

import os
import signal
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes
from email.message import EmailMessage
from itertools import cycle, islice

import pytest

from podserve.waiting import NotYet, wait_until
from podserve.zone.record import quoted
from tests.testbed.letters import GTUBE, KINDS, of_kind, phishing, program, wire, zip_bomb
from tests.testbed.mail import delivered
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token
from tests.testbed.two_domains import THIRD, THIRD_PARTY
from tests.testbed.vantage import Vantage

LETTERS = 200
LIMIT = 5
"""Seconds within which the server has to say what it does with a message."""


@pytest.fixture
def third_party(test_pod: PodUnderTest) -> str:
    """A domain whose mail comes from the stranger's address: it has SPF, and the address has a name."""
    test_pod.publish(THIRD_PARTY)
    return THIRD


def test_ordinary_letters_of_ten_kinds_arrive_in_the_inbox(
    test_pod: PodUnderTest, outsider: Vantage, new_account: Account, third_party: str
) -> None:
    small = [kind for kind in KINDS if kind != "large"]
    with outsider.smtp(test_pod.address) as client:
        for kind in ["large", *islice(cycle(small), LETTERS - 1)]:
            sender = f"{token()}@{third_party}"
            client.sendmail(sender, [new_account.address], wire(of_kind(kind, sender, new_account.address, token())))
    with test_pod.server.imap(new_account) as imap:

        def all_there() -> None:
            there, junk = (imap.folder_status(name, ["MESSAGES"])[b"MESSAGES"] for name in ("INBOX", "Junk"))
            assert not junk
            if there != LETTERS:
                raise NotYet(f"{there} letters in the inbox")

        wait_until(all_there, 20, f"{LETTERS} letters in the inbox")


def test_the_test_message_of_spam_filters_is_refused(server: Server, alice: Account) -> None:
    sender = f"{token()}@{THIRD}"
    with server.smtp() as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.send_message(letter(sender, alice.address, token(), f"{GTUBE}\n"), sender)
    assert refused.value.smtp_code == 554
    assert "postmaster@" in str(refused.value.smtp_error)


def test_phishing_arrives_in_junk(server: Server, alice: Account) -> None:
    sender, subject = f"{token()}@{THIRD}", token()
    with server.smtp() as client:
        client.send_message(phishing(sender, alice.address, subject), sender)
    folder, content = delivered(server, alice, subject)
    assert folder == "Junk"
    seen = str(message_from_bytes(content)["X-Spamd-Result"])
    assert "PHISHING(" in seen
    assert "FROM_NEQ_DISPLAY_NAME(" in seen


@pytest.mark.parametrize("name", ["invoice.pdf.exe", "SETUP.EXE", "setup.scr", "setup.jar", "setup.msi"])
def test_a_program_does_not_arrive_in_the_inbox(
    test_pod: PodUnderTest, outsider: Vantage, server: Server, third_party: str, name: str
) -> None:
    # From a sender whose domain vouches for it. A message to postmaster@ is neither refused nor asked to come again.
    subject = token()
    sender, recipient = f"{token()}@{third_party}", test_pod.postmaster
    with outsider.smtp(test_pod.address) as client:
        client.sendmail(sender, [recipient.address], wire(program(sender, recipient.address, subject, name)))
    assert delivered(server, recipient, subject)[0] == "Junk"


def _titles(test_pod: PodUnderTest) -> dict[str, str]:
    """Return the process ids and titles of the filter's processes."""
    found = dict[str, str]()
    for process in test_pod.processes("mail"):
        with suppress(OSError):  # it has just exited
            found[process.name] = (process / "cmdline").read_text()
    return {pid: title for pid, title in found.items() if title.startswith("rspamd: ")}


def _workers(test_pod: PodUnderTest) -> set[str]:
    return set(_titles(test_pod))


@contextmanager
def _the_filter_goes_on(test_pod: PodUnderTest, account: Account) -> Iterator[None]:
    """Run the body. Afterwards the same processes of the filter judge the next message."""
    before = _workers(test_pod)
    assert before
    yield
    subject, sender = token(), f"{token()}@{THIRD}"
    with test_pod.server.smtp() as client:
        client.send_message(letter(sender, account.address, subject), sender)
    folder, content = delivered(test_pod.server, account, subject)
    assert folder == "INBOX"
    assert "/ 15.00]" in str(message_from_bytes(content)["X-Spamd-Result"]), "it was judged"
    assert _workers(test_pod) == before


def _parts(message: EmailMessage, count: int = 10_000) -> bytes:
    head = "Content-Type: multipart/mixed; boundary=b\r\n"
    body = "\r\n".join(f"--b\r\nContent-Type: text/plain\r\n\r\n{number}" for number in range(count))
    return _with(message, head, f"{body}\r\n--b--\r\n")


def _nested(message: EmailMessage) -> bytes:
    opened = "".join(
        f'Content-Type: multipart/mixed; boundary="b{level}"\r\n\r\n--b{level}\r\n' for level in range(1_000)
    )
    closed = "".join(f"\r\n--b{level}--\r\n" for level in reversed(range(1_000)))
    head, _, body = opened.partition("\r\n\r\n")
    return _with(message, f"{head}\r\n", f"{body}Content-Type: text/plain\r\n\r\nHello.{closed}")


def _enclosed(message: EmailMessage) -> bytes:
    return _with(message, "Content-Type: message/rfc822\r\n", "Content-Type: message/rfc822\r\n\r\n" * 1_000)


def _bomb(message: EmailMessage) -> bytes:
    message.add_attachment(zip_bomb(), maintype="application", subtype="zip", filename="films.zip")
    return wire(message)


def _header(message: EmailMessage) -> bytes:
    return b"X-Long: " + b"0123456789 " * 100_000 + b"\r\n" + wire(message)


def _with(message: EmailMessage, head: str, body: str) -> bytes:
    for name in ("Content-Type", "Content-Transfer-Encoding"):
        del message[name]
    return wire(message).partition(b"\r\n\r\n")[0] + f"\r\n{head}\r\n{body}".encode()


@pytest.mark.parametrize(
    "made", [_parts, _nested, _enclosed, _bomb, _header], ids=lambda made: made.__name__.strip("_")
)
def test_a_monstrous_message_harms_nothing(
    test_pod: PodUnderTest,
    outsider: Vantage,
    new_account: Account,
    third_party: str,
    made: Callable[[EmailMessage], bytes],
) -> None:
    # Python's client of POP3 refuses the long header, and other tests read alice's mailbox with it.
    sender, subject = f"{token()}@{third_party}", token()
    content = made(letter(sender, new_account.address, subject))
    with _the_filter_goes_on(test_pod, new_account), outsider.smtp(test_pod.address) as client:
        begin = time.monotonic()
        try:
            client.sendmail(sender, [new_account.address], content)
            said = "accepted"
        except smtplib.SMTPDataError as refused:
            said = f"refused: {refused}"
        assert time.monotonic() - begin < LIMIT, said
        if said == "accepted":
            delivered(test_pod.server, new_account, subject)


def test_a_message_of_more_than_1000_parts_goes_to_junk_and_no_login_can_send_it(
    server: Server, test_pod: PodUnderTest, alice: Account, bob: Account
) -> None:
    # The filter crashed at one of ten messages of 10,000 parts.
    sender, many, few = f"{token()}@{THIRD}", token(), token()
    with _the_filter_goes_on(test_pod, alice), server.smtp() as client:
        client.sendmail(sender, [alice.address], _parts(letter(sender, alice.address, many)))
        client.sendmail(sender, [alice.address], _parts(letter(sender, alice.address, few), 100))
    with server.submission(bob) as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(bob.address, [alice.address], _parts(letter(bob.address, alice.address, token())))
    assert "a message may have 1,000 parts" in str(refused.value.smtp_error)
    assert [delivered(server, alice, subject)[0] for subject in (many, few)] == ["Junk", "INBOX"]


@pytest.mark.parametrize("harm", [signal.SIGSEGV, signal.SIGSTOP], ids=["died", "hangs"])
def test_a_process_of_the_filter_that_died_or_hangs_is_replaced_by_one_that_knows_the_accounts(
    test_pod: PodUnderTest, server: Server, new_account: Account, harm: signal.Signals
) -> None:
    # The new process begins with what rspamd read at its own start. rspamd kills one that hangs after six seconds.
    died = next(pid for pid, title in _titles(test_pod).items() if "rspamd_proxy" in title)
    os.kill(int(died), harm)

    def sends() -> None:
        try:
            with server.submission(new_account) as client:
                assert client.sock
                client.sock.settimeout(LIMIT)
                client.send_message(letter(new_account.address, new_account.address, token()))
        except TimeoutError as error:  # Postfix waits a minute for a filter that signs
            raise NotYet(str(error)) from error
        except smtplib.SMTPDataError as error:
            if error.smtp_code // 100 != 4:
                raise
            raise NotYet(str(error)) from error

    def replaced() -> None:
        if died in _workers(test_pod):
            raise NotYet("it is still there")

    wait_until(sends, 15, "the filter to sign again")
    wait_until(replaced, 15, f"another process than {died}")
    wait_until(sends, 5, "the filter to sign again")


def test_a_dns_answer_of_64_kilobytes_harms_nothing(test_pod: PodUnderTest, outsider: Vantage, alice: Account) -> None:
    name, subject = token(), token()
    policy = f"v=spf1 {' '.join(f'ip4:10.{number >> 8}.{number & 255}.1' for number in range(4_200))} -all"
    sender = f"anna@{name}.{THIRD}"
    assert 60_000 < len(policy) < 65_000
    test_pod.publish(f"{THIRD_PARTY}\n{name} TXT {quoted(policy)}\n")
    with _the_filter_goes_on(test_pod, alice), outsider.smtp(test_pod.address) as client:
        begin = time.monotonic()
        client.sendmail(sender, [alice.address], wire(letter(sender, alice.address, subject)))
        assert time.monotonic() - begin < LIMIT
        delivered(test_pod.server, alice, subject)


@pytest.mark.parametrize("suffix", [".key", "-ed25519.key"])
def test_nothing_leaves_unsigned_when_a_key_cannot_be_read(
    test_pod: PodUnderTest, server: Server, alice: Account, suffix: str
) -> None:
    folder = test_pod.folder("dkim") / test_pod.settings.domain
    [file] = [each for each in folder.glob("*.key") if each.name[14:] == suffix]
    content, subject = file.read_bytes(), token()
    try:
        file.write_bytes(b"no key\n")
        with server.submission(alice) as client, pytest.raises(smtplib.SMTPDataError) as refused:
            client.send_message(letter(alice.address, alice.address, subject))
        assert refused.value.smtp_code == 451
        warned = test_pod.invoke("up", check=False)
        assert f"{file.name} is not a key that PodServe made" in warned.stdout + warned.stderr
    finally:
        file.write_bytes(content)

    def signs() -> None:
        try:
            with server.submission(alice) as client:
                client.send_message(letter(alice.address, alice.address, subject))
        except smtplib.SMTPDataError as error:
            raise NotYet(str(error)) from error

    wait_until(signs, 5, "the filter to sign again")
    signed = message_from_bytes(delivered(server, alice, subject)[1])
    assert len(signed.get_all("DKIM-Signature", [])) == 2
