"""Certificates from an ACME directory: issue, renewal, and failures, which leave the old certificate in use."""

import contextlib
import datetime as dt
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from podserve import endpoints
from podserve.certificates.clients import client_context, unverified_context
from podserve.commands import Result, podman
from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until
from tests.testbed.certificates import current, every, only
from tests.testbed.pebble import NAME, Directory, directory
from tests.testbed.pod import PodUnderTest, prepare_test_pod


@pytest.fixture(scope="module")
def made(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """A directory that does not run yet. Afterwards the pod's own authority issues the certificate again."""
    with directory(test_pod, tmp_path_factory.mktemp("pebble")) as there:
        yield there
    test_pod.invoke("certs.issue")


@pytest.fixture
def pebble(made: Directory) -> Directory:
    """The directory, running without hardships."""
    made.start()
    return made


def invoke(test_pod: PodUnderTest, pebble: Directory, *argv: str, check: bool = True, **more: str) -> Result:
    """Run a task on the pod with the directory as the source of certificates. `more` adds INVOKE_ variables."""
    return test_pod.invoke(*argv, stdin="", check=check, **{**pebble.settings, **more})


def served(test_pod: PodUnderTest) -> set[str]:
    """Return the fingerprints of the certificates that the six TLS ports serve."""
    context = unverified_context(test_pod.settings.domain)
    answers = endpoints.attempt_all(test_pod.pod, context, endpoints.tls_ports(test_pod.pod))
    assert all(answer.ok for answer in answers), answers
    return {answer.fingerprint for answer in answers}


def refused(test_pod: PodUnderTest, pebble: Directory, *told: str, **more: str) -> Result:
    """Check that certs.issue fails with the words `told`, and that all six ports still serve the old certificate."""
    before = current(test_pod)
    ended = invoke(test_pod, pebble, "certs.issue", check=False, **more)
    assert ended.code == 1, ended
    assert "Traceback" not in ended.stderr
    for words in told:
        assert words in ended.stderr
    assert current(test_pod) == before
    assert served(test_pod) == {before.fingerprint}
    return ended


def www(test_pod: PodUnderTest) -> dict[str, str]:
    """Return the setting for one more name, for which Pebble has no valid authorization that it could reuse."""
    return {"INVOKE_CERTIFICATE_NAMES": f"www.{test_pod.settings.domain}"}


def invoke_alone(test_pod: PodUnderTest, pebble: Directory, *argv: str) -> Result:
    """Run a task as `invoke` does, with one name and one certificate: lego takes seconds for each."""
    domain = test_pod.settings.domain
    return invoke(test_pod, pebble, *argv, INVOKE_MAIL_HOST=domain, INVOKE_FILES_HOST=domain, INVOKE_KEY_TYPE="ec256")


def test_a_certificate_is_issued_from_nothing_and_served_everywhere(test_pod: PodUnderTest, pebble: Directory) -> None:
    issued = invoke(test_pod, pebble, "certs.issue")
    assert "a new certificate is served: acme https://" in issued.stdout
    assert "Warning" not in issued.stdout + issued.stderr
    (there, second), chosen = every(test_pod), test_pod.settings
    assert (there.key, second.key) == ("ec256", "rsa2048")
    for one in (there, second):
        assert set(one.names) == {chosen.domain, chosen.mail_host}
        assert "Pebble Intermediate CA" in one.issuer
    assert served(test_pod) == {there.fingerprint}
    roots = pebble.folder / "roots.pem"
    for name in there.names:
        for algorithm, one in (("ec", there), ("rsa", second)):
            context = only(algorithm, client_context(name, roots))
            answers = endpoints.attempt_all(test_pod.pod, context, endpoints.tls_ports(test_pod.pod))
            assert {answer.fingerprint for answer in answers} == {one.fingerprint}, answers
        # The ACME client's container joined the pod. When it ends, Podman may edit the pod's hosts file (run_once).
        assert test_pod.exec("mail", "getent", "hosts", name).stdout.startswith("127.0.0.1")
    of_pod = podman("ps", "--all", "--filter", f"pod={test_pod.name}", "--format", "{{.Names}}").stdout.split()
    assert {name for name in of_pod if not name.endswith("-infra")} == set(test_pod.pod.containers.values())
    assert test_pod.invoke("certs.ca").stdout in roots.read_text()


def test_the_first_up_on_empty_volumes_ends_with_a_certificate_of_the_directory(tmp_path: Path) -> None:
    with prepare_test_pod("-new") as new, directory(new, tmp_path) as pebble, ThreadPoolExecutor(1) as pool:
        pebble.start(address=new.upstreams[0].address)  # the pod has no address yet
        coming = pool.submit(invoke, new, pebble, "up")

        def played() -> None:
            with contextlib.suppress(Problem, LookupError):
                if new.address:
                    return
            raise NotYet("it has no address")

        wait_until(played, 60, "the pod to be played")
        pebble.lead_names_to(new.address)
        assert "Warning" not in coming.result().stdout
        assert "Pebble Intermediate CA" in current(new).issuer
        assert served(new) == {current(new).fingerprint}


def test_what_is_not_due_is_not_renewed_and_what_is_forced_is(test_pod: PodUnderTest, pebble: Directory) -> None:
    invoke(test_pod, pebble, "certs.issue")
    before = current(test_pod)
    for task in ("certs.renew", "up"):
        assert "changed" in invoke(test_pod, pebble, task).stdout
        assert current(test_pod) == before
    assert "a new certificate" in invoke(test_pod, pebble, "certs.renew", "--force").stdout
    assert current(test_pod).serial != before.serial


def test_no_key_is_in_a_log_or_left_where_it_was_made(test_pod: PodUnderTest, pebble: Directory) -> None:
    issued = invoke(test_pod, pebble, "certs.issue")
    left = [file for file in test_pod.folder("authority").rglob("*") if file.is_file()]
    for name in ("tls.key", "alt.key"):
        secret = (test_pod.folder("certificates") / "current" / name).read_text().splitlines()[1]
        assert secret not in issued.stdout + issued.stderr + test_pod.logs()
        assert not [file for file in left if secret in file.read_text()]
    keys = [file for file in left if file.suffix in {".key", ".pem"}]
    assert len(keys) == 2, "the account's and the authority's"
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys} == {0o600}


def test_port_80_out_of_reach_is_told(test_pod: PodUnderTest, pebble: Directory) -> None:
    pebble.lead_names_to(test_pod.upstreams[0].address)
    refused(test_pod, pebble, "issued no certificate", "The directory must reach port 80 of each name", **www(test_pod))


def test_an_order_that_is_refused_is_told(test_pod: PodUnderTest, pebble: Directory) -> None:
    # The network's gateway is this host. Another web server answers there on port 80 of the pod's names.
    gateway = f"{test_pod.address.rpartition('.')[0]}.1"
    pebble.lead_names_to(gateway)
    with ThreadingHTTPServer((gateway, 80), BaseHTTPRequestHandler) as other, ThreadPoolExecutor(1) as pool:
        pool.submit(other.serve_forever)
        try:
            refused(
                test_pod,
                pebble,
                "issued no certificate",
                "Another server than this pod answered at port 80",
                **www(test_pod),
            )
        finally:
            other.shutdown()


def test_a_directory_that_is_not_trusted_is_told(test_pod: PodUnderTest, pebble: Directory) -> None:
    (pebble.folder / "roots.pem").write_text((test_pod.folder("certificates") / "current" / "tls.crt").read_text())
    refused(test_pod, pebble, "is not trusted: set acme_root to the PEM file")


def test_a_directory_that_is_down_is_told_and_up_serves_on(test_pod: PodUnderTest, pebble: Directory) -> None:
    pebble.stop()
    # At this address nothing listens on the directory's port, so a connection is refused instead of timing out.
    test_pod.name_addresses({NAME: test_pod.upstreams[0].address})
    refused(test_pod, pebble, "The directory cannot be reached", NAME)
    before = current(test_pod)
    # Another directory is a reason to renew. (Another name is one, too, but with it `up` would replace the shared pod.)
    other = f"{pebble.settings['INVOKE_ACME_DIRECTORY']}/other"
    up = invoke(test_pod, pebble, "up", INVOKE_ACME_DIRECTORY=other)
    assert "Warning" in up.stdout
    assert "is still served" in " ".join(up.stdout.split())
    assert current(test_pod) == before
    assert served(test_pod) == {before.fingerprint}


def test_what_is_due_is_renewed_though_half_of_the_nonces_are_rejected(test_pod: PodUnderTest, made: Directory) -> None:
    made.start({"PEBBLE_WFE_NONCEREJECT": "50"}, lifetime=12)
    invoke_alone(test_pod, made, "certs.issue")
    before = current(test_pod)
    assert before.ends - before.starts < dt.timedelta(seconds=13)

    def due() -> None:
        if not before.due:
            raise NotYet("a third of its lifetime is left")

    wait_until(due, 20, "the certificate to be due")
    renewed = invoke_alone(test_pod, made, "certs.renew")
    assert "a new certificate" in renewed.stdout
    assert current(test_pod).serial != before.serial
    assert served(test_pod) == {current(test_pod).fingerprint}


def test_a_directory_with_another_root_that_takes_its_time_issues_with_a_warning(
    test_pod: PodUnderTest, pebble: Directory
) -> None:
    roots = (pebble.folder / "roots.pem").read_text()
    hardship = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "2", "PEBBLE_CHAIN_LENGTH": "3"}
    pebble.start(hardship)
    (pebble.folder / "roots.pem").write_text(roots)
    before = current(test_pod)
    renewed = invoke_alone(test_pod, pebble, "certs.renew", "--force")
    assert "no root certificate of this host verifies the certificate" in " ".join(renewed.stderr.split())
    assert current(test_pod).serial != before.serial
    assert served(test_pod) == {current(test_pod).fingerprint}
