"""Whom clients talk to: the pod through its forwarded ports, and the native twin on its host's own loopback.

The twin is the same images with the same configuration, accounts and certificate, in containers that all have one
network namespace, its clients in it. It stands for the host: nothing is forwarded or translated there. Its containers
may write to their roots and have Podman's usual capabilities. So the pod's network and confinement alone differ.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from podserve import endpoints, volumes
from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed.network import enter
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Server
from tests.testbed.vantage import first_process

T = TypeVar("T")


@dataclass(frozen=True)
class Side:
    """A server, the network namespace its clients are in, its volumes' folders, and its containers."""

    name: str
    server: Server
    network: Path
    web: Path
    mail: Path
    containers: dict[str, str]

    def measured(self, act: Callable[["Side"], T]) -> Callable[[], T]:
        """Return `act` on this side, to be called without arguments."""
        return partial(self.call, act)

    def call(self, act: Callable[["Side"], T]) -> T:
        """Return what `act` returns, its sockets and programs being where this side's clients are."""
        with ThreadPoolExecutor(1, initializer=enter, initargs=(self.network,)) as thread:
            return thread.submit(act, self).result()

    def mailbox(self, account: str) -> Path:
        """Return the Maildir of an account."""
        local, _, domain = account.partition("@")
        return self.mail / domain / local / "Maildir"


def pod_of(test_pod: PodUnderTest) -> Side:
    """Return the pod, as clients on this host see it."""
    network = Path(f"/proc/{os.getpid()}/ns/net")
    return Side(
        "pod", test_pod.server, network, test_pod.folder("web"), test_pod.folder("mail"), test_pod.manifests.containers
    )


def _control_group(side: str) -> str:
    """Return the option for one control group beside the pod's: the kernel shares a busy machine out among such."""
    if podman("info", "--format", "{{.Host.CgroupManager}}").stdout.strip() == "systemd":
        return f"--cgroup-parent=machine-{side.replace('-', '_')}.slice"
    return f"--cgroup-parent=/libpod_parent/{side}"


def _start(test_pod: PodUnderTest, side: str, service: str, *options: str) -> str:
    """Start one of the twin's containers, in the network of the container `side`, and return its name."""
    name, spec = f"{side}-{service}", test_pod.manifests.pod["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"]
              if "persistentVolumeClaim" in v}  # fmt: skip
    (container,) = (container for container in spec["containers"] if container["name"] == service)
    words = [f"--env={setting}={value}" for setting, value in test_pod.manifests.config["data"].items()]
    for mount in container["volumeMounts"]:
        path, claim = mount["mountPath"], claims.get(mount["name"])
        if mount.get("readOnly"):
            words.append(f"--volume={claim}:{path}:ro")
        else:
            # The twin's own, and one without a name where the pod's is scratch.
            words.append(f"--volume={side}-{mount['name']}:{path}" if claim else f"--volume={path}")
    podman("run", "--detach", "--name", name, "--network", f"container:{side}", *words, *options, container["image"])
    return name


@contextmanager
def native_twin(test_pod: PodUnderTest, name: str = "native", *services: str, **mounts: Path) -> Iterator[Side]:
    """Yield the same services without the pod: all three, or those named.

    `mounts` lays a file of this host over apache's /etc/apache2/podserve/NAME.conf.
    """
    side = f"{test_pod.name}-{name}"
    domain, mail_host = test_pod.server.domain, test_pod.manifests.settings.mail_host
    try:
        podman("run", "--detach", "--name", side, "--network", test_pod.name, "--hostname", domain,
               "--add-host", f"{domain}:127.0.0.1", "--add-host", f"{mail_host}:127.0.0.1", "--dns", "127.0.0.1",
               "localhost/podserve-base:latest", "sleep", "infinity")  # fmt: skip
        process = first_process(side)
        group = _control_group(side)
        over = [w for n, p in mounts.items() for w in ("--volume", f"{p}:/etc/apache2/podserve/{n}.conf:ro")]
        containers = {
            service: _start(test_pod, side, service, group, *(over if service == "apache" else ()))
            for service in services or test_pod.manifests.containers
        }
        kinds = (("web", "apache"), ("mail", "mail"))
        folders = {kind: volumes.path_on_host(f"{side}-{kind}") for kind, service in kinds if service in containers}
        made = Side(
            name, replace(test_pod.server, host="127.0.0.1"), Path(f"/proc/{process}/ns/net"),
            folders.get("web", Path()), folders.get("mail", Path()), containers,
        )  # fmt: skip
        made.call(partial(_answers, test_pod, set(containers)))
        yield made
    finally:
        for container in (*(f"{side}-{service}" for service in test_pod.manifests.containers), side):
            podman("rm", "--force", "--time", "0", "--volumes", container, check=False)
        volumes.remove([f"{side}-web", f"{side}-mail"])
        # Podman leaves a control group that it was given; systemd removes its own.
        for place in Path("/sys/fs/cgroup").glob(f"**/libpod_parent/{side}"):
            for left in (*place.glob("*/"), place):
                with suppress(OSError):
                    left.rmdir()


def _answers(test_pod: PodUnderTest, services: set[str], side: Side) -> None:
    """Wait until each port of these services answers on this side."""
    context = side.server.context()
    for port in test_pod.manifests.ports.values():
        if port.container in services:

            def check(name: str = port.name, number: int = port.number) -> None:
                try:
                    endpoints.EXCHANGES[name](side.server.host, number, context)
                except endpoints.FAILURES as error:
                    raise NotYet(str(error)) from error

            wait_until(check, 30, f"{side.name} to answer on {port.name}")
