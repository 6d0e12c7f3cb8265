"""The peers: their images, their containers, and the comparison of the pod with them.

A peer's container is on the pod's own network, behind ports that Podman forwards. It has the pod's certificate, site
and accounts.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import Figure, Goal, at_least
from bench.running import in_turn
from bench.sides import Side, pod_of
from podserve import volumes
from podserve.commands import ROOT, podman
from podserve.errors import uninterrupted
from podserve.values import as_text
from tests.testbed.pod import PodUnderTest, free_address
from tests.testbed.server import Account

HERE = ROOT / "bench/peers"
ROUNDS = 3
"""Of each figure. With up to six sides, five rounds would take half an hour."""
PORTS = {"web": ("https",), "dns": ("dns-udp", "dns-tcp"), "mail": ("smtp", "imaps")}
"""The ports of the pod (by the names of kube/podserve.yaml) that a peer for each service has, too."""


@dataclass(frozen=True)
class Peer:
    """A peer: the folder of its image, the service of the pod that it stands for, and what it does of its jobs.

    `bare` is the daemon of the pod's own service, with the shortest configuration that does these jobs.
    """

    name: str
    service: str
    jobs: tuple[str, ...]
    bare: bool = False
    costs: bool = True
    """Whether its costs are measured: a peer with another one's image has the same."""
    letters: str = Side.letters

    @property
    def image(self) -> str:
        """The name of the image."""
        return f"localhost/podserve-peer-{self.name}:latest"


PEERS = (
    Peer("nginx", "web", ("site", "webdav")),
    Peer("caddy", "web", ("site",)),
    Peer("rclone", "web", ("webdav",)),
    Peer("cgit", "web", ("repositories",)),
    Peer("cgit-uncached", "web", ("repositories",), costs=False),
    Peer("apache", "web", ("site", "webdav", "repositories"), bare=True),
    Peer("dnsmasq", "dns", ("dns",)),
    Peer("unbound", "dns", ("dns",)),
    Peer("exim-cyrus", "mail", ("mail",), letters="spool/**/[0-9]*."),
    Peer("opensmtpd-dovecot", "mail", ("mail",)),
    Peer("postfix-dovecot", "mail", ("mail",), bare=True),
    Peer("named", "dns", ("dns",), bare=True),
)


def build(jobs: Sequence[str]) -> None:
    """Build the images of the peers that do one of these jobs. Podman's cache keeps what has not changed."""
    for peer in PEERS:
        if {"costs", *peer.jobs} & set(jobs):  # in the order of PEERS: an image may be the root of a later one
            podman("build", "--quiet", "--tag", peer.image, str(HERE / peer.name))


def fill(test_pod: PodUnderTest, folder: Path) -> None:
    """Fill `folder` with the pod's key pair and accounts, readable by the users of all daemons."""
    pair = test_pod.folder("certificates") / "current"
    for name, file in (("tls.crt", pair / "tls.crt"), ("tls.key", pair / "tls.key"),
                       ("htpasswd", test_pod.folder("accounts") / "passwd")):  # fmt: skip
        (folder / name).write_bytes(file.read_bytes())
    folder.chmod(0o755)


@contextmanager
def played(test_pod: PodUnderTest, peer: Peer, secrets: Path) -> Iterator[Side]:
    """Yield a peer that runs, on a loopback address of its own."""
    name = f"{test_pod.name}-peer-{peer.name}"
    ports = [test_pod.pod.ports[port] for port in PORTS[peer.service]]
    address = free_address(sorted({port.number for port in ports}))
    chosen = test_pod.settings
    given = {"DOMAIN": chosen.domain, "FORWARDERS": as_text(chosen.forwarders)}
    try:
        podman("run", "--detach", "--name", name, "--network", test_pod.name, "--hostname", chosen.domain,
               *(f"--publish={address}:{p.number}:{p.number}/{p.protocol.lower()}" for p in ports),
               *(f"--dns={forwarder}" for forwarder in chosen.forwarders),
               *(f"--env={setting}={value}" for setting, value in given.items()),
               f"--volume={secrets}:/peer:ro", f"--volume={test_pod.folder('web') / 'site'}:/site:ro",
               f"--volume={name}:/data", peer.image)  # fmt: skip
        data = volumes.path_on_host(name)
        # The client of mail runs in the pod's own mail container for all sides.
        containers = {**test_pod.pod.containers, "peer": name}
        side = replace(pod_of(test_pod), name=peer.name, server=replace(test_pod.server, host=address), web=data,
                       mail=data, containers=containers, letters=peer.letters)  # fmt: skip
        side.wait_for(ports)
        yield side
    finally:
        with uninterrupted():
            podman("rm", "--force", "--time", "0", name, check=False)
            volumes.remove_volumes([name])


@dataclass(frozen=True)
class Contest:
    """The pod, the peers that do a job, and the bare daemon."""

    job: str
    accounts: Sequence[Account]
    pod: Side
    peers: Sequence[Side]
    bare: Side

    @property
    def sides(self) -> list[Side]:
        """All of them: the pod, the bare daemon, the peers."""
        return [self.pod, self.bare, *self.peers]

    def run(self, act: Callable[[Side], float], rounds: int = ROUNDS) -> Sequence[Sequence[float]]:
        """Measure `act` on all sides in turn, and return the runs of each."""
        return in_turn(*(side.measured(act) for side in self.sides), rounds=rounds)

    def compare(self, name: str, unit: str, act: Callable[[Side], float], *, cost: bool = False) -> Figure:
        """Measure `act` on all sides in turn, and return the figure."""
        return self.figure(name, unit, self.run(act), cost=cost)

    def figure(
        self, name: str, unit: str, runs: Sequence[Sequence[float]], *, cost: bool = False, floor: bool = True
    ) -> Figure:
        """Return the figure of the runs of all sides, in their order.

        The best peer has the largest median, or the smallest of a `cost`. With `floor`, it is enough to come near to
        the bare daemon.
        """
        own, bare, *others = runs
        taken = dict(zip((peer.name for peer in self.peers), others, strict=True))
        best = (min if cost else max)(taken, key=lambda peer: statistics.median(taken[peer]))
        goal, near = (Goal("ratio", 1.05), Goal("ratio", 1.1)) if cost else (at_least(0.95), at_least(0.9))
        section = f"peers:{self.job}"
        instead = Figure(section, name, unit, own, self.bare.name, bare, near if floor else None)
        return Figure(section, name, unit, own, best, taken.pop(best), goal, instead, taken)


@contextmanager
def contest(test_pod: PodUnderTest, job: str, secrets: Path) -> Iterator[Contest]:
    """Yield the pod beside all peers that do a job. Two accounts are new."""
    accounts = test_pod.new_account(), test_pod.new_account()
    fill(test_pod, secrets)
    with ExitStack() as stack:
        sides = [(peer, stack.enter_context(played(test_pod, peer, secrets))) for peer in PEERS if job in peer.jobs]
        (bare,) = (side for peer, side in sides if peer.bare)
        yield Contest(job, accounts, pod_of(test_pod), [side for peer, side in sides if not peer.bare], bare)
