"""What the logs say of the logins of one account."""

import pytest

from podserve.details import Session, read_logins

ALICE = "alice@example.org"
AT = "2026-11-28T00:05:3{}.103817047{}"
TOLD = "2026-11-28T00:05:3{}Z"


def line(second: int, text: str, zone: str = "Z") -> str:
    """Return a line of a container's log."""
    return f"{AT.format(second, zone)} Nov 28 00:05:3{second} {text}"


def login(protocol: str, session: str, account: str = ALICE) -> str:
    """Return what Dovecot logs."""
    said = f"user=<{account}>, method=PLAIN, rip=192.0.2.7, lip=192.0.2.1, mpid=638, TLS, session=<{session}>"
    return f"{protocol}-login: Info: Logged in: {said}"


def test_the_last_of_several_logins_counts_in_any_time_zone() -> None:
    mail = [line(1, login("imap", "a")), line(2, login("managesieve", "b")), line(4, login("imap", "c"))]
    mail.append(line(5, login("pop3", "d"), "+02:00"))
    assert read_logins(mail, [], ALICE).last == {
        "imap": TOLD.format(4), "sieve": TOLD.format(2), "pop3": "2026-11-27T22:05:35Z"
    }  # fmt: skip


def test_a_session_is_open_until_its_end_is_logged() -> None:
    ended = f"imap({ALICE})<649><a>: Info: Disconnected: Logged out in=64 out=1371"
    mail = [line(1, login("imap", "a")), line(2, login("imap", "b")), line(3, ended)]
    assert read_logins(mail, [], ALICE).begun == {"b": Session("imap", "192.0.2.7", TOLD.format(2))}


@pytest.mark.parametrize("port", ["submission", "submissions"])
def test_a_message_sent_is_a_login_of_submission(port: str) -> None:
    sent = f"mail postfix/{port}/smtpd[386]: 96E: client=unknown[192.0.2.7], sasl_method=PLAIN, sasl_username={ALICE}"
    assert read_logins([line(1, sent)], [], ALICE).last == {"submission": TOLD.format(1)}


@pytest.mark.parametrize(
    ("status", "last"), [(200, {"web": TOLD.format(1)}), (207, {"web": TOLD.format(1)}), (401, {}), (429, {})]
)
def test_a_request_is_a_login_unless_it_was_refused(status: int, last: dict[str, str]) -> None:
    said = f'192.0.2.7 - {ALICE} [28/Nov/2026:00:05:31 +0000] "GET /webdav/ HTTP/2.0" {status} 471 "-" "-"'
    request = f"{AT.format(1, 'Z')} {said}"
    assert read_logins([], [request], ALICE).last == last


@pytest.mark.parametrize(
    "text",
    [
        login("imap", "a", "bob@example.org"),
        f"imap-login: Info: Login aborted: (auth failed, 1 attempts): user=<{ALICE}>, rip=192.0.2.7, session=<a>",
        f"mail postfix/smtpd[386]: NOQUEUE: reject: RCPT from x[192.0.2.7]: helo=<x, sasl_username={ALICE}>",
        f"mail postfix/cleanup[386]: 96E: message-id=<client=x, sasl_username={ALICE}>",
    ],
)
def test_no_other_line_is_a_login(text: str) -> None:
    found = read_logins([line(1, text)], [], ALICE)
    assert (found.last, found.begun) == ({}, {})


def test_no_text_of_a_request_is_a_login() -> None:
    for forged in (f'192.0.2.7 - - [28/Nov/2026] "GET / HTTP/1.1" 200 1 "-" "x - {ALICE} [a] \\"b\\" 200 1"',
                   f'192.0.2.7 - "" [28/Nov/2026] "GET /- {ALICE} [a] HTTP/1.1" 200 1 "-" "-"'):  # fmt: skip
        assert read_logins([], [f"{AT.format(1, 'Z')} {forged}"], ALICE).last == {}
