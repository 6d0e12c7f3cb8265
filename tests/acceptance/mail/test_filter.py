"""The filter: what it signs, judges and limits, what happens while it is away, and that it can be off."""

import json
import os
import re
import signal
import smtplib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import STRANGER, arrived
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server, letter, token
from tests.testbed.tokens import with_app_password
from tests.testbed.vantage import neighbour_of

ACCEPTED_WITHIN = 3.0
"""Seconds to accept a message, whatever the filter or the resolver does."""
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The text by which spam filters are tested (https://spamassassin.apache.org/gtube/)."""
NOT_JUDGED = "not judged, because the filter did not answer"


def shown(error: smtplib.SMTPResponseException) -> str:
    """Return an answer: its code and its text."""
    text = error.smtp_error
    return f"{error.smtp_code} {text.decode() if isinstance(text, bytes) else text}"


def answer_to(server: Server, message: EmailMessage, recipient: str, login: Account | None = None) -> str:
    """Send a message as a stranger, or as a login, and return the answer: its code and its text."""
    try:
        with server.submission(login) if login else server.smtp() as client:
            client.send_message(message, login.address if login else STRANGER, recipient)
    except smtplib.SMTPResponseException as error:
        return shown(error)
    return "250"


def processes(pod: PodUnderTest, name: str) -> list[int]:
    """Return the processes of the mail container with this word in their command lines."""
    found = []
    for process in pod.processes("mail"):
        try:
            if name.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # it has just ended
    return found


@contextmanager
def stopped(pod: PodUnderTest, name: str) -> Iterator[None]:
    """Freeze the processes with this word in their command lines, and end them afterwards."""
    frozen = processes(pod, name)
    assert frozen
    try:
        for process in frozen:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in frozen:
            with suppress(ProcessLookupError):  # the main process replaces a worker that hangs
                os.kill(process, signal.SIGKILL)


@contextmanager
def down(pod: PodUnderTest) -> Iterator[None]:
    """Keep the filter from running."""
    pod.exec("mail", "s6-svc", "-wD", "-d", "/run/s6/rspamd")
    try:
        yield
    finally:
        pod.exec("mail", "s6-svc", "-u", "/run/s6/rspamd")


def wait_until_signing(server: Server, account: Account) -> None:
    """Wait until a login can send."""

    def signs() -> None:
        if (
            said := answer_to(server, letter(account.address, account.address, token()), account.address, account)
        ) != "250":
            raise NotYet(said)

    wait_until(signs, 10, "the filter to sign mail")


def results(content: bytes, name: str) -> list[str]:
    return [" ".join(str(value).split()) for value in message_from_bytes(content).get_all(name, [])]


def test_mail_of_a_login_has_a_signature_by_each_key_that_the_domain_publishes(
    server: Server, test_pod: PodUnderTest, alice: Account
) -> None:
    subject = token()
    assert answer_to(server, letter(alice.address, alice.address, subject), alice.address, alice) == "250"
    signatures = results(arrived(server, alice, subject), "DKIM-Signature")
    tags = [dict(tag.strip().split("=", 1) for tag in signature.split(";")) for signature in signatures]
    assert {tag["a"] for tag in tags} == {"rsa-sha256", "ed25519-sha256"}
    assert {tag["d"] for tag in tags} == {server.domain}
    needed = json.loads(test_pod.invoke("dns.records", "--json", INVOKE_PUBLIC_ADDRESS="203.0.113.7").stdout)["records"]
    keys = {one["relative"]: one["value"] for one in needed if one["relative"].endswith("._domainkey")}
    assert {f"{tag['s']}._domainkey" for tag in tags} == set(keys)
    assert {value.partition("; p=")[0] for value in keys.values()} == {"v=DKIM1; k=rsa", "v=DKIM1; k=ed25519"}


@pytest.mark.parametrize(
    "author", ["someone@example.com", "{other}", "{own}, {other}", "{own}\r\nFrom: {other}", "nobody"]
)
def test_a_login_sends_in_its_own_name_alone(server: Server, alice: Account, new_account: Account, author: str) -> None:
    head = f"From: {author.format(own=alice.address, other=new_account.address)}\r\nSubject: a\r\n\r\nHi.\r\n"
    with server.submission(alice) as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(alice.address, new_account.address, head)
    assert (refused.value.smtp_code, b"From:" in refused.value.smtp_error) == (554, True), refused.value


@pytest.mark.parametrize("name", ["{local}+shop", "{local}", "Abuse", "postmaster"])
def test_each_address_of_a_login_is_its_own_name(
    server: Server, test_pod: PodUnderTest, alice: Account, name: str
) -> None:
    login, subject = test_pod.postmaster, token()
    message = letter(f"{name.format(local=login.local_part)}@{server.domain}", alice.address, subject)
    assert answer_to(server, message, alice.address, login) == "250"
    assert arrived(server, alice, subject)


def test_a_message_from_outside_says_what_was_judged(server: Server, alice: Account) -> None:
    message = letter(STRANGER, alice.address, token())
    message["X-Spam"], message["X-Spamd-Result"] = "Yes", "default: False [-99.00 / 15.00]"
    assert answer_to(server, message, alice.address) == "250"
    content = arrived(server, alice, message["Subject"])
    [own] = results(content, "Authentication-Results")
    assert own.startswith(f"mail.{server.domain}; ")
    [why] = results(content, "X-Spamd-Result")
    assert why.startswith("default: False [")
    assert "-99" not in why
    assert not results(content, "X-Spam"), "the sender does not say what is spam"


def test_what_a_filter_is_tested_by_is_refused(server: Server, alice: Account) -> None:
    said = answer_to(server, letter(STRANGER, alice.address, token(), GTUBE), alice.address)
    assert said.startswith("554 5.7.1 this message looks like spam")


@pytest.mark.parametrize("name", ["postmaster", "abuse"])
def test_the_postmaster_gets_even_that_in_junk(server: Server, test_pod: PodUnderTest, name: str) -> None:
    subject = token()
    assert (
        answer_to(server, letter(STRANGER, f"{name}@{server.domain}", subject, GTUBE), f"{name}@{server.domain}")
        == "250"
    )
    content = arrived(server, test_pod.postmaster, subject)
    assert results(content, "X-Spam") == ["Yes"]
    assert "GTUBE(100.00)" in results(content, "X-Spamd-Result")[0]
    with server.imap(test_pod.postmaster) as client:
        client.select_folder("Junk")
        assert client.search(["SUBJECT", subject])


@pytest.mark.alone  # it measures seconds
@pytest.mark.parametrize(
    ("away", "expected"),
    [(lambda pod: stopped(pod, "rspamd_proxy"), set()), (down, {"the filter does not answer"})],
    ids=["slow", "dead"],
)
def test_without_the_filter_mail_is_accepted_and_marked_and_none_leaves_unsigned(
    server: Server, test_pod: PodUnderTest, alice: Account, away: object, expected: set[str]
) -> None:
    assert callable(away)
    message = letter(STRANGER, alice.address, token())
    with away(test_pod):
        begin = time.monotonic()
        assert answer_to(server, message, alice.address) == "250"
        assert time.monotonic() - begin < ACCEPTED_WITHIN
        refused = answer_to(server, letter(alice.address, alice.address, token()), alice.address, alice)
        seen = json.loads(test_pod.invoke("status", "--json", check=False).stdout)
    assert refused.startswith("4"), refused
    told = {problem.partition(":")[0] for problem in seen["problems"]}
    assert told == {"submission does not answer", *expected}
    assert results(arrived(server, alice, message["Subject"]), "X-Spamd-Result") == [NOT_JUDGED]
    wait_until_signing(server, alice)


@pytest.mark.alone  # it measures seconds
def test_while_no_resolver_answers_mail_is_accepted_and_signed(
    server: Server, test_pod: PodUnderTest, alice: Account
) -> None:
    first, second = test_pod.upstreams
    subjects = [token(), token()]
    with first.stopped(), second.stopped():
        for subject, login in zip(subjects, (None, alice), strict=True):
            begin = time.monotonic()
            author = login.address if login else f"a@{token()}.example"
            assert answer_to(server, letter(author, alice.address, subject), alice.address, login) == "250"
            assert time.monotonic() - begin < ACCEPTED_WITHIN
    assert results(arrived(server, alice, subjects[0]), "X-Spamd-Result") != [NOT_JUDGED]
    assert len(results(arrived(server, alice, subjects[1]), "DKIM-Signature")) == 2


@pytest.mark.parametrize("name", ["rspamd: main", "rspamd_proxy", "controller process", "valkey-server"])
def test_a_part_of_the_filter_that_was_killed_comes_back_alone(
    server: Server, test_pod: PodUnderTest, alice: Account, name: str
) -> None:
    before = processes(test_pod, name)
    for process in before:
        os.kill(process, signal.SIGKILL)

    def replaced() -> None:
        if len(processes(test_pod, name)) != len(before) or set(processes(test_pod, name)) & set(before):
            raise NotYet(f"its processes are {processes(test_pod, name)}")

    wait_until(replaced, 10, f"as many {name} as before to run again")
    wait_until_signing(server, alice)
    subject = token()
    assert answer_to(server, letter(STRANGER, alice.address, subject), alice.address) == "250"
    assert results(arrived(server, alice, subject), "Authentication-Results")


def test_a_filter_that_starts_again_finds_its_patterns_compiled(
    test_pod: PodUnderTest, server: Server, alice: Account
) -> None:
    def rested() -> None:
        """Wait until rspamd's compiler has told the first process that the patterns are loaded (after 1 to 2 s)."""
        seconds = test_pod.exec("mail", "ps", "-C", "rspamd", "-o", "etimes=").stdout.split()
        if not seconds or max(map(int, seconds)) < 4:
            raise NotYet(f"{seconds} s")

    with down(test_pod):
        pass
    wait_until(rested, 10, "the filter to have judged nothing for four seconds")
    with down(test_pod):  # it ends by itself, and would remove the patterns
        pass
    wait_until_signing(server, alice)
    compiled = test_pod.exec("mail", "find", "/run/rspamd/patterns", "-type", "f", "-size", "+1M").stdout
    assert not compiled, "the processor of this machine is the one that the image was built on"
    links = test_pod.exec("mail", "find", "/run/rspamd/patterns", "-type", "l", "-name", "*.hs").stdout
    assert len(links.split()) > 40


def test_the_filter_has_no_privileges_and_its_keys_are_its_own(test_pod: PodUnderTest) -> None:
    for name in ("rspamd: main", "rspamd_proxy", "controller process", "valkey-server"):
        process = processes(test_pod, name)[0]
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line
        )
        assert "0" not in status["Uid"].split(), name
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0, name
    [key, *_] = (test_pod.folder("dkim") / test_pod.settings.domain).glob("*.key")
    inside = f"/data/state/dkim/{test_pod.settings.domain}/{key.name}"
    for user, readable in (
        ("_rspamd", True),
        ("vmail", False),
        ("postfix", False),
        ("dovecot", False),
        ("nobody", False),
    ):
        assert test_pod.exec("mail", "s6-setuidgid", user, "cat", inside, check=False).ok is readable, user


@pytest.mark.parametrize(
    ("socket", "allowed"),
    [
        ("/run/rspamd/milter/socket", "postfix"),
        ("/run/rspamd/learn/socket", "vmail"),
        ("/run/valkey/socket", "_rspamd"),
    ],
)
def test_each_socket_of_the_filter_is_for_one_user(test_pod: PodUnderTest, socket: str, allowed: str) -> None:
    script = f"exec curl -sS --max-time 2 --unix-socket {socket} http://localhost/ 2>&1"
    for user in ("postfix", "vmail", "_rspamd", "dovecot", "nobody"):
        said = test_pod.exec("mail", "s6-setuidgid", user, "sh", "-c", script, check=False).stdout
        assert ("Could not connect" in said or "Failed to connect" in said) == (user not in {allowed, "_rspamd"}), (
            user,
            said,
        )


def test_why_a_message_is_where_it_is_can_be_asked(server: Server, test_pod: PodUnderTest, alice: Account) -> None:
    identity = f"<{token()}@example.com>"
    message = letter(STRANGER, f"postmaster@{server.domain}", token(), GTUBE)
    message.replace_header("Message-ID", identity)
    assert answer_to(server, message, f"postmaster@{server.domain}") == "250"
    arrived(server, test_pod.postmaster, message["Subject"])
    told = json.loads(test_pod.invoke("mail.why", identity, "--json").stdout)
    [judgement] = told["judgements"]
    assert (judgement["action"], judgement["rules"][0]["name"]) == ("add header", "GTUBE")
    assert any("Junk" in event for event in told["events"]), told
    read = test_pod.invoke("mail.why", identity.strip("<>")).stdout
    assert {"GTUBE", "Junk"} <= set(re.findall(r"\w+", read))

    refused = letter(STRANGER, alice.address, token(), GTUBE)
    answer_to(server, refused, alice.address)
    assert "reject" in test_pod.invoke("mail.why", refused["Message-ID"]).stdout
    unknown = test_pod.invoke("mail.why", "<nobody@example.com>", check=False)
    assert (unknown.code, "Traceback" in unknown.stderr) == (1, False)
    assert "has no message with the ID 'nobody@example.com'" in unknown.stderr


def turned_back(pod: PodUnderTest, days: float) -> None:
    """Make all pairs of keys older, as if this time had passed."""
    folder = pod.folder("dkim") / pod.settings.domain
    for key in sorted(folder.glob("*.key")):
        selector, dash, rest = key.name.removesuffix(".key").partition("-")
        made = time.mktime(time.strptime(f"{selector} UTC", "%Y%m%d%H%M%S %Z")) - time.timezone - days * 86400
        key.rename(folder / f"{time.strftime('%Y%m%d%H%M%S', time.gmtime(made))}{dash}{rest}.key")


def selectors_of(server: Server, account: Account) -> set[str]:
    subject = token()
    assert answer_to(server, letter(account.address, account.address, subject), account.address, account) == "250"
    signatures = results(arrived(server, account, subject), "DKIM-Signature")
    return {tag.strip()[2:] for signature in signatures for tag in signature.split(";") if tag.strip().startswith("s=")}


def made_selectors(pod: PodUnderTest) -> Sequence[str]:
    return sorted(key.stem for key in (pod.folder("dkim") / pod.settings.domain).glob("*.key"))


def test_new_keys_are_published_a_day_before_they_sign_and_old_ones_a_week_longer() -> None:
    with play_test_pod("-keys", public_address="203.0.113.7") as pod:
        server, account = pod.server, pod.new_account()
        turned_back(pod, 30)
        old = made_selectors(pod)
        pod.invoke("up")
        wait_until_signing(server, account)
        new = pod.invoke("dkim.rotate").stdout
        both = made_selectors(pod)
        assert (set(old) < set(both), len(both)) == (True, 4)
        assert all(selector in new for selector in set(both) - set(old))
        records = pod.invoke("dns.records").stdout
        assert all(f"{selector}._domainkey IN TXT" in records for selector in both)
        assert selectors_of(server, account) == set(old), "the new keys are not known everywhere yet"
        again = pod.invoke("dkim.rotate", check=False)
        assert (again.code, "Wait until then" in again.stderr) == (1, True), again

        turned_back(pod, 1.01)
        pod.invoke("certs.renew")
        wait_until(lambda: _signs_by(server, account, made_selectors(pod)[2:]), 5, "the new keys to sign")
        assert len(made_selectors(pod)) == 4, "mail with the old signature is still under way"
        turned_back(pod, 7)
        pod.invoke("up")
        assert len(made_selectors(pod)) == 2
        wait_until(lambda: _signs_by(server, account, made_selectors(pod)), 5, "the new keys to sign")


def _signs_by(server: Server, account: Account, selectors: Sequence[str]) -> None:
    if (found := selectors_of(server, account)) != set(selectors):
        raise NotYet(f"{found} sign")


def test_with_the_filter_off_nothing_of_it_runs_and_mail_is_as_it_was_sent() -> None:
    with play_test_pod("-plain", filter="off") as pod:
        server, account = pod.server, pod.new_account()
        assert not processes(pod, "rspamd") + processes(pod, "valkey")
        assert not list((pod.folder("dkim")).iterdir())
        message = letter(STRANGER, account.address, token(), GTUBE)
        message["X-Spam"] = "Yes"
        assert answer_to(server, message, account.address) == "250"
        content = arrived(server, account, message["Subject"])
        assert not results(content, "Authentication-Results") + results(content, "X-Spamd-Result")
        assert results(content, "X-Spam") == ["Yes"]
        sent = letter(account.address, account.address, token())
        assert answer_to(server, sent, account.address, account) == "250"
        assert not results(arrived(server, account, sent["Subject"]), "DKIM-Signature")
        refused = pod.invoke("dkim.rotate", check=False)
        assert (refused.code, 'filter is "off"' in refused.stderr) == (1, True), refused
        assert "_domainkey" not in pod.invoke("dns.records", INVOKE_PUBLIC_ADDRESS="203.0.113.7").stdout


@pytest.fixture(scope="module")
def strict() -> Iterator[PodUnderTest]:
    """A pod whose accounts may send to three recipients an hour, and that asks a blocklist."""
    with play_test_pod("-strict", recipients_per_hour="3", blocklists="list.sethlakowske.com") as pod:
        yield pod


def test_a_login_that_sends_too_much_must_wait_and_the_postmaster_is_told_once(strict: PodUnderTest) -> None:
    server, account, other = strict.server, strict.new_account(), strict.new_account()
    many = [f"{other.local_part}+{number}@{server.domain}" for number in range(2)]
    for login in (account, *(with_app_password(strict, account, label) for label in ("phone", "tv"))):
        message = letter(account.address, other.address, token())
        with server.submission(login) as client:
            try:
                client.send_message(message, account.address, [*many, strict.postmaster.address][:2])
            except smtplib.SMTPDataError as error:
                said = shown(error)
    assert said == "451 4.7.1 this account has sent to 3 recipients within an hour: try again later"
    warning = arrived(server, strict.postmaster, f"{account.address} sends too much mail")
    assert f"invoke users.passwd {account.address}".encode() in warning
    with server.imap(strict.postmaster) as client:
        assert client.select_folder("INBOX")[b"EXISTS"] == 1
    assert answer_to(server, letter(other.address, account.address, token()), account.address, other) == "250"


SEND = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], 25, timeout=30, local_hostname="client.example.com") as client:
    try:
        client.sendmail(sys.argv[2], [sys.argv[3]], sys.stdin.read())
        print(250)
    except smtplib.SMTPDataError as error:
        print(error.smtp_code, error.smtp_error.decode())
"""


@pytest.mark.parametrize(("answer", "counts"), [("127.0.0.2", "yes"), ("127.255.255.254", "no")])
def test_an_address_on_a_blocklist_counts_and_an_error_of_the_list_does_not(
    strict: PodUnderTest, answer: str, counts: str
) -> None:
    with neighbour_of(strict.name) as sender:
        listed = ".".join(reversed(sender.address.split(".")))
        strict.name_addresses({f"{listed}.list.sethlakowske.com": answer})
        message = letter(STRANGER, f"postmaster@{strict.settings.domain}", token())
        recipient = f"postmaster@{strict.settings.domain}"
        ended = sender.run(sys.executable, "-c", SEND, strict.address, STRANGER, recipient, stdin=message.as_string())
    assert ended.stdout.strip() == "250", ended
    [why] = results(arrived(strict.server, strict.postmaster, message["Subject"]), "X-Spamd-Result")
    assert ("BLOCKLISTED(6.00)" in why) is (counts == "yes"), why
