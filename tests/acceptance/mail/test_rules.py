"""Port 4190 (ManageSieve) and what an account's Sieve script does with its mail. No fault loses a message."""

import socket
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.letters import phishing
from tests.testbed.mail import STRANGER, arrived, delivered, sasl_plain
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token

PORT = 4190
FROM_THE_POD_ITSELF = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as client:
    client.sendall(f'AUTHENTICATE "PLAIN" "{sys.argv[3]}"\\r\\nLOGOUT\\r\\n'.encode())
    print(b"".join(iter(lambda: client.recv(1000), b"")).decode())
"""


def activate(server: Server, account: Account, script: str) -> None:
    """Make a script the one that judges the account's mail."""
    with server.rules(account) as client:
        assert client.putscript("rules", script), client.errmsg
        assert client.setactive("rules")


def send(server: Server, message: EmailMessage, sender: str = STRANGER) -> None:
    """Send a message from outside."""
    with server.smtp() as client:
        client.send_message(message, sender)


def found_in(server: Server, account: Account, folder: str, subject: str) -> bytes:
    """Wait for a message in a folder, and return it."""
    with server.imap(account) as client:

        def check() -> bytes:
            if client.folder_exists(folder):
                client.select_folder(folder, readonly=True)
                for there in client.fetch(client.search(["SUBJECT", subject]) or [2**31], ["BODY.PEEK[]"]).values():
                    return bytes(there[b"BODY[]"])
            raise NotYet("it is not there")

        return wait_until(check, 10, f"the message {subject} in {folder}")


def test_a_login_is_refused_before_starttls(server: Server, alice: Account) -> None:
    with socket.create_connection((server.host, PORT), timeout=10) as client:
        client.sendall(f'AUTHENTICATE "PLAIN" "{sasl_plain(alice)}"\r\n'.encode())
        with client.makefile() as said:
            greeting = list(iter(said.readline, 'OK "ready"\n'))
            assert '"SASL" ""\n' in greeting
            assert said.readline().startswith("NO (ENCRYPT-NEEDED)")


def test_a_login_is_refused_before_starttls_from_the_pod_itself(test_pod: PodUnderTest, alice: Account) -> None:
    for address in ("127.0.0.1", test_pod.address):
        said = test_pod.inside.python(FROM_THE_POD_ITSELF, address, str(PORT), sasl_plain(alice))
        assert "\nNO" in said
        assert "Logged in" not in said


def test_a_script_files_mail_and_goes_on_doing_so_until_another_one_is_active(
    server: Server, new_account: Account
) -> None:
    word, other = token(), token()
    activate(server, new_account, f'require ["fileinto", "mailbox"];\nfileinto :create "{word}";\n')
    send(server, letter(STRANGER, new_account.address, word))
    assert found_in(server, new_account, word, word)
    with server.rules(new_account) as client:
        assert client.listscripts() == ("rules", [])
        assert client.setactive("")
    send(server, letter(STRANGER, new_account.address, other))
    assert delivered(server, new_account, other)[0] == "INBOX"


@pytest.mark.parametrize("command", ["putscript", "checkscript"])
def test_a_script_that_does_not_compile_is_refused_with_its_line(
    server: Server, new_account: Account, command: str
) -> None:
    script = 'require "fileinto";\n\nfileinto Nowhere;\n'
    with server.rules(new_account) as client:
        assert not (client.putscript("rules", script) if command == "putscript" else client.checkscript(script))
        assert "line 3: error" in client.errmsg.decode()
        assert client.listscripts() == (None, [])


@pytest.mark.parametrize("extension", ["vnd.dovecot.pipe", "vnd.dovecot.execute", "vnd.dovecot.filter", "editheader"])
def test_a_script_runs_no_program_and_changes_no_header(server: Server, new_account: Account, extension: str) -> None:
    with server.rules(new_account) as client:
        assert not client.checkscript(f'require "{extension}";\nkeep;\n')
        assert extension in client.errmsg.decode()
        assert client.checkscript('require ["fileinto", "vacation", "imap4flags", "variables", "regex"];\nkeep;\n')


@pytest.mark.parametrize(
    "script",
    ['require "fileinto";\nfileinto "Nowhere";\n', "".join(f'redirect "{n}@example.com";\n' for n in range(5))],
)
def test_a_script_that_fails_keeps_the_message_in_the_inbox(server: Server, new_account: Account, script: str) -> None:
    subject = token()
    activate(server, new_account, script)
    send(server, letter(STRANGER, new_account.address, subject))
    assert delivered(server, new_account, subject)[0] == "INBOX"


def vacation(server: Server, account: Account, text: str) -> None:
    """Let an account answer that it is away."""
    activate(server, account, f'require "vacation";\nvacation :days 1 :subject "{text}" "I am away.";\n')


def test_a_person_gets_one_answer_a_week_that_is_signed(
    server: Server, test_pod: PodUnderTest, new_account: Account, since: float
) -> None:
    away, person, subjects = token(), test_pod.new_account(), [token(), token()]
    vacation(server, new_account, away)
    with server.submission(person) as client:
        for subject in subjects:
            client.send_message(letter(person.address, new_account.address, subject))
            assert arrived(server, new_account, subject)

    def second_was_not_answered() -> None:
        if "discarded duplicate vacation response" not in test_pod.logs(since):
            raise NotYet("no such line")

    wait_until(second_was_not_answered, 5, "the log to say that the second message gets no answer")
    answer = message_from_bytes(arrived(server, person, away))
    assert answer["From"] == f"<{new_account.address}>"
    assert answer["Return-Path"] == "<>"
    assert answer["Auto-Submitted"] == "auto-replied (vacation)"
    assert len(answer.get_all("DKIM-Signature", [])) == 2
    assert "from userid 5000" in str(answer.get_all("Received", [])[-1]), "the script's program was not root"
    # The script asks for a day. The test cannot wait for so long.
    assert test_pod.exec("mail", "doveconf", "-h", "sieve_vacation_min_period").stdout.strip() in {"7d", "1 weeks"}


@pytest.mark.parametrize(
    ("sender", "headers"),
    [("", {}), (None, {"List-Id": "<a.example.com>"}), (None, {"Precedence": "bulk"}),
     (None, {"Auto-Submitted": "auto-replied"})],
)  # fmt: skip
def test_no_list_and_no_bounce_gets_an_answer(
    server: Server, test_pod: PodUnderTest, new_account: Account, sender: str | None, headers: dict[str, str]
) -> None:
    away, person, subject, last = token(), test_pod.new_account(), token(), token()
    vacation(server, new_account, away)
    with server.submission(person) as client:
        message = letter(person.address, new_account.address, subject)
        for name, value in headers.items():
            message[name] = value
        client.send_message(message, person.address if sender is None else sender)
        assert arrived(server, new_account, subject)
        # The answer to this message is the only one.
        client.send_message(letter(person.address, new_account.address, last))
    assert message_from_bytes(arrived(server, person, away))["In-Reply-To"] != message["Message-ID"]


def test_a_message_is_sent_on_without_our_signature_and_spam_is_not(
    server: Server, test_pod: PodUnderTest, new_account: Account
) -> None:
    other, spam, subject = test_pod.new_account(), token(), token()
    activate(server, new_account, f'redirect "{other.address}";\n')
    send(server, phishing(STRANGER, new_account.address, spam))
    assert delivered(server, new_account, spam)[0] == "Junk"
    send(server, letter(STRANGER, new_account.address, subject))
    sent_on = message_from_bytes(arrived(server, other, subject))
    assert sent_on["Return-Path"] == f"<{STRANGER}>"
    assert sent_on["X-Sieve-Redirected-From"] == new_account.address
    assert sent_on.get_all("DKIM-Signature", []) == []
    with server.imap(other) as client:
        assert [client.folder_status(name, ["MESSAGES"])[b"MESSAGES"] for name in ("INBOX", "Junk")] == [1, 0]


@pytest.fixture
def operators_script(test_pod: PodUnderTest) -> Iterator[None]:
    """No script of the operator's is left after the test."""
    yield
    test_pod.exec("mail", "sh", "-c", "rm -f /var/mail/vhosts/.sieve/*")


@pytest.mark.usefixtures("operators_script")
def test_the_operators_script_runs_after_the_accounts_own(
    server: Server, test_pod: PodUnderTest, new_account: Account
) -> None:
    file, word, own, broken = test_pod.folder("mail") / ".sieve" / "after.sieve", token(), token(), token()
    file.write_text(f'require ["fileinto", "mailbox"];\nfileinto :create "{word}";\n')
    send(server, letter(STRANGER, new_account.address, word))
    assert found_in(server, new_account, word, word)
    activate(server, new_account, f'require ["fileinto", "mailbox"];\nfileinto :create "{own}";\n')
    send(server, letter(STRANGER, new_account.address, own))
    assert found_in(server, new_account, own, own), "a script that has filed the message is the last one"
    with server.rules(new_account) as client:
        client.setactive("")
    file.write_text("this is no script;\n")
    send(server, letter(STRANGER, new_account.address, broken))
    assert delivered(server, new_account, broken)[0] == "INBOX"
