"""The names that the pod serves: for private clients they lead to the pod, and everything else is forwarded."""

from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.rcode
import pytest

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.acceptance.dns.test_dns import FROM_THERE, TRANSPORTS, WAYS_TO_BE_AWAY, Away, ask, data, line_down
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Server, token
from tests.testbed.vantage import Vantage

DOMAIN, MAIL_HOST = "lab.sethlakowske.com", "mail.lab.sethlakowske.com"
NAMES = pytest.mark.parametrize("name", [DOMAIN, MAIL_HOST])


@contextmanager
def resolver(test_pod: PodUnderTest, **settings: str) -> Iterator[Server]:
    """Yield the DNS server of the pod's image alone, with these settings, as a container on the pod's network."""
    name = f"{test_pod.name}-{token()}"
    chosen = {**test_pod.pod.manifests.config["data"], **settings}
    podman("run", "--detach", "--name", name, "--network", test_pod.name, "--user", "bind", "--cap-drop", "all",
           "--cap-add", "NET_BIND_SERVICE", *(word for pair in chosen.items() for word in ("--env", "=".join(pair))),
           "localhost/podserve-dns:latest")  # fmt: skip
    try:
        there = Server(test_pod.address_of(name), DOMAIN, None)

        def answers() -> None:
            if podman("exec", name, "healthcheck", "dns-alive", check=False).code:
                raise NotYet("no answer")

        wait_until(answers, 10, "the DNS server to answer")
        yield there
    finally:
        podman("rm", "--force", "--time", "0", name)


@NAMES
@TRANSPORTS
def test_a_served_name_leads_to_the_pod_without_a_record_at_any_provider(
    test_pod: PodUnderTest, transport: str, name: str
) -> None:
    test_pod.publish("")
    assert data(ask(test_pod.server, name, "A", transport)) == {str(test_pod.settings.bind)}
    assert data(ask(test_pod.server, name.upper(), "A", transport)) == {str(test_pod.settings.bind)}


@NAMES
def test_no_address_of_the_provider_is_mixed_in(test_pod: PodUnderTest, name: str) -> None:
    test_pod.publish(f"{name}. A 203.0.113.7\n{name}. AAAA 2001:db8::7\n")
    assert data(ask(test_pod.server, name)) == {str(test_pod.settings.bind)}
    assert data(ask(test_pod.server, name, "AAAA")) == set()


@NAMES
@TRANSPORTS
@pytest.mark.parametrize(
    ("kind", "record"),
    [("TXT", '"a text"'), ("MX", "10 mx.example.com."), ("CAA", '0 issue "ca.example"'), ("HTTPS", "1 ."),
     ("SRV", "0 1 993 host.example.com.")],
)  # fmt: skip
def test_other_types_of_a_served_name_are_forwarded(
    test_pod: PodUnderTest, name: str, transport: str, kind: str, record: str
) -> None:
    test_pod.publish(f"{name}. {kind} {record}\n")
    answer = ask(test_pod.server, name, kind, transport)
    assert data(answer) == {record}
    assert not answer.flags & dns.flags.AA
    assert data(ask(test_pod.server, name, "A", transport)) == {str(test_pod.settings.bind)}


@TRANSPORTS
def test_all_other_names_of_the_domain_are_forwarded(test_pod: PodUnderTest, transport: str) -> None:
    names = [f"{token()}.{DOMAIN}", f"{token()}.{MAIL_HOST}", f"a.{token()}.{DOMAIN}"]
    test_pod.publish("".join(f"{name}. A 192.0.2.80\n{name}. AAAA 2001:db8::80\n" for name in names))
    for name in names:
        assert data(ask(test_pod.server, name, "A", transport)) == {"192.0.2.80"}
        assert data(ask(test_pod.server, name, "AAAA", transport)) == {"2001:db8::80"}
    missing = f"{token()}.{DOMAIN}"
    assert data(ask(test_pod.server, missing, "A", transport)) == {"NXDOMAIN"}
    assert sum(upstream.questions(missing) for upstream in test_pod.upstreams) == 1


def test_an_alias_of_a_served_name_leads_to_the_pod(test_pod: PodUnderTest) -> None:
    alias = f"{token()}.sethlakowske.com"
    test_pod.publish(f"{alias}. CNAME {DOMAIN}.\n{DOMAIN}. A 203.0.113.7\n")
    assert data(ask(test_pod.server, alias)) == {f"{DOMAIN}.", str(test_pod.settings.bind)}


@WAYS_TO_BE_AWAY
def test_a_served_name_leads_to_the_pod_while_the_line_is_down(test_pod: PodUnderTest, away: Away) -> None:
    with line_down(test_pod, away):
        for name in (DOMAIN, MAIL_HOST):
            assert data(ask(test_pod.server, name)) == {str(test_pod.settings.bind)}


@NAMES
@TRANSPORTS
def test_served_names_are_refused_to_strangers(
    test_pod: PodUnderTest, outsider: Vantage, transport: str, name: str
) -> None:
    assert outsider.python(FROM_THERE, test_pod.address, name, transport) == "REFUSED"


def test_names_of_the_certificate_and_ipv6_addresses_are_served_too(test_pod: PodUnderTest) -> None:
    addresses = {"LAN_ADDRESS": "fd00::2 192.168.7.2", "CERTIFICATE_NAMES": f"www.{DOMAIN} *.{DOMAIN} shop.example.com"}
    with resolver(test_pod, **addresses) as there:
        for name in (DOMAIN, MAIL_HOST, f"www.{DOMAIN}", "shop.example.com"):
            assert data(ask(there, name)) == {"192.168.7.2"}
            assert data(ask(there, name, "AAAA")) == {"fd00::2"}
        assert data(ask(there, "example.com")) == {"192.0.2.80"}
        assert data(ask(there, f"any.{DOMAIN}")) == {"NXDOMAIN"}  # *.DOMAIN is the name of no host


@pytest.mark.parametrize("settings", [{"ZONE": "off"}, {"LAN_ADDRESS": ""}])
def test_served_names_are_forwarded_with_the_zone_off_or_without_an_address(
    test_pod: PodUnderTest, settings: dict[str, str]
) -> None:
    test_pod.publish(f"{DOMAIN}. A 203.0.113.7\n")
    with resolver(test_pod, **settings) as there:
        assert data(ask(there, DOMAIN)) == {"203.0.113.7"}
