"""The checked-in YAML is played with Podman alone, without any task."""

import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
import yaml

from podserve import endpoints, host
from podserve.certificates import client_context
from podserve.commands import podman
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until
from tests.acceptance.pod.test_containers import PROBES
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Server


@pytest.fixture
def by_hand(test_pod: PodUnderTest, tmp_path: Path) -> Iterator[Pod]:
    """A second pod, played by Podman from the documents in kube/, with new and empty volumes."""
    pod = Pod.of(replace(test_pod.settings, pod=f"{test_pod.name}-hand", bind=IPv4Address("127.0.0.252")))
    if not host.podman_info().bounds_memory:  # there, a container with a limit would not start
        pod = pod.playing(pod.manifests.with_memory_bound(0))
    config, document = pod.manifests.write(tmp_path)
    claims = tmp_path / "volumes.yaml"
    claims.write_text(yaml.safe_dump_all(pod.manifests.claims))
    podman("network", "create", "--disable-dns", pod.name)
    try:
        podman("kube", "play", "--network", pod.name, str(claims))
        podman("kube", "play", "--network", pod.name, "--configmap", str(config), str(document))
        yield pod
    finally:
        podman("pod", "rm", "--force", "--time", "2", pod.name, check=False)
        names = [*(volume.name for volume in pod.volumes.values()), *pod.manifests.scratch]
        podman("volume", "rm", "--force", *names, check=False)
        podman("network", "rm", "--force", pod.name, check=False)


def test_a_pod_with_empty_volumes_serves_with_a_certificate_of_its_own(by_hand: Pod) -> None:
    served = Server(str(by_hand.settings.local_address), by_hand.settings.domain, None)
    pem = podman(
        "exec",
        by_hand.containers["apache"],
        "sh",
        "-c",
        "until test -e /run/tls/tls.crt; do :; done; cat /run/tls/tls.crt",
    )
    mail = podman(
        "exec",
        by_hand.containers["mail"],
        "sh",
        "-c",
        "until test -e /run/tls/tls.crt; do :; done; cat /run/tls/tls.crt",
    )
    context = client_context(served.domain, None)
    context.load_verify_locations(cadata=pem.stdout + mail.stdout)

    def answering() -> None:
        wrong = [answer for answer in endpoints.attempt_all(by_hand, context, list(by_hand.ports)) if not answer.ok]
        if wrong:
            raise NotYet(str(wrong))

    wait_until(answering, 30, "a pod played by hand to answer on every port, by a name that its certificates hold")
    # The certificate comes from no authority, so the landing page must not offer one.
    with httpx.Client(base_url=f"https://{served.host}", headers={"Host": served.domain}, verify=context) as client:
        landing = client.get("/")
    assert (landing.status_code, "IMAP" in landing.text, "/ca.crt" in landing.text) == (200, True, False)


def test_its_containers_end_cleanly_when_they_are_told_to(by_hand: Pod) -> None:
    for service, container in by_hand.containers.items():

        def serving(service: str = service, container: str = container) -> None:
            if not podman("exec", container, "healthcheck", PROBES[service], check=False).ok:
                raise NotYet("its probe fails")

        wait_until(serving, 30, f"{container} to serve")
        began = time.monotonic()
        podman("stop", "--time", "10", container)
        assert time.monotonic() - began < 5, service
        code = podman("container", "inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip()
        assert code in {"0", "143"}, service


def test_it_can_be_taken_down_and_played_again(by_hand: Pod, tmp_path: Path) -> None:
    config, pod = by_hand.manifests.write(tmp_path)
    podman("kube", "down", str(pod))
    podman("kube", "play", "--network", by_hand.name, "--configmap", str(config), str(pod))
    running = podman("pod", "inspect", "--format", "{{.State}}", by_hand.name)
    assert running.stdout.strip() == "Running"
