"""`invoke logs`: lines of all services in the order of time, and those that an operator looks for."""

from collections.abc import Callable

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import arrived
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, letter, token


@pytest.fixture
def shown(test_pod: PodUnderTest) -> Callable[..., list[str]]:
    """Return a function that runs `logs` with words, and returns the lines."""
    return lambda *words: test_pod.invoke("logs", *words).stdout.splitlines()


def requested(test_pod: PodUnderTest) -> str:
    """Request a page that there is not, and return its name, which Apache logs."""
    name = token()
    with test_pod.server.http() as client:
        assert client.get(f"/{name}").status_code == 404
    return name


def test_lines_of_all_services_are_in_the_order_of_time(shown: Callable[..., list[str]]) -> None:
    lines = shown()
    assert {line.split()[2] for line in lines} == {"apache", "mail", "dns"}
    times = [line[:19] for line in lines]
    assert times == sorted(times)


def test_a_service_is_shown_alone_or_beside_another(shown: Callable[..., list[str]]) -> None:
    apache = shown("--service", "apache")
    assert {line.split()[2] for line in apache} == {"apache"}
    assert any("resuming normal operations" in line for line in apache)
    assert {line.split()[2] for line in shown("--service", "apache", "--service", "dns")} == {"apache", "dns"}


def test_lines_are_found_by_their_text_and_age(test_pod: PodUnderTest, shown: Callable[..., list[str]]) -> None:
    name = requested(test_pod)
    [line] = shown("--since", "1h", "--grep", f"GET /{name[:-1]}.")
    assert f'"GET /{name} HTTP' in line

    def aged() -> None:
        if shown("--since", "1s", "--grep", name):
            raise NotYet("it is shown")

    wait_until(aged, 5, "a line that is older than a second")


def test_one_message_is_followed_from_connection_to_mailbox(
    test_pod: PodUnderTest, alice: Account, shown: Callable[..., list[str]]
) -> None:
    other, followed = token(), test_pod.new_account()
    with test_pod.server.submission(alice) as client:
        for recipient in (alice, followed):
            client.send_message(letter(alice.address, recipient.address, other))
    message = arrived(test_pod.server, followed, other)
    identity = message.decode().partition("Message-ID: <")[2].partition(">")[0]
    lines = shown("--mail", identity)
    for part in (": connect from ", ": client=", f"message-id=<{identity}>", "status=sent", ": stored mail into",
                 ": removed", ": disconnect from "):  # fmt: skip
        assert any(part in line for line in lines), part
    assert not [line for line in lines if f"to=<{alice.address}>" in line]
    [received] = (line for line in lines if ": client=" in line)
    queue_id = received.partition(": client=")[0].rpartition(" ")[2]
    assert shown("--mail", queue_id) == lines
    assert set(lines) <= set(shown("--mail", followed.address))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--service", "ftp"), "there is no service 'ftp': expected one of apache, mail, dns"),
        (("--since", "yesterday"), "--since 'yesterday' is no time: expected a number and s, m, h or d"),
        (("--since", "0h"), "--since '0h' is no time"),
        (("--grep", "("), "--grep '(' is no regular expression"),
        (("--mail", "nobody@example.com"), "the log of mail has no message with 'nobody@example.com'"),
        (("--mail", "a", "--follow"), "--mail and --follow exclude each other"),
    ],
)
def test_what_cannot_be_shown_is_told(test_pod: PodUnderTest, words: tuple[str, ...], told: str) -> None:
    refused = test_pod.invoke("logs", *words, check=False)
    assert refused.code == 1
    assert told in refused.stderr
    assert refused.stdout == ""
