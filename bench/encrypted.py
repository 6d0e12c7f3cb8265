"""Encrypted DNS beside plain DNS: queries a second from clients, and to the forwarder."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure
from bench.running import in_turn
from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.commands import podman
from podserve.folder import Folder
from podserve.resolver import FORWARDERS_ROOT
from podserve.values import KeyType
from tests.testbed.forwarders import start_upstream, write_names, write_pair
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.resolver import started_resolver

SECTION = "encrypted DNS"
_NEW = 3000
"""Names in a query run without the cache. Each round makes new names."""
_NAME = "dot.example"


def measure(test_pod: PodUnderTest) -> Iterator[Figure]:
    """Query a pod that answers over TLS and HTTPS, then a resolver that forwards over TLS, each beside plain UDP."""
    with play_test_pod("-encrypted", dns_over_tls="yes", dns_over_https="yes") as pod:
        host, uri = pod.server.host, f"doh-uri=https://{pod.server.domain}/dns-query"
        for words, options in (("TLS", ("-m", "dot")), ("HTTPS", ("-m", "doh", "-O", uri))):
            taken, beside = in_turn(
                *(partial(load.query, host, load.cached_names(), *chosen) for chosen in (options, ()))
            )
            yield Figure(SECTION, f"queries a second, cached, over {words}", "/s", taken, "over UDP", beside)
    with tempfile.TemporaryDirectory() as name:
        yield from _forwarded(test_pod, Path(name))


def _forwarded(test_pod: PodUnderTest, folder: Path) -> Iterator[Figure]:
    signer, pair, names = folder / "authority", folder / "pair", folder / "names.zone"
    for made in (folder, signer, pair):
        made.mkdir(exist_ok=True)
        made.chmod(0o755)
    write_names(names, {})
    write_pair(signer, pair, _NAME)
    (signer / FORWARDERS_ROOT).write_bytes(
        to_pem(authority.issue_for(Folder.at(signer), (_NAME,), KeyType.EC256).roots)
    )
    container = f"{test_pod.name}-upstream-tls"
    try:
        there = start_upstream(container, test_pod.name, names, pair).address
        resolver = partial(started_resolver, network=test_pod.name, files=signer)
        with (
            resolver(f"{test_pod.name}-tls", settings={"FORWARDERS": f"tls://{there}#{_NAME}"}) as over_tls,
            resolver(f"{test_pod.name}-plain", settings={"FORWARDERS": there}) as plain,
        ):

            def uncached(address: str) -> float:
                return load.query(address, load.new_names(_NEW), once=True)

            def cached(address: str) -> float:
                return load.query(address, load.cached_names())

            for words, act in (("through the forwarder", uncached), ("cached", cached)):
                taken, beside = in_turn(*(partial(act, one.address) for one in (over_tls, plain)))
                yield Figure(SECTION, f"queries a second, {words}, forwarder over TLS", "/s", taken, "over UDP", beside)
    finally:
        podman("rm", "--force", "--time", "0", container, check=False)
