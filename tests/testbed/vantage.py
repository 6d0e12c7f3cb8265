"""Places to connect from: network namespaces with their own addresses."""

import json
import smtplib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import Result, podman, run
from tests.testbed import command_line
from tests.testbed.network import inside

STRANGERS = "198.51.100.1", "198.51.100.2"
"""Two addresses that are not private (RFC 5737): this host's end of a veth pair, and the stranger's end."""


@dataclass(frozen=True)
class _Inspected:
    """A container as Podman described it: the process id of its process 1, the file with that id, its addresses."""

    process: str
    file: Path
    addresses: Mapping[str, str]

    @property
    def current(self) -> bool:
        """Whether this process 1 still runs. Podman's monitor writes the file anew when the container starts again."""
        try:
            return self.file.read_text() == self.process and Path(f"/proc/{self.process}").exists()
        except FileNotFoundError:
            return False


_inspected: dict[str, _Inspected] = {}
"""What Podman said last, by the container's name: Podman takes 0.06 s of processor time for each answer."""


def _inspect(container: str) -> _Inspected:
    """Return the process and the addresses of a container. Podman is asked only if the container started again."""
    known = _inspected.get(container)
    if not (known and known.current):
        found = json.loads(podman("container", "inspect", container).stdout)[0]
        networks = found["NetworkSettings"].get("Networks") or {}
        addresses = {network: str(there["IPAddress"]) for network, there in networks.items()}
        known = _inspected[container] = _Inspected(str(found["State"]["Pid"]), Path(found["PidFile"]), addresses)
    return known


def first_process(container: str) -> str:
    """Return the process id on this host of a container's process 1."""
    return _inspect(container).process


def address_on(container: str, network: str) -> str:
    """Return the address of a container, or of its pod, on one of its networks. Raises KeyError without a network."""
    return _inspect(container).addresses[network]


@dataclass(frozen=True)
class Vantage:
    """A place to connect from: the network namespace of a container, and its address."""

    container: str
    address: str
    process: str

    def run(self, *argv: str, stdin: str = "", timeout: float = 60) -> Result:
        """Run a program of this host in the network namespace."""
        return run(["nsenter", f"--net=/proc/{self.process}/ns/net", *argv], stdin=stdin, check=False, timeout=timeout)

    def python(self, script: str, *arguments: str, timeout: float = 60) -> str:
        """Run a Python script in the network namespace, with sys.argv[1:] = arguments; return its output."""
        result = command_line.python(script, arguments, f"/proc/{self.process}/ns/net", timeout=timeout)
        assert result.ok, result
        return result.stdout.strip()

    @contextmanager
    def smtp(self, host: str) -> Iterator[smtplib.SMTP]:
        """Yield an SMTP client of port 25 that connects from here, after EHLO."""
        with inside(Path(f"/proc/{self.process}/ns/net")):
            client = smtplib.SMTP(host, 25, timeout=60, local_hostname="mail.acme.example.com")
        with client:
            client.ehlo()
            yield client


@contextmanager
def _idle_container(name: str, network: str) -> Iterator[str]:
    """Yield the process id of an idle container, and remove the container afterwards."""
    podman(
        "run", "--detach", "--name", name, "--network", network, "localhost/podserve-base:latest", "sleep", "infinity"
    )
    try:
        yield first_process(name)
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


@contextmanager
def neighbour_of(pod: str) -> Iterator[Vantage]:
    """Yield another container on the pod's own network."""
    name = f"{pod}-neighbour"
    with _idle_container(name, pod) as process:
        yield Vantage(name, address_on(name, pod), process)


@contextmanager
def stranger_to(pod: str) -> Iterator[Vantage]:
    """Yield a place with an address that is not private, connected to this host by a veth pair.

    The address is routed, not masqueraded, so the pod sees it.
    """
    name = f"{pod}-stranger"
    near, far = STRANGERS
    with _idle_container(name, "none") as process:
        place = Vantage(name, far, process)
        run(["ip", "link", "add", "stranger", "type", "veth", "peer", "name", "eth0", "netns", process])
        run(["ip", "address", "add", f"{near}/24", "dev", "stranger"])
        run(["ip", "link", "set", "stranger", "up"])
        for words in (f"address add {far}/24 dev eth0", "link set eth0 up", f"route add default via {near}"):
            added = place.run("ip", *words.split())
            assert added.ok, added
        yield place
