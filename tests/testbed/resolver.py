"""A container with the pod's resolver alone, which starts in half a second: for settings that only named reads."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed.vantage import address_on


@dataclass(frozen=True)
class Resolver:
    """A container of the image dns, confined as in kube/podserve.yaml, and its address."""

    container: str
    address: str

    def exec(self, *argv: str) -> str:
        """Run a command in the container, and return its output. Raises Problem if it fails."""
        return podman("exec", self.container, *argv).stdout


@contextmanager
def started_resolver(name: str, network: str, files: Path, settings: Mapping[str, str]) -> Iterator[Resolver]:
    """Yield a resolver with these settings (as in the ConfigMap) that answers; `files` is mounted as its volume.

    `network` may be the network of another container: container:NAME.
    """
    environment = {"DNSSEC": "no", "DNS_OVER_TLS": "no", "DNS_OVER_HTTPS": "no", "ZONE": "off", **settings}
    podman(
        "run", "--detach", "--name", name, "--network", network, *(f"--env={n}={v}" for n, v in environment.items()),
        "--user", "5004:5004", "--cap-drop", "all", "--cap-add", "NET_BIND_SERVICE", "--read-only",
        "--security-opt", "no-new-privileges", "--volume", f"{files}:/data/dns:ro",
        "--mount", "type=volume,destination=/run/named,U=true", "localhost/podserve-dns:latest",
    )  # fmt: skip
    try:

        def alive() -> None:
            if not podman("exec", name, "healthcheck", "dns-alive", check=False).ok:
                raise NotYet(podman("logs", "--tail", "5", name, check=False).stderr)

        wait_until(alive, 10, f"{name} to answer")
        yield Resolver(name, "" if network.startswith("container:") else address_on(name, network))
    finally:
        podman("rm", "--force", "--volumes", "--time", "0", name, check=False)
