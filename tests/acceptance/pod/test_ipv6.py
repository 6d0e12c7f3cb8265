"""IPv6: every port is served, and what is refused to strangers over IPv4 is refused to them over IPv6."""

import json
from collections.abc import Iterator

import pytest

from tests.testbed.mail import STRANGER, arrived
from tests.testbed.pod import PORTS, PodUnderTest
from tests.testbed.server import Account, token
from tests.testbed.vantage import Vantage

POD, CLIENT = "2001:db8:66::1", "2001:db8:66::2"
"""Addresses of the pod and of a stranger on a cable between them (documentation addresses, RFC 3849)."""
PRIVATE_POD, PRIVATE_CLIENT = "fd66::1", "fd66::2"
"""Private addresses (RFC 4193) of both on the same cable."""
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])
EXCHANGES = """
import json, sys
from podserve.certificates import client_context
from podserve.endpoints import ENDPOINTS
from podserve.exchanges import FAILURES, Login, Target
host, domain, authority, ports, login = json.loads(sys.argv[1])
context, told = client_context(domain, authority), {}
for name, port in ports.items():
    # The resolver refuses strangers, so it is asked without a login, which means without recursion.
    account = None if name.startswith("dns") else Login(*login)
    try:
        ENDPOINTS[name].exchange(Target(host, port, domain, context, 30), account)
        told[name] = ""
    except FAILURES as error:
        told[name] = repr(error)
print(json.dumps(told))
"""
"""A script that makes the exchange of each endpoint, and prints the error of each, empty if it answered."""
QUESTION = """
import dns.message, dns.query, dns.rcode, sys
host, name, transport, source = sys.argv[1:]
answer = getattr(dns.query, transport)(dns.message.make_query(name, "A"), host, timeout=30, source=source)
print(dns.rcode.to_text(answer.rcode()), *(data for rrset in answer.answer for data in rrset))
"""
LETTER = """
import smtplib, sys
from tests.testbed.mail import ordinary
host, port, sender, recipient, subject = sys.argv[1:]
with smtplib.SMTP(host, int(port), timeout=30, local_hostname="client.example.com") as client:
    if port == "587":
        client.starttls()
    try:
        client.sendmail(sender, [recipient], f"{ordinary(sender, recipient)}Subject: {subject}\\r\\n\\r\\nHi.\\r\\n")
        print(250)
    except smtplib.SMTPRecipientsRefused as refused:
        print(refused.recipients[recipient][0])
    except smtplib.SMTPSenderRefused as refused:
        print(refused.smtp_code)
"""
"""A script that sends a message without a login, and prints the code of the answer."""


@pytest.fixture(scope="module")
def stranger(test_pod: PodUnderTest, outsider: Vantage) -> Iterator[Vantage]:
    """The outsider, connected to the pod by a veth pair with IPv6 addresses at both ends."""
    inside = test_pod.inside
    linked = outsider.run("ip", "link", "add", "ipv6", "type", "veth", "peer", "name", "ipv6", "netns", inside.process)
    assert linked.ok, linked
    try:
        for place, addresses in ((inside, (POD, PRIVATE_POD)), (outsider, (CLIENT, PRIVATE_CLIENT))):
            assert place.run("ip", "link", "set", "ipv6", "up").ok
            for address in addresses:
                added = place.run("ip", "address", "add", f"{address}/64", "dev", "ipv6", "nodad")
                assert added.ok, added
        yield outsider
    finally:
        outsider.run("ip", "link", "delete", "ipv6")


@pytest.fixture(scope="module")
def exchanges(test_pod: PodUnderTest, stranger: Vantage, alice: Account) -> dict[str, str]:
    """The error of each endpoint, by its name."""
    server, ports = test_pod.server, {name: port.number for name, port in test_pod.pod.ports.items()}
    words = json.dumps([POD, server.domain, server.authority, ports, [alice.address, alice.password]])
    told: dict[str, str] = json.loads(stranger.python(EXCHANGES, words))
    return told


@pytest.mark.parametrize("name", PORTS)
def test_each_port_is_served_over_ipv6(exchanges: dict[str, str], name: str) -> None:
    assert exchanges[name] == ""


@TRANSPORTS
def test_recursion_is_refused_to_strangers_over_ipv6(test_pod: PodUnderTest, stranger: Vantage, transport: str) -> None:
    name = f"{token()}.once.example.com"
    assert stranger.python(QUESTION, POD, name, transport, CLIENT) == "REFUSED"
    assert not any(upstream.questions(name) for upstream in test_pod.upstreams)


@TRANSPORTS
def test_recursion_is_given_to_private_ipv6_addresses(stranger: Vantage, transport: str) -> None:
    name = f"{token()}.once.example.com"
    assert stranger.python(QUESTION, PRIVATE_POD, name, transport, PRIVATE_CLIENT) == "NOERROR 192.0.2.90"


@pytest.mark.parametrize(("port", "code"), [("25", "554"), ("587", "530")])
@pytest.mark.parametrize("address", [POD, PRIVATE_POD])
def test_relay_is_refused_over_ipv6(stranger: Vantage, address: str, port: str, code: str) -> None:
    assert stranger.python(LETTER, address, port, STRANGER, "someone@example.net", token()) == code


def test_a_sender_of_the_domain_without_a_login_is_refused_over_ipv6(stranger: Vantage, alice: Account) -> None:
    assert stranger.python(LETTER, POD, "25", alice.address, alice.address, token()) == "554"


def test_mail_for_an_account_is_taken_over_ipv6_and_names_the_clients_address(
    test_pod: PodUnderTest, stranger: Vantage, alice: Account
) -> None:
    subject = token()
    assert stranger.python(LETTER, POD, "25", STRANGER, alice.address, subject) == "250"
    assert f"[IPv6:{CLIENT}]".encode() in arrived(test_pod.server, alice, subject)
