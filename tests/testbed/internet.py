"""A small internet beyond the stranger: a signed root and parent zone, a validating resolver, a secondary name server.

The resolver knows only this root. It finds the domain by the parent's delegation, with a DS record and glue.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from podserve.commands import podman, run
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.stub import EXCHANGES
from tests.testbed.vantage import Vantage

PUBLIC, RESOLVER, SECONDARY = "203.0.113.7", "198.51.100.53", "198.51.100.54"
"""The public address of the pod, and the addresses of the resolver and the secondary in the stranger's network."""
_PARENT = "sethlakowske.com"
_OPTIONS = """
options {{ directory "/tmp"; pid-file none; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; empty-zones-enable no;
    query-source {address}; transfer-source {address}; allow-query {{ any; }}; allow-notify {{ any; }}; {more} }};
controls {{ }};
"""
_HOUR = 3600
_ZONES = {
    "root": f"""
@ SOA a.root. root. 1 3600 600 86400 1
@ NS a.root.
a.root. A 127.0.0.1
{_PARENT}. NS a.root.
7.113.0.203.in-addr.arpa. PTR mail.lab.{_PARENT}.
""",
    _PARENT: """
@ SOA a.root. root. 1 3600 600 86400 1
@ NS a.root.
lab NS ns.lab
ns.lab A {address}
lab DS {ds}
""",
}


def signed_zone(origin: str, text: str) -> tuple[str, str, str]:
    """Return a zone signed by a new key, its DNSKEY record and the DS record for its parent."""
    zone = dns.zone.from_text(f"$TTL 1\n{text}", origin, relativize=False)
    private = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), "ECDSAP256SHA256", flags=257)
    begin = int(time.time()) - _HOUR
    dns.dnssec.sign_zone(zone, keys=[(private, key)], inception=begin, expiration=begin + 24 * _HOUR)
    return (
        zone.to_text(relativize=False),
        key.to_text(),
        dns.dnssec.make_ds(dns.name.from_text(origin), key, "SHA256").to_text(),
    )


@dataclass(frozen=True)
class Internet:
    """The stranger's network with the servers, and the pod that it reaches at PUBLIC."""

    outsider: Vantage
    own: PodUnderTest
    secondary: str
    """The container of the secondary."""

    def connect(self) -> None:
        """Lead PUBLIC to the pod: again after it was played again."""
        run(["ip", "route", "replace", PUBLIC, "via", self.own.address])
        self.own.inside.run("ip", "address", "replace", f"{PUBLIC}/32", "dev", "lo")

    def ask(self, name: str, kind: str = "A", *, server: str = RESOLVER) -> dns.message.Message:
        """Return the resolver's answer, or another server's, over TCP."""
        query = dns.message.make_query(name, kind, want_dnssec=True)
        return EXCHANGES["tcp"](query, server, timeout=5)

    def validated(self, name: str, kind: str = "A") -> set[str]:
        """Return the data of a record that the resolver vouches for; an empty set unless it does, or its error."""
        answer = self.ask(name, kind)
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            return {dns.rcode.to_text(answer.rcode())}
        if not answer.flags & dns.flags.AD:
            return set()
        return {record.to_text() for rrset in answer.answer for record in rrset if rrset.rdtype.name == kind} or {
            dns.rcode.to_text(answer.rcode())
        }

    def delv(self, name: str, kind: str = "A") -> str:
        """Return the output of delv, which validates by itself, from the root on."""
        words = ["delv", "-a", "/internet/anchor", "+root=.", f"@{RESOLVER}", name, kind]
        return podman("exec", f"{self.outsider.container}-resolver", *words).stdout

    def wait(self, name: str, expected: set[str], kind: str = "A") -> None:
        """Wait until `validated` returns this: the resolver keeps what it has for a second."""

        def seen() -> None:
            if (found := self.validated(name, kind)) != expected:
                raise NotYet(str(found))

        wait_until(seen, 10, f"the resolver to answer {name} {kind} with {expected}")


def _server(outsider: Vantage, name: str, files: Path, config: str) -> str:
    """Start named in the stranger's network with a configuration; return the name of its container."""
    (files / f"{name}.conf").write_text(config)
    container = f"{outsider.container}-{name}"
    podman("run", "--detach", "--name", container, "--network", f"container:{outsider.container}",
           "--volume", f"{files}:/internet:ro", "--entrypoint", "named", "localhost/podserve-dns:latest",
           "-g", "-c", f"/internet/{name}.conf")  # fmt: skip
    return container


@contextmanager
def internet_around(own: PodUnderTest, outsider: Vantage, files: Path) -> Iterator[Internet]:
    """Yield an internet that delegates the pod's domain to PUBLIC, and leads that address to the pod.

    `files` is an empty folder.
    """
    files.chmod(0o755)
    domain, ds = own.settings.domain, own.invoke("dns.ds").stdout.splitlines()[0].partition(" DS ")[2]
    parent, _, parent_ds = signed_zone(_PARENT, _ZONES[_PARENT].format(address=PUBLIC, ds=ds))
    root, anchor, _ = signed_zone(".", f"{_ZONES['root']}{_PARENT}. DS {parent_ds}\n")
    (files / "root.zone").write_text(root)
    (files / "parent.zone").write_text(parent)
    (files / "hints.zone").write_text(". 3600 NS a.root.\na.root. 3600 A 127.0.0.1\n")
    # The master key's base64 may stand in pieces.
    algorithm, _, public = anchor.partition(" 3 ")[2].partition(" ")
    trusted = f'trust-anchors {{ . static-key 257 3 {algorithm} "{public}"; }};'
    (files / "anchor").write_text(trusted)
    zones = "".join(f'zone "{zone}" {{ type primary; file "/internet/{file}.zone"; }};\n'
                    for zone, file in ((".", "root"), (_PARENT, "parent")))  # fmt: skip
    secret = own.invoke("dns.transfer-key").stdout
    copy = f'type secondary; primaries {{ {PUBLIC} key "transfer.{domain}"; }}; file "/tmp/copy"; notify no;'
    configs = {
        "authority": _OPTIONS.format(address="127.0.0.1", more="recursion no;") + zones,
        "resolver": _OPTIONS.format(
            address=RESOLVER, more="recursion yes; max-cache-ttl 1; max-ncache-ttl 1; synth-from-dnssec no;"
        )
        + f'{trusted}\nzone "." {{ type hint; file "/internet/hints.zone"; }};\n',
        "secondary": _OPTIONS.format(address=SECONDARY, more="recursion no;")
        + f'{secret}\nzone "{domain}" {{ {copy} }};\n',
    }
    with ExitStack() as stack:
        for address in (RESOLVER, SECONDARY):
            outsider.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            stack.callback(outsider.run, "ip", "address", "delete", f"{address}/24", "dev", "eth0")
        there = Internet(outsider, own, f"{outsider.container}-secondary")
        stack.callback(run, ["ip", "route", "delete", PUBLIC], check=False)
        there.connect()
        for name, config in configs.items():
            container = f"{outsider.container}-{name}"
            stack.callback(podman, "rm", "--force", "--time", "0", container, check=False)
            _server(outsider, name, files, config)
        there.wait(domain, {PUBLIC})
        yield there
