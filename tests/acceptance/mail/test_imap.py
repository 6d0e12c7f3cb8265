"""Ports 143 and 993: the clients of an account read and change its mail, and no other account can."""

import imaplib
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from imapclient import SEEN, IMAPClient
from imapclient.exceptions import IMAPClientError, LoginError
from imapclient.imap_utf7 import encode

from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import STRANGER, a_right_login_follows, arrived, has_news, news, ordinary, refusal_of_tls_1_1
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token

VMAIL = 5000
"""The user id and group id that own all mail (docker/base/Containerfile)."""


@pytest.fixture(params=[993, 143], ids=["imaps", "starttls"])
def client(request: pytest.FixtureRequest, server: Server, alice: Account) -> Iterator[IMAPClient]:
    """A client that has logged in as alice, over each of the two ports."""
    with server.imap(alice, implicit_tls=request.param == 993) as connected:
        yield connected


def put(client: IMAPClient, account: Account, flags: tuple[bytes, ...] = (), folder: str = "INBOX") -> str:
    """Append a message to a folder, select the folder, and return the message's subject."""
    subject = token()
    client.append(folder, letter(account.address, account.address, subject).as_bytes(), flags)
    client.select_folder(folder)
    return subject


def flags_of(client: IMAPClient, subject: str) -> set[bytes]:
    """Return the flags of a message in the selected folder."""
    [number] = client.search(["SUBJECT", subject])
    return set(client.get_flags([number])[number])


def test_an_appended_message_is_found_and_read(client: IMAPClient, alice: Account) -> None:
    subject = put(client, alice)
    [number] = client.search(["SUBJECT", subject])
    assert f"Subject: {subject}\r\n".encode() in client.fetch([number], ["BODY.PEEK[]"])[number][b"BODY[]"]
    assert client.search(["SUBJECT", token()]) == []


def test_a_deleted_message_is_gone(client: IMAPClient, alice: Account) -> None:
    subject = put(client, alice)
    client.delete_messages(client.search(["SUBJECT", subject]))
    client.expunge()
    assert client.search(["SUBJECT", subject]) == []


def test_a_flag_that_one_client_sets_is_seen_by_another(client: IMAPClient, server: Server, alice: Account) -> None:
    subject = put(client, alice)
    with server.imap(alice) as other:
        other.select_folder("INBOX")
        assert SEEN not in flags_of(other, subject)
        client.add_flags(client.search(["SUBJECT", subject]), [SEEN])
        other.noop()
        assert SEEN in flags_of(other, subject)
        other.remove_flags(other.search(["SUBJECT", subject]), [SEEN])
    client.noop()
    assert SEEN not in flags_of(client, subject)


def test_a_waiting_client_is_told_of_new_mail(client: IMAPClient, server: Server, alice: Account) -> None:
    before = client.select_folder("INBOX")[b"EXISTS"]
    client.idle()
    with server.smtp() as sender:
        sender.send_message(letter(STRANGER, alice.address, token()))

    def check() -> None:
        told = news(client, 1)
        if (before + 1, b"EXISTS") not in told:
            raise NotYet(f"told of {told}")

    wait_until(check, 10, "word of a new message")
    client.idle_done()


def test_who_has_waited_for_a_while_is_told_at_once(client: IMAPClient, server: Server, alice: Account) -> None:
    client.select_folder("INBOX")
    client.idle()

    def quiet() -> None:
        if has_news(client, 2):
            raise NotYet(f"told of {news(client, 0)}")

    taken = []
    for _ in range(3):
        wait_until(quiet, 60, "two seconds without news")
        with server.smtp() as sender:
            sender.send_message(letter(STRANGER, alice.address, token()))
            begin = time.monotonic()
        assert has_news(client, 10)
        taken.append(time.monotonic() - begin)
        assert news(client, 0)
    client.idle_done()
    # The process imap-hibernate reports a new message at once. An imap process would collect changes for 0.5 s.
    assert min(taken) < 0.4, taken


def test_the_folders_that_mail_programs_look_for_are_there(client: IMAPClient) -> None:
    uses = {name: flags for flags, _, name in client.list_folders()}
    for name in ("Drafts", "Junk", "Sent", "Trash"):
        assert f"\\{name}".encode() in uses[name]  # RFC 6154


def test_a_folder_has_a_name_of_any_letters(client: IMAPClient, server: Server, alice: Account) -> None:
    name = f"Entwürfe 你好 {token()}"
    client.create_folder(name)
    client.append(name, letter(alice.address, alice.address, token()).as_bytes())
    with server.imap(alice) as other:
        assert other.folder_exists(name)
        assert other.select_folder(name)[b"EXISTS"] == 1
    client.delete_folder(name)
    assert not client.folder_exists(name)


@pytest.mark.parametrize(
    "name",
    ["v1.5", ".hidden", "..", "end.", "~tilde", "50%2e5", 'a "* b', "back\\slash", "A & B.C", "cur", "Entwürfe 1.5"],
)  # fmt: skip
def test_a_folder_has_the_name_that_its_owner_gave_it(server: Server, new_account: Account, name: str) -> None:
    with server.imap(new_account) as client, server.imap(new_account) as other:
        before = {found for _, _, found in client.list_folders()}
        for folder in (name, f"{name}/{name}"):
            client.create_folder(folder)
            client.subscribe_folder(folder)
            subject = put(client, new_account, folder=folder)
            other.select_folder(folder)
            assert other.search(["SUBJECT", subject])
            other.close_folder()
        assert {found for _, _, found in other.list_folders()} == before | {name, f"{name}/{name}"}
        assert {name, f"{name}/{name}"} <= {found for _, _, found in other.list_sub_folders()}
        renamed = f"renamed.{name}"
        client.rename_folder(name, renamed)
        assert client.select_folder(f"{renamed}/{name}")[b"EXISTS"] == 1
        client.close_folder()
        for folder in (f"{renamed}/{name}", renamed):
            client.delete_folder(folder)
        assert {found for _, _, found in other.list_folders()} == before


def test_a_slash_puts_a_folder_into_another(client: IMAPClient) -> None:
    outer, inner = token(), token()
    client.create_folder(f"{outer}/{inner}")
    [(flags, separator, name)] = client.list_folders(pattern=f"{outer}/%")
    assert (separator, name) == (b"/", f"{outer}/{inner}")
    [(flags, _, name)] = client.list_folders(pattern=outer)
    assert name == outer
    assert rb"\HasChildren" in flags
    client.delete_folder(f"{outer}/{inner}")
    assert not client.folder_exists(outer)


SCRIPTS = {"Latin": "Entwürfe", "Greek": "Πρόχειρα", "Cyrillic": "Черновики", "Hebrew": "טיוטות", "Han": "草稿"}
"""The name of a folder for drafts in several scripts."""


@pytest.mark.parametrize("enables", [False, True], ids=["mUTF-7", "as-Thunderbird-does"])
@pytest.mark.parametrize("name", SCRIPTS.values(), ids=SCRIPTS)
def test_every_command_takes_a_folder_with_a_name_in_any_script(
    server: Server, alice: Account, name: str, *, enables: bool
) -> None:
    first, second = f"{name} {token()}", f"{name} {token()}"
    with server.plain_imap() as client, server.imap(alice) as other:
        client.starttls(server.context())
        client.login(alice.address, alice.password)
        if enables:
            assert client.xatom("ENABLE", "UTF8=ACCEPT")[0] == "OK"
        utf8 = client.response("ENABLED")[1] == [b"UTF8=ACCEPT"]
        if utf8:  # From here on, the client writes names in UTF-8 (RFC 6855, section 3).
            client._encoding = "utf-8"  # type: ignore[attr-defined]  # noqa: SLF001  # enable() changes APPEND too

        def written(folder: str) -> str:
            return f'"{folder if utf8 else encode(folder).decode()}"'

        def done(answer: tuple[str, list[Any]]) -> bytes:
            assert answer[0] == "OK", answer
            return b" ".join(line for line in answer[1] if line)

        done(client.create(written(first)))
        done(client.subscribe(written(first)))
        done(client.append(written(first), "", "", letter(alice.address, alice.address, token()).as_bytes()))
        assert b"(MESSAGES 1)" in done(client.status(written(first), "(MESSAGES)"))
        assert done(client.select(written(first))) == b"1"
        done(client.rename(written(first), written(second)))
        done(client.create(written(first)))
        assert done(client.select(written(second))) == b"1"
        done(client.copy("1", written(first)))
        done(client.uid("MOVE", "1:*", written(first)))
        assert done(client.select(written(first), readonly=True)) == b"2"
        for listing in (client.list, client.lsub):
            assert written(first).encode() in done(listing('""', written(first)))
        assert {first, second} <= {found for _, _, found in other.list_folders()}
        done(client.unsubscribe(written(first)))
        done(client.close())
        done(client.delete(written(first)))
        done(client.delete(written(second)))


@pytest.mark.parametrize("implicit_tls", [True, False], ids=["imaps", "starttls"])
def test_exactly_these_mechanisms_are_offered(server: Server, *, implicit_tls: bool) -> None:
    with server.encrypted_imap(implicit_tls=implicit_tls) as client:
        offered = sorted(word for word in client.capabilities() if word.startswith(b"AUTH="))
    assert offered == [b"AUTH=LOGIN", b"AUTH=PLAIN"]


def test_login_is_refused_without_tls(server: Server, alice: Account) -> None:
    credentials = f"\0{alice.address}\0{alice.password}".encode()
    with server.plain_imap() as client:
        assert "LOGINDISABLED" in client.capabilities
        assert not [word for word in client.capabilities if word.startswith("AUTH=")]
        with pytest.raises(imaplib.IMAP4.error):
            client.login(alice.address, alice.password)
        with pytest.raises(imaplib.IMAP4.error):
            client.authenticate("PLAIN", lambda _: credentials)
        assert client.state == "NONAUTH"
        assert client.noop()[0] == "OK", "the connection stands: it was the login that was refused"


FROM_THE_POD_ITSELF = """
import imaplib, sys
with imaplib.IMAP4(sys.argv[1], 143, timeout=30) as client:
    name, secret = sys.argv[2:]
    plain = f"\\0{name}\\0{secret}".encode()
    for login in (lambda: client.login(name, secret), lambda: client.authenticate("PLAIN", lambda _: plain)):
        try:
            print(*login())
        except imaplib.IMAP4.error as error:
            print("refused")
"""


def test_login_is_refused_without_tls_from_the_pod_itself(test_pod: PodUnderTest, alice: Account) -> None:
    # By default Dovecot treats a connection from the server's own address as secure, even without TLS.
    inside = test_pod.inside

    def tried(address: str) -> list[str]:
        return inside.python(FROM_THE_POD_ITSELF, address, alice.address, alice.password).splitlines()

    with ThreadPoolExecutor(2) as pool:  # in parallel, because each refusal takes some seconds
        assert list(pool.map(tried, ("127.0.0.1", test_pod.address))) == [["refused", "refused"]] * 2


def test_login_by_sasl_is_taken_with_tls(server: Server, alice: Account) -> None:
    with server.plain_imap() as client:
        client.starttls(server.context())
        client.authenticate("PLAIN", lambda _: f"\0{alice.address}\0{alice.password}".encode())
        assert client.state == "AUTH"


def test_a_wrong_password_is_refused(server: Server, alice: Account) -> None:
    with a_right_login_follows(server, alice), pytest.raises(LoginError), server.imap(Account(alice.address, token())):
        pass


def test_a_household_with_one_address_has_more_than_ten_sessions(server: Server, new_account: Account) -> None:
    # Clients that wait in IDLE count, too. test_tasks has a small imap_sessions, and the session beyond it is refused.
    with ExitStack() as stack:
        clients = [stack.enter_context(server.imap(new_account)) for _ in range(15)]
        for client in clients:
            client.select_folder("INBOX")
            client.idle()
        for client in clients:
            client.idle_done()


@pytest.mark.parametrize("name", ["nobody@{domain}", "../{local}", "{name}/../{local}"])
def test_another_name_than_the_accounts_is_refused(server: Server, alice: Account, name: str) -> None:
    other = Account(name.format(local=alice.address, name=alice.local_part, domain=server.domain), alice.password)
    with a_right_login_follows(server, alice), pytest.raises(LoginError), server.imap(other):
        pass


def test_a_mailbox_is_nobody_elses(server: Server, alice: Account, bob: Account) -> None:
    folder = token()
    with server.imap(alice) as client:
        client.create_folder(folder)
        subject = put(client, alice)
    with server.imap(bob) as other:
        names = [name for _, _, name in other.list_folders()]
        assert folder not in names
        for name in names:
            other.select_folder(name, readonly=True)
            assert other.search(["SUBJECT", subject]) == []
        assert other.namespace()[1:] == (None, None), "other users' folders, and shared ones"


@pytest.mark.parametrize(
    "path",
    ["user/{name}", "{name}/INBOX", "~{name}/INBOX", "../{name}/Maildir", "../../{name}/Maildir",
     "/var/mail/vhosts/{domain}/{name}/Maildir", "..", "../.."],
)  # fmt: skip
def test_no_path_leads_to_anothers_mailbox(server: Server, alice: Account, bob: Account, path: str) -> None:
    path = path.format(name=alice.local_part, domain=server.domain)
    with server.imap(bob) as client, pytest.raises(IMAPClientError):
        client.select_folder(path, readonly=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_takes(server: Server, alice: Account, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version
    with IMAPClient(server.host, ssl_context=context, timeout=10) as client:
        client.login(alice.address, alice.password)


@pytest.mark.parametrize(("port", "starttls"), [(993, ""), (143, "imap")])
def test_tls_1_1_is_refused(server: Server, port: int, starttls: str) -> None:
    assert "alert protocol version" in refusal_of_tls_1_1(server, port, starttls)


NAMES = {
    "one": ["<a@b>" * 20000],
    "many": ["<a@b>" * 6000] * 300,
    "of other letters": [" ".join(f"<{number}@b>" for number in range(9000))],
}
"""The References headers of a message: each text is the value of one header."""


@pytest.mark.parametrize("references", NAMES.values(), ids=NAMES)
def test_a_letter_with_many_references_breaks_no_mailbox(
    server: Server, test_pod: PodUnderTest, new_account: Account, since: float, references: list[str]
) -> None:
    subject, many = token(), 5
    head = "".join(f"References: {names}".replace("><", ">\r\n <") + "\r\n" for names in references)
    with server.smtp() as client:
        for number in range(many):
            text = f"{ordinary(STRANGER, new_account.address)}Subject: {subject}{number}\r\n{head}\r\nHi.\r\n"
            client.sendmail(STRANGER, new_account.address, text.encode())
    for number in range(many):
        arrived(server, new_account, f"{subject}{number}")
    with server.imap(new_account) as mailbox:
        mailbox.select_folder("INBOX")
        for algorithm in ("REFERENCES", "REFS", "ORDEREDSUBJECT"):
            assert mailbox.thread(algorithm)
        assert len(mailbox.sort("SUBJECT")) == many
    assert "Out of memory" not in test_pod.logs(since)


HEAD = "Subject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: {type}\r\n\r\n"
PARTS = {
    "10,000 parts": ("multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n" * 10000),
    "parts in parts": ("multipart/mixed; boundary=b0", "".join(
        f"--b{number}\r\nContent-Type: multipart/mixed; boundary=b{number + 1}\r\n\r\n" for number in range(1000))),
    "letters in letters": ("message/rfc822", "Subject: a\r\nContent-Type: message/rfc822\r\n\r\n" * 1000),
    "a large text": ("text/plain; charset=utf-8", ("word " * 180 + "\r\n") * 30000),
    "10,000 headers": ("text/plain", ""),
    "10,000 addresses": ("text/plain", ""),
}  # fmt: skip
"""Messages that are costly to parse: the Content-Type, and the body."""
ALSO = {"10,000 headers": "".join(f"X-{number}: y\r\n" for number in range(10000)),
        "10,000 addresses": "Cc: " + ",\r\n ".join(f"a{number}@b" for number in range(10000)) + "\r\n"}  # fmt: skip
"""Additional headers of some of these messages."""


@pytest.mark.parametrize("kind", PARTS)
def test_a_letter_that_is_costly_to_read_breaks_no_mailbox(
    server: Server, test_pod: PodUnderTest, new_account: Account, since: float, kind: str
) -> None:
    subject, (mime, body) = token(), PARTS[kind]
    with server.smtp() as client:
        head = ordinary(STRANGER, new_account.address) + ALSO.get(kind, "") + HEAD.format(subject=subject, type=mime)
        client.sendmail(STRANGER, new_account.address, (head + body).encode())
    arrived(server, new_account, subject)
    with server.imap(new_account) as mailbox:
        mailbox.select_folder("Junk")
        if there := mailbox.search():
            mailbox.move(there, "INBOX")  # the filter reads it again, to learn from it
        mailbox.select_folder("INBOX")
        found = mailbox.search(["SUBJECT", subject])
        for item in ("ENVELOPE", "BODYSTRUCTURE", "BODY", "PREVIEW"):
            assert list(mailbox.fetch(found, [item])) == found
        assert mailbox.search(["BODY", token()]) == mailbox.search(["TEXT", token()]) == []
        assert mailbox.sort("FROM", ["SUBJECT", subject]) == found
        assert mailbox.thread("REFERENCES")
    with server.pop3(new_account) as pop:
        assert pop.top(1, 0)
    assert "Out of memory" not in test_pod.logs(since)


def test_mail_lies_in_the_accounts_folder_for_its_owner_alone(
    server: Server, test_pod: PodUnderTest, new_account: Account
) -> None:
    subject = token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, new_account.address, subject))
    arrived(server, new_account, subject)
    home = test_pod.folder("mail") / server.domain / new_account.local_part
    [message] = [file for folder in ("new", "cur") for file in (home / "Maildir" / folder).iterdir()]
    assert subject in message.read_text()
    for path in (home, *home.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (VMAIL, VMAIL), path
    assert not home.stat().st_mode & 0o077
