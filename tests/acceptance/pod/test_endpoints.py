"""The table of endpoints: each exchange succeeds, and an exchange that uses the login fails with a wrong one."""

from dataclasses import replace

import pytest

from podserve.exchanges import FAILURES
from tests.testbed.mail import refusal_of
from tests.testbed.pod import PORTS, PodUnderTest
from tests.testbed.server import Account, Server

ANONYMOUS = {"http", "smtp", "dns-udp", "dns-tcp"}
"""The endpoints that take no login."""


@pytest.mark.parametrize("name", PORTS)
def test_an_endpoint_answers_with_a_login_and_without(test_pod: PodUnderTest, alice: Account, name: str) -> None:
    port = test_pod.pod.ports[name]
    test_pod.server.exchange(port)
    test_pod.server.exchange(port, alice)


@pytest.mark.parametrize("name", [name for name in PORTS if name not in ANONYMOUS])
def test_an_endpoint_that_takes_a_login_refuses_a_wrong_one(test_pod: PodUnderTest, alice: Account, name: str) -> None:
    with pytest.raises(FAILURES):
        test_pod.server.exchange(test_pod.pod.ports[name], replace(alice, password="a wrong password"))


@pytest.mark.parametrize(
    ("port", "starttls"),
    [(25, "smtp"), (587, "smtp"), (143, "imap"), (443, ""), (465, ""), (993, ""), (995, ""), (4190, "sieve")],
)
def test_a_cipher_without_a_certificate_is_refused(server: Server, port: int, starttls: str) -> None:
    assert "alert handshake failure" in refusal_of(server, port, starttls, "-tls1_2", "-cipher", "aNULL:@SECLEVEL=0")
