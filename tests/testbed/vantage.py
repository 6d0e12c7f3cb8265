"""Places to connect from: network namespaces with their own addresses."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from podserve.commands import Result, podman, run

STRANGERS = "198.51.100.1", "198.51.100.2"
"""Two addresses that are not private (RFC 5737): this host's end of a veth pair, and the stranger's end."""


def first_process(container: str) -> str:
    """Return the process id on this host of a container's process 1."""
    return podman("container", "inspect", "--format", "{{.State.Pid}}", container).stdout.strip()


def address_on(container: str, network: str) -> str:
    """Return the address of a container on one of its networks."""
    found = podman("container", "inspect", "--format", "{{json .NetworkSettings.Networks}}", container)
    return str(json.loads(found.stdout)[network]["IPAddress"])


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
        result = self.run(sys.executable, "-", *arguments, stdin=script, timeout=timeout)
        assert result.ok, result
        return result.stdout.strip()


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
