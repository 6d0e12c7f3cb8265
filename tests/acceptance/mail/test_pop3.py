"""Port 995: the same mail over POP3, only with TLS."""

import poplib
import socket

import pytest
from imapclient import SEEN

from tests.testbed.mail import STRANGER, a_right_login_follows, arrived, ordinary, refusal_of_tls_1_1
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token


def numbers(client: poplib.POP3_SSL, subject: str) -> list[int]:
    """Return this session's numbers of the messages whose headers contain this word."""
    count, _ = client.stat()
    return [number for number in range(1, count + 1) if subject.encode() in b"\n".join(client.top(number, 0)[1])]


def identity(client: poplib.POP3_SSL, number: int) -> bytes:
    """Return the unique id of a message (UIDL), which is the same in every session."""
    return client.uidl(number).split()[-1]


@pytest.fixture
def subject(server: Server, alice: Account) -> str:
    """The subject of a message that was just delivered to alice."""
    word = token()
    with server.smtp() as client:
        client.send_message(letter(STRANGER, alice.address, word))
    arrived(server, alice, word)
    return word


def test_exactly_these_mechanisms_are_offered(server: Server) -> None:
    with server.pop3(None) as client:
        offered = client.capa()
    assert sorted(offered["SASL"]) == ["LOGIN", "PLAIN"]
    assert "USER" in offered


def test_a_message_is_the_same_by_pop3_as_by_imap(server: Server, alice: Account) -> None:
    subject = token()
    body = ".\r\n..\r\n.Zeile\r\n\r\n  Grüße \r\n.\r\nEnde ohne Punkt\r\n".encode()
    with server.smtp() as sender:
        head = f"{ordinary(STRANGER, alice.address)}MIME-Version: 1.0\r\n"
        head += f"Subject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        sender.sendmail(STRANGER, alice.address, f"{head}\r\n".encode() + body, ["BODY=8BITMIME"])
    by_imap = arrived(server, alice, subject)
    with server.pop3(alice) as client:
        [number] = numbers(client, subject)
        lines = client.retr(number)[1]
    assert b"".join(line + b"\r\n" for line in lines) == by_imap
    assert by_imap.endswith(b"\r\n\r\n" + body)


def test_a_message_keeps_its_identity(server: Server, alice: Account, subject: str) -> None:
    with server.pop3(alice) as client:
        [number] = numbers(client, subject)
        first = identity(client, number)
        listed = [line.split()[1] for line in client.uidl()[1]]
    assert listed.count(first) == 1
    with server.pop3(alice) as client:
        [number] = numbers(client, subject)
        assert identity(client, number) == first


def test_a_deleted_message_is_gone_after_quit(server: Server, alice: Account, subject: str) -> None:
    with server.pop3(alice) as client:
        client.dele(*numbers(client, subject))
    with server.pop3(alice) as client:
        assert numbers(client, subject) == []


def test_a_deleted_message_stays_without_quit(server: Server, alice: Account, subject: str) -> None:
    with server.pop3(alice) as client:
        client.dele(*numbers(client, subject))
        client.rset()
    with server.pop3(alice) as client:
        assert len(numbers(client, subject)) == 1


def found_by_imap(server: Server, account: Account, subject: str) -> list[tuple[bytes, ...]]:
    """Return the flags of each message in INBOX with this subject, except the flag that every new message has."""
    with server.imap(account) as client:
        client.select_folder("INBOX", readonly=True)
        uids = client.search(["SUBJECT", subject])
        return [tuple(set(flags) - {b"\\Recent"}) for flags in client.get_flags(uids).values()] if uids else []


def test_what_pop3_reads_is_seen_by_imap(server: Server, alice: Account, subject: str) -> None:
    with server.pop3(alice) as client:
        [number] = numbers(client, subject)  # with TOP, which does not mark a message
    assert found_by_imap(server, alice, subject) == [()]
    with server.pop3(alice) as client:
        client.retr(number)
    assert found_by_imap(server, alice, subject) == [(SEEN,)]
    with server.pop3(alice) as client:
        assert len(numbers(client, subject)) == 1


def test_what_pop3_deletes_is_gone_for_imap_after_quit_only(server: Server, alice: Account, subject: str) -> None:
    with server.pop3(alice) as client:
        client.dele(*numbers(client, subject))
        assert found_by_imap(server, alice, subject) == [()]
        client.rset()
    assert found_by_imap(server, alice, subject) == [()]
    with server.pop3(alice) as client:
        client.dele(*numbers(client, subject))
    assert found_by_imap(server, alice, subject) == []


def test_what_imap_deletes_or_moves_away_is_gone_for_pop3(server: Server, alice: Account, subject: str) -> None:
    with server.imap(alice) as imap:
        imap.select_folder("INBOX")
        [uid] = imap.search(["SUBJECT", subject])
        imap.append("INBOX", letter(STRANGER, alice.address, f"{subject} second").as_bytes())
        imap.add_flags([uid], [SEEN])
        with server.pop3(alice) as client:
            assert len(numbers(client, subject)) == 2
        imap.move([uid], "Trash")
        with server.pop3(alice) as client:
            assert len(numbers(client, subject)) == 1
        imap.delete_messages(imap.search(["SUBJECT", subject]))
        imap.expunge()
    with server.pop3(alice) as client:
        assert numbers(client, subject) == []


def test_a_wrong_password_is_refused(server: Server, alice: Account) -> None:
    wrong = Account(alice.address, token())
    with a_right_login_follows(server, alice), pytest.raises(poplib.error_proto, match="-ERR"), server.pop3(wrong):
        pass


def test_there_is_no_pop3_without_tls(server: Server) -> None:
    with pytest.raises(ConnectionRefusedError), socket.create_connection((server.host, 110), timeout=10):
        pass


def test_there_is_no_pop3_without_tls_inside_either(test_pod: PodUnderTest) -> None:
    with pytest.raises(ConnectionRefusedError), socket.create_connection((test_pod.address, 110), timeout=10):
        pass


def test_tls_1_1_is_refused(server: Server) -> None:
    assert "alert protocol version" in refusal_of_tls_1_1(server, 995)
