"""What a service costs: its start until it answers, its memory while idle, the bytes that its image adds to Debian."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.figures import Figure
from bench.peers.contestants import PEERS, PORTS, ROUNDS, Contest, Peer, fill, played
from bench.sides import Side, pod_of, start
from podserve import volumes
from podserve.commands import podman
from podserve.errors import uninterrupted
from tests.testbed.images import MB
from tests.testbed.memory import pss_of
from tests.testbed.pod import PodUnderTest, free_address

_OWN = {"web": "apache", "mail": "mail", "dns": "dns"}
"""The pod's services, by what they are for."""


@contextmanager
def _own(test_pod: PodUnderTest, peer: Peer) -> Iterator[Side]:
    """Yield the pod's own service, started as a peer is: one container with forwarded ports."""
    side, service = f"{test_pod.name}-own", _OWN[peer.service]
    ports = [test_pod.pod.ports[port] for port in PORTS[peer.service]]
    address = free_address(sorted({port.number for port in ports}))
    published = [f"--publish={address}:{port.number}:{port.number}/{port.protocol.lower()}" for port in ports]
    try:
        name = start(test_pod, side, service, test_pod.name, *published)
        made = replace(pod_of(test_pod), server=replace(test_pod.server, host=address), containers={"peer": name})
        made.wait_for(ports)
        yield made
    finally:
        with uninterrupted():
            podman("rm", "--force", "--time", "0", "--volumes", f"{side}-{service}", check=False)
            volumes.remove_volumes([f"{side}-web", f"{side}-mail"])


def _bytes(image: str) -> float:
    """Return the MB that an image adds to the Debian root."""
    inspected = json.loads(podman("image", "inspect", image, "localhost/podserve-debian:trixie").stdout)
    own, root = (int(document["Size"]) for document in inspected)
    return (own - root) / MB


def measure(test_pod: PodUnderTest, secrets: Path) -> Iterator[Figure]:
    """Start each service and each of its peers, alone, in turn.

    The pod is stopped, because it would share memory with another container of its image. So this job is the last one.
    """
    fill(test_pod, secrets)
    podman("pod", "stop", "--time", "0", test_pod.name)
    for service, own in _OWN.items():
        rivals = (peer for peer in PEERS if peer.service == service and peer.costs)
        peers = sorted(rivals, key=lambda peer: not peer.bare)
        takes = [partial(_own, test_pod, peers[0]), *(partial(played, test_pod, peer, secrets) for peer in peers)]
        starts, memory, sides = [list[float]() for _ in takes], [list[float]() for _ in takes], dict[int, Side]()
        for number in range(ROUNDS):
            for index in range(len(takes)) if number % 2 == 0 else reversed(range(len(takes))):
                begin = time.perf_counter()
                with takes[index]() as side:
                    starts[index].append(time.perf_counter() - begin)
                    memory[index].append(pss_of(side.containers["peer"]))
                    sides[index] = side
        contest = Contest("costs", (), sides[0], [sides[index] for index in range(2, len(takes))], sides[1])
        yield contest.figure(f"{service}: start until it answers", "s", starts, cost=True)
        yield contest.figure(f"{service}: memory after the start (PSS)", "MB", memory, cost=True)
        images = [f"localhost/podserve-{own}:latest", *(peer.image for peer in peers)]
        sizes = [[_bytes(image)] for image in images]
        yield contest.figure(f"{service}: bytes of the image beyond Debian", "MB", sizes, cost=True)
