"""The two servers that the bench compares: the pod behind its forwarded ports, and its native twin on loopback.

The twin is the same images with the same configuration, accounts and certificate. All its containers and its clients
share one network namespace. It stands for services on the host's own network: no port forwarding, no address
translation. Its containers may write to their root file systems and have Podman's usual capabilities. So only the
pod's network and confinement differ.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from podserve import exchanges, volumes
from podserve.commands import podman
from podserve.errors import Problem
from podserve.manifests import Port
from podserve.waiting import NotYet, wait_until
from tests.testbed.network import enter
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Server
from tests.testbed.vantage import first_process

T = TypeVar("T")


@dataclass(frozen=True)
class Side:
    """A server, the network namespace of its clients, the folders of its volumes, and its containers."""

    name: str
    server: Server
    network: Path
    web: Path
    mail: Path
    containers: dict[str, str]
    letters: str = "{domain}/{local}/Maildir/new/*"
    """Where new messages of an account are, below the folder of mail."""

    def measured(self, act: Callable[["Side"], T]) -> Callable[[], T]:
        """Return `act` for this side, as a function without arguments."""
        return partial(self.call, act)

    def call(self, act: Callable[["Side"], T]) -> T:
        """Call `act` in the network namespace of this side's clients, and return its result."""
        with ThreadPoolExecutor(1, initializer=enter, initargs=(self.network,)) as thread:
            return thread.submit(act, self).result()

    def wait_for(self, ports: Iterable[Port]) -> None:
        """Wait until each of these ports answers. Raises Problem after 30 s."""

        def check(port: Port, _: "Side") -> None:
            try:
                self.server.exchange(port)
            except exchanges.FAILURES as error:
                raise NotYet(str(error)) from error

        for port in ports:
            wait_until(self.measured(partial(check, port)), 30, f"{self.name} to answer on {port.name}")

    def delivered(self, account: str) -> int:
        """Return the number of new messages of an account."""
        local, _, domain = account.partition("@")
        return len(list(self.mail.glob(self.letters.format(local=local, domain=domain))))

    def mailbox(self, account: str) -> Path:
        """Return the Maildir of an account."""
        local, _, domain = account.partition("@")
        return self.mail / domain / local / "Maildir"


def pod_of(test_pod: PodUnderTest) -> Side:
    """Return the pod as a side. Its clients run on this host."""
    network = Path(f"/proc/{os.getpid()}/ns/net")
    return Side(
        "pod", test_pod.server, network, test_pod.folder("web"), test_pod.folder("mail"), test_pod.pod.containers
    )


def _control_group(side: str) -> str:
    """Return Podman's option for a control group beside the pod's: the kernel shares time out between siblings."""
    if podman("info", "--format", "{{.Host.CgroupManager}}").stdout.strip() == "systemd":
        return f"--cgroup-parent=machine-{side.replace('-', '_')}.slice"
    return f"--cgroup-parent=/libpod_parent/{side}"


def start(test_pod: PodUnderTest, side: str, service: str, network: str, *options: str) -> str:
    """Start another container of a service of the pod, with volumes of its own; return its name.

    The names of the container and of its volumes begin with `side`. `network` is Podman's.
    """
    name, spec = f"{side}-{service}", test_pod.pod.manifests.pod["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"]
              if "persistentVolumeClaim" in v}  # fmt: skip
    (container,) = (container for container in spec["containers"] if container["name"] == service)
    words = [f"--env={setting}={value}" for setting, value in test_pod.pod.manifests.config["data"].items()]
    if user := container["securityContext"].get("runAsUser"):
        words += [f"--user={user}", "--cap-add=NET_BIND_SERVICE"]
    for mount in container["volumeMounts"]:
        path, claim = mount["mountPath"], claims.get(mount["name"])
        if mount.get("readOnly"):
            words.append(f"--volume={claim}:{path}:ro")
        else:
            # A volume of the twin's own; an anonymous one where the pod has scratch space.
            words.append(f"--volume={side}-{mount['name']}:{path}" if claim else f"--volume={path}")
    podman("run", "--detach", "--name", name, "--network", network, *words, *options, container["image"])
    return name


def replaced(configuration: str, parts: Mapping[str, str], table: str) -> str:
    """Return a configuration with each of these parts replaced.

    Raises Problem if it has no such part. The text then names `table`, the constant that holds the parts.
    """
    for part, replacement in parts.items():
        if part not in configuration:
            raise Problem(f"the configuration has no {part!r}: expected it; update {table}")
        configuration = configuration.replace(part, replacement)
    return configuration


@contextmanager
def native_twin(test_pod: PodUnderTest, name: str = "native", *services: str, **mounts: Path) -> Iterator[Side]:
    """Yield the native twin, with all three services or the named ones.

    `mounts` mounts a file of this host over apache's /etc/apache2/podserve/NAME.conf.
    """
    side = f"{test_pod.name}-{name}"
    domain, mail_host = test_pod.server.domain, test_pod.settings.mail_host
    try:
        podman("run", "--detach", "--name", side, "--network", test_pod.name, "--hostname", domain,
               "--add-host", f"{domain}:127.0.0.1", "--add-host", f"{mail_host}:127.0.0.1", "--dns", "127.0.0.1",
               "localhost/podserve-base:latest", "sleep", "infinity")  # fmt: skip
        process = first_process(side)
        group = _control_group(side)
        over = [w for n, p in mounts.items() for w in ("--volume", f"{p}:/etc/apache2/podserve/{n}.conf:ro")]
        containers = {
            service: start(test_pod, side, service, f"container:{side}", group, *(over if service == "apache" else ()))
            for service in services or test_pod.pod.containers
        }
        kinds = (("web", "apache"), ("mail", "mail"))
        folders = {kind: volumes.path_on_host(f"{side}-{kind}") for kind, service in kinds if service in containers}
        made = Side(
            name, replace(test_pod.server, host="127.0.0.1"), Path(f"/proc/{process}/ns/net"),
            folders.get("web", Path()), folders.get("mail", Path()), containers,
        )  # fmt: skip
        made.wait_for(port for port in test_pod.pod.ports.values() if port.container in containers)
        yield made
    finally:
        for container in (*(f"{side}-{service}" for service in test_pod.pod.containers), side):
            podman("rm", "--force", "--time", "0", "--volumes", container, check=False)
        volumes.remove_volumes([f"{side}-web", f"{side}-mail"])
        # Podman does not remove a control group that it was given; systemd removes its own.
        for place in Path("/sys/fs/cgroup").glob(f"**/libpod_parent/{side}"):
            for left in (*place.glob("*/"), place):
                with suppress(OSError):
                    left.rmdir()
