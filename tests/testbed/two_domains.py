"""Two pods of different domains that exchange mail, with DNS records as `dns.records` prints them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from podserve.commands import podman
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import token
from tests.testbed.vantage import STRANGERS, address_on

THIRD = "acme.example.com"
"""The domain of a third party, which sends from the stranger's address. It has no DMARC policy."""
THIRD_PARTY = f"""
$ORIGIN {THIRD}.
$TTL 0
@ A {STRANGERS[1]}
@ MX 10 mail
@ TXT "v=spf1 mx -all"
mail A {STRANGERS[1]}
"""
"""The records of the third party."""
_FOREVER = "$TTL 3600"


@dataclass(frozen=True)
class TwoDomains:
    """The worker's pod, another one, and the address from which each of them sends."""

    own: PodUnderTest
    other: PodUnderTest
    addresses: tuple[str, str]
    records: str

    def publish(self, more: str = "", policy: str = "quarantine") -> None:
        """Publish the records of all domains, and `more` records of the third party; both pods then know them.

        `policy` is what the domains of both pods ask others to do with forged mail (DMARC).
        """
        zone = self.records.replace("p=quarantine", f"p={policy}") + THIRD_PARTY + more
        for pod in (self.own, self.other):
            pod.publish(zone)


@contextmanager
def another_domain(own: PodUnderTest) -> Iterator[TwoDomains]:
    """Play a second pod that is on the first one's network, too: otherwise each would see the other's gateway."""
    with play_test_pod("-b", domain=f"{token()}.{THIRD}") as other:
        infra = podman("pod", "inspect", "--format", "{{.InfraContainerID}}", other.name).stdout.strip()
        podman("network", "connect", own.name, infra)
        addresses = own.address, address_on(infra, own.name)
        # Nothing is cached, so that a test can change a record.
        records = "".join(
            pod.invoke("dns.records", INVOKE_PUBLIC_ADDRESS=address).stdout.replace(_FOREVER, "$TTL 0")
            for pod, address in zip((own, other), addresses, strict=True)
        )
        made = TwoDomains(own, other, addresses, records)
        made.publish()
        yield made
