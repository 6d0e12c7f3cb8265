"""Encrypted DNS beside plain DNS: queries a second from clients, and to the forwarder."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.dns import NEW
from bench.figures import Figure
from bench.running import in_turn
from tests.testbed.forwarders import Encrypted, encrypted_upstream
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.resolver import started_resolver

SECTION = "encrypted DNS"


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
        folder = Path(name)
        folder.chmod(0o755)
        with encrypted_upstream(f"{test_pod.name}-upstream-tls", test_pod.name, folder, "dot.example") as there:
            yield from _forwarded(test_pod, there)


def _forwarded(test_pod: PodUnderTest, there: Encrypted) -> Iterator[Figure]:
    """Query two resolvers that forward to the same upstream, over TLS and over UDP."""
    resolver = partial(started_resolver, network=test_pod.name, files=there.authority)
    with (
        resolver(f"{test_pod.name}-tls", settings={"FORWARDERS": there.forwarder()}) as over_tls,
        resolver(f"{test_pod.name}-plain", settings={"FORWARDERS": there.upstream.address}) as plain,
    ):

        def uncached(address: str) -> float:
            return load.query(address, load.new_names(NEW), once=True)

        def cached(address: str) -> float:
            return load.query(address, load.cached_names())

        for words, act in (("through the forwarder", uncached), ("cached", cached)):
            taken, beside = in_turn(*(partial(act, one.address) for one in (over_tls, plain)))
            yield Figure(SECTION, f"queries a second, {words}, forwarder over TLS", "/s", taken, "over UDP", beside)
