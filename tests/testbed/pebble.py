"""Pebble, the ACME directory of the tests, on the pod's network. `python -m tests.testbed.pebble` builds its image."""

import json
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.choices import KeyType
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.vantage import Vantage

IMAGE = "localhost/podserve-pebble:latest"
NAME = "directory.acme.example.com"
"""The name by which the pod's BIND resolves Pebble."""
NAME_SERVER = "ns.acme.example.com"
"""The name server of the zone for challenges (upstream/challenge.zone): the first upstream DNS server."""
PORT, MANAGEMENT = 14000, 15000
"""The ports of ACME and of Pebble's management interface."""


@dataclass
class Directory:
    """An ACME directory for a pod, with its files in a folder of this host.

    It is on the pod's network, and asks the first upstream DNS server for names. At a place `beyond` it is a stranger,
    and asks the pod.
    """

    test_pod: PodUnderTest
    folder: Path
    beyond: Vantage | None = None
    running: tuple[object, ...] = ()

    @property
    def container(self) -> str:
        """The name of the container."""
        return f"{self.test_pod.name}-pebble"

    @property
    def address(self) -> str:
        """The address of the container."""
        return self.beyond.address if self.beyond else self.test_pod.address_of(self.container)

    @property
    def settings(self) -> dict[str, str]:
        """The INVOKE_ variables with which the pod gets its certificate from this directory."""
        return {
            "INVOKE_CERTIFICATE_SOURCE": "acme",
            "INVOKE_ACME_DIRECTORY": f"https://{NAME}:{PORT}/dir",
            "INVOKE_ACME_EMAIL": f"postmaster@{self.test_pod.settings.domain}",
            "INVOKE_ACME_ROOT": str(self.folder / "roots.pem"),
        }

    def start(
        self, hardships: Mapping[str, str] | None = None, *, lifetime: int = 90 * 86400, address: str = ""
    ) -> None:
        """Start the directory, unless it runs with these options. A restart gives it a new root and no accounts.

        Its certificates last `lifetime` seconds. It resolves the pod's names to `address`, by default the pod's own.
        `hardships` are environment variables of Pebble that cause errors, such as rejected nonces
        (https://github.com/letsencrypt/pebble#readme).
        """
        wanted = (hardships, lifetime)
        if self.running != wanted:
            self.stop()
            self._start(hardships or {}, lifetime)
            self.running = wanted
        self.lead_names_to(address or self.test_pod.address)
        root = wait_until(self._root, 10, "Pebble to answer")
        (self.folder / "roots.pem").write_text((self.folder / "ca.crt").read_text() + root)

    def _start(self, hardships: Mapping[str, str], lifetime: int) -> None:
        config = {
            "listenAddress": f"0.0.0.0:{PORT}",
            "managementListenAddress": f"0.0.0.0:{MANAGEMENT}",
            "certificate": "/pebble/tls.crt",
            "privateKey": "/pebble/tls.key",
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "certificateValidityPeriod": lifetime,
            "retryAfter": {"authz": 1, "order": 1},
        }
        (self.folder / "config.json").write_text(json.dumps({"pebble": config}))
        environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "100", **hardships}
        network, asked = self.test_pod.name, self.test_pod.upstreams[0].address
        if self.beyond:
            network, asked = f"container:{self.beyond.container}", self.test_pod.address
        podman(
            "run", "--detach", "--name", self.container, "--network", network,
            "--volume", f"{self.folder}:/pebble:ro", *(f"--env={name}={value}" for name, value in environment.items()),
            IMAGE, "-dnsserver", f"{asked}:53",
        )  # fmt: skip

    def lead_names_to(self, address: str) -> None:
        """Make the pod's names resolve to an address, for Pebble."""
        chosen = self.test_pod.settings
        names = dict.fromkeys((chosen.domain, chosen.mail_host, f"www.{chosen.domain}"), address)
        servers = {NAME: self.address, NAME_SERVER: self.test_pod.upstreams[0].address}
        self.test_pod.name_addresses({**servers, **names})

    def stop(self) -> None:
        """Remove the container."""
        podman("rm", "--force", "--time", "0", self.container, check=False)
        self.running = ()

    def _root(self) -> str:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.check_hostname = False
        address = f"https://{self.address}:{MANAGEMENT}/roots/0"
        try:
            with urllib.request.urlopen(address, context=context, timeout=2) as answer:
                said: bytes = answer.read()
        except OSError as error:
            raise NotYet(str(error)) from error
        return said.decode()


@contextmanager
def directory(test_pod: PodUnderTest, folder: Path, beyond: Vantage | None = None) -> Iterator[Directory]:
    """Yield a directory with its files in `folder`; it does not run yet. Raises Problem without its image."""
    if not podman("image", "exists", IMAGE, check=False).ok:
        raise Problem(f"there is no image {IMAGE}: python -m tests.testbed.pebble builds it, as nox does")
    pair = authority.issue_for(Folder.at(folder), (NAME,), KeyType.EC256)
    (folder / "tls.crt").write_bytes(to_pem(pair.chain))
    (folder / "tls.key").write_bytes(pair.key.pem)
    (folder / "ca.crt").write_bytes(to_pem(pair.roots))
    made = Directory(test_pod, folder, beyond)
    try:
        yield made
    finally:
        made.stop()


if __name__ == "__main__":
    podman("build", "--tag", IMAGE, str(Path(__file__).parent / "directory"))
