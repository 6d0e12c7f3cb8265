"""Certificates from an ACME directory that verifies names by DNS, at a DNS provider: a name server of the tests."""

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from podserve import endpoints
from podserve.certificates.clients import client_context
from podserve.commands import Result
from tests.testbed.certificates import current
from tests.testbed.forwarders import UPDATE_KEY
from tests.testbed.pebble import Directory, directory
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import token


@pytest.fixture(scope="module")
def pebble(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """A directory that runs, and resolves the pod's names to an address where nothing listens on port 80."""
    with directory(test_pod, tmp_path_factory.mktemp("pebble")) as there:
        there.start(address=test_pod.upstreams[0].address)
        yield there
    test_pod.invoke("certs.issue")


def secret(test_pod: PodUnderTest) -> str:
    """Return the secret with which the test's name server accepts updates."""
    found = re.search('secret "(.*?)"', test_pod.names.with_name(UPDATE_KEY).read_text())
    assert found
    return found[1]


@pytest.fixture
def file(test_pod: PodUnderTest, tmp_path: Path) -> Path:
    """The file for `acme_dns_file`, which leads lego to the test's name server."""
    there = tmp_path / "provider"
    there.touch(0o600)
    there.write_text(
        f"# the test's\nRFC2136_NAMESERVER={test_pod.upstreams[0].address}:53\nRFC2136_TSIG_ALGORITHM=hmac-sha256.\n"
        f'RFC2136_TSIG_KEY=acme\nexport RFC2136_TSIG_SECRET="{secret(test_pod)}"\nRFC2136_TTL=1\n'
        "RFC2136_SEQUENCE_INTERVAL=0\nRFC2136_POLLING_INTERVAL=1\n"
    )
    return there


def invoke(test_pod: PodUnderTest, pebble: Directory, file: Path, *argv: str, **more: str) -> Result:
    """Run a task with this directory and provider, for the domain and all names below it."""
    chosen = {
        **pebble.settings,
        "INVOKE_ACME_CHALLENGE": "dns",
        "INVOKE_ACME_DNS_PROVIDER": "rfc2136",
        "INVOKE_ACME_DNS_FILE": str(file),
        "INVOKE_CERTIFICATE_NAMES": f"*.{test_pod.settings.domain}",
    }
    return test_pod.invoke(*argv, check=False, **{**chosen, **more})


def refused(test_pod: PodUnderTest, pebble: Directory, file: Path, *told: str, **more: str) -> None:
    """Check that certs.issue fails with the words `told`, and that the old certificate stays in use."""
    before = current(test_pod)
    ended = invoke(test_pod, pebble, file, "certs.issue", **more)
    assert ended.code == 1, ended
    assert "Traceback" not in ended.stderr
    for words in told:
        assert words in ended.stderr
    assert current(test_pod) == before


def test_a_wildcard_is_issued_by_a_dns_provider_with_port_80_out_of_reach(
    test_pod: PodUnderTest, pebble: Directory, file: Path
) -> None:
    arguments = set[bytes]()
    with ThreadPoolExecutor(1) as pool:
        issuing = pool.submit(invoke, test_pod, pebble, file, "certs.issue")
        while wait([issuing], 0.05).not_done:
            for process in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    arguments.add((process / "cmdline").read_bytes())
        issued = issuing.result()
    assert "a new certificate is served: acme https://" in issued.stdout, issued
    assert b"rfc2136" in b"".join(arguments), "lego was seen"
    assert secret(test_pod).encode() not in b"".join(arguments)
    assert "Warning" not in issued.stdout + issued.stderr
    there, chosen = current(test_pod), test_pod.settings
    assert set(there.names) == {chosen.domain, f"*.{chosen.domain}"}
    for name in (chosen.domain, chosen.mail_host, f"{token()}.{chosen.domain}"):
        context = client_context(name, pebble.folder / "roots.pem")
        answers = endpoints.attempt_all(test_pod.pod, context, endpoints.tls_ports(test_pod.pod))
        assert all(answer.ok for answer in answers), answers
    before = (test_pod.folder("certificates") / "current" / "tls.key").read_text()
    assert "nothing was changed" in invoke(test_pod, pebble, file, "certs.renew").stdout
    assert secret(test_pod) not in issued.stdout + issued.stderr + test_pod.logs()
    assert before.splitlines()[1] not in issued.stdout + issued.stderr + test_pod.logs()


def test_a_file_of_the_provider_that_others_can_read_is_refused(
    test_pod: PodUnderTest, pebble: Directory, file: Path
) -> None:
    file.chmod(0o640)
    refused(test_pod, pebble, file, "holds secrets, and other users can read or change it", f"chmod 0600 {file}")
    refused(test_pod, pebble, file.with_name("none"), "cannot be read: No such file or directory")


def test_a_provider_that_lego_does_not_know_is_named(test_pod: PodUnderTest, pebble: Directory, file: Path) -> None:
    refused(test_pod, pebble, file, "Debian's lego does not know this provider", INVOKE_ACME_DNS_PROVIDER="nonsense")
    refused(test_pod, pebble, file, "HETZNER_API_KEY", "acme_dns_file", INVOKE_ACME_DNS_PROVIDER="hetzner")


def test_a_provider_that_refuses_is_told_by_up_and_status_without_its_secret(
    test_pod: PodUnderTest, pebble: Directory, file: Path
) -> None:
    wrong = "d3Jvbmctd3Jvbmctd3Jvbmc="
    file.write_text(file.read_text().replace(secret(test_pod), wrong))
    test_pod.invoke("certs.issue")
    before = current(test_pod)
    # Another source is a reason to renew. (Another name is one, too, but with it `up` would replace the shared pod.)
    up = invoke(test_pod, pebble, file, "up", INVOKE_CERTIFICATE_NAMES="")
    assert up.code == 0, up
    assert "The name server refused the record" in " ".join(up.stdout.split())
    assert "is still served" in " ".join(up.stdout.split())
    told = invoke(test_pod, pebble, file, "status")
    assert told.code == 1
    assert "the certificate was not renewed" in told.stdout
    assert "The name server refused the record" in " ".join(told.stdout.split())
    assert wrong not in up.stdout + up.stderr + told.stdout + told.stderr
    assert current(test_pod) == before
    test_pod.invoke("certs.issue")
    assert "was not renewed" not in test_pod.invoke("status", check=False).stdout
