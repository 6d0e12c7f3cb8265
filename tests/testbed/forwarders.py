"""The DNS servers to which the pod under test forwards."""

import datetime as dt
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.choices import KeyType
from podserve.commands import podman
from podserve.folder import Folder
from podserve.resolver import FORWARDERS_ROOT
from tests.testbed.vantage import address_on, first_process

HERE = Path(__file__).parent
UPDATE_KEY = "update-key.conf"
"""The name of a file beside that of the names: the key with which an ACME client may update a zone."""


@dataclass(frozen=True)
class Upstream:
    """A DNS server to which the pod forwards: its container and its address."""

    container: str
    address: str

    def questions(self, name: str) -> int:
        """Return the number of queries that it received for a name."""
        log = podman("logs", self.container)
        return len(re.findall(rf"query: {re.escape(name)} IN ", log.stdout + log.stderr, re.IGNORECASE))

    def clients(self, name: str) -> set[tuple[str, str]]:
        """Return the address and port of each client that asked for a name, or a name below it: its connections."""
        log = podman("logs", self.container)
        asked = rf"client @\S+ (\S+)#(\d+) \S+: query: (?:\S+\.)?{re.escape(name)} IN "
        return set(re.findall(asked, log.stdout + log.stderr, re.IGNORECASE))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Freeze the server, so that it answers nothing, as behind a link that drops all packets."""
        podman("pause", self.container)
        try:
            yield
        finally:
            podman("unpause", self.container)


def write_names(file: Path, addresses: Mapping[str, str], kind: str = "A", ttl: int = 0) -> None:
    """Write the zone of the names that tests define. No cache keeps records with a TTL of 0 (s)."""
    records = [f"{name}. {kind} {address}" for name, address in addresses.items()]
    file.write_text("\n".join([f"$TTL {ttl}\n@ SOA ns.invalid. hostmaster.invalid. {int(time.time())} 3600 600 86400 0",
                               "@ NS ns.invalid.", *records, ""]))  # fmt: skip


def start_upstream(name: str, network: str, names: Path, pair: Path | None = None) -> Upstream:
    """Start a DNS server in a container of this name on a network. `names` is the zone file that tests write.

    With `pair`, a folder with tls.crt and tls.key, the server also speaks DNS over TLS: on 853, over IPv6 on 8853. With
    a file UPDATE_KEY beside `names`, a client with that key may update the zone of upstream/updated.conf.
    """
    config, mounts = ("encrypted.conf", ["--volume", f"{pair}:/pair:ro"]) if pair else ("named.conf", [])
    if (key := names.with_name(UPDATE_KEY)).exists():
        config, mounts = "updated.conf", ["--volume", f"{key}:/update-key.conf:ro"]
    podman("run", "--detach", "--name", name, "--network", network, "--volume", f"{HERE / 'upstream'}:/upstream:ro",
           "--volume", f"{names}:/names.zone:ro", *mounts,
           "--entrypoint", "named", "localhost/podserve-dns:latest", "-g", "-c", f"/upstream/{config}")  # fmt: skip
    return Upstream(name, address_on(name, network))


def write_pair(signer: Path, pair: Path, name: str, *, ended: bool = False) -> None:
    """Write tls.crt and tls.key for a name into `pair`, issued by the authority in `signer`."""
    made = authority.issue_for(Folder.at(signer), (name,), KeyType.EC256)
    leaf, key = made.chain[0], serialization.load_pem_private_key((signer / "ca.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    if ended:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            leaf.issuer, leaf.subject, leaf.public_key(), leaf.serial_number, now - dt.timedelta(days=9),
            now - dt.timedelta(days=1), list(leaf.extensions),
        )  # fmt: skip
        leaf = builder.sign(key, hashes.SHA256())
    (pair / "tls.crt").write_bytes(to_pem([leaf]))
    (pair / "tls.key").write_bytes(made.key.pem)


@dataclass(frozen=True)
class Encrypted:
    """An upstream that speaks DNS over TLS, the name in its certificate, and the folders of its key pair and authority.

    The authority's folder has the file FORWARDERS_ROOT, too, by which a resolver verifies the upstream.
    """

    upstream: Upstream
    name: str
    pair: Path
    authority: Path

    def forwarder(self, name: str = "") -> str:
        """Return this upstream as the setting names it, by default with the name in its certificate."""
        return f"tls://{self.upstream.address}#{name or self.name}"

    @contextmanager
    def certificate_that_has_ended(self) -> Iterator[None]:
        """Use a certificate that ended yesterday."""
        try:
            self._use(ended=True)
            yield
        finally:
            self._use(ended=False)

    def _use(self, *, ended: bool) -> None:
        write_pair(self.authority, self.pair, self.name, ended=ended)
        os.kill(int(first_process(self.upstream.container)), signal.SIGHUP)


@contextmanager
def encrypted_upstream(container: str, network: str, folder: Path, name: str) -> Iterator[Encrypted]:
    """Yield an upstream in this container on a network, with a certificate for `name`. `folder` is an empty folder."""
    signer, pair, names = folder / "authority", folder / "pair", folder / "names.zone"
    for made in (signer, pair):
        made.mkdir()
        made.chmod(0o755)
    write_names(names, {})
    write_pair(signer, pair, name)
    roots = authority.issue_for(Folder.at(signer), (name,), KeyType.EC256).roots
    (signer / FORWARDERS_ROOT).write_bytes(to_pem(roots))
    try:
        yield Encrypted(start_upstream(container, network, names, pair), name, pair, signer)
    finally:
        podman("rm", "--force", "--time", "0", container, check=False)
