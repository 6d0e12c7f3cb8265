"""The tasks on a running pod: their effects, repeated runs, and refusals."""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from podserve import images
from podserve.commands import podman
from podserve.values import as_text
from podserve.waiting import NotYet, wait_until
from tests.testbed.git import Git, make
from tests.testbed.mail import STRANGER, arrived
from tests.testbed.pod import PodUnderTest, volumes_of
from tests.testbed.server import PATIENCE, Account, letter, token


def containers(test_pod: PodUnderTest) -> list[str]:
    """Return the id and the start time of each container of the pod."""
    names = test_pod.pod.containers.values()
    return podman("container", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *names).stdout.splitlines()


def test_a_second_up_changes_nothing_and_says_so(test_pod: PodUnderTest) -> None:
    before = containers(test_pod)
    again = test_pod.invoke("up")
    assert "nothing was changed" in again.stdout
    assert test_pod.postmaster.password not in again.stdout
    assert containers(test_pod) == before


def test_status_is_well_and_tells_every_endpoint(test_pod: PodUnderTest) -> None:
    seen = json.loads(test_pod.invoke("status", "--json").stdout)
    assert seen["ok"], seen["problems"]
    assert {answer["port"] for answer in seen["endpoints"]} == set(test_pod.pod.ports)
    assert 0 < seen["days_left"] < 398
    assert seen["queue"] >= 0


def test_status_exits_1_when_a_service_is_not_well(test_pod: PodUnderTest) -> None:
    podman("pause", test_pod.container("dns"))
    try:
        seen = test_pod.invoke("status", check=False)
    finally:
        podman("unpause", test_pod.container("dns"))
    assert seen.code == 1
    assert "dns-udp does not answer" in seen.stdout
    assert "is paused" in seen.stdout
    assert test_pod.invoke("status").ok


def test_a_pod_that_a_killed_backup_has_left_paused_is_started_by_up(test_pod: PodUnderTest) -> None:
    podman("pod", "pause", test_pod.name)
    try:
        seen = test_pod.invoke("status", check=False)
        assert seen.code == 1
        assert "is paused: invoke up" in seen.stdout
        test_pod.invoke("up")
    finally:
        podman("pod", "unpause", test_pod.name, check=False)
    assert test_pod.invoke("status").ok


def test_wrong_settings_are_refused_all_at_once_and_change_nothing(test_pod: PodUnderTest) -> None:
    before = containers(test_pod)
    refused = test_pod.invoke(
        "up", check=False, INVOKE_DOMAIN="not_a_name", INVOKE_FORWARDERS="8.8.8.8.8", INVOKE_COLOUR="red"
    )
    assert refused.code == 1
    assert "Traceback" not in refused.stderr
    for word in ("not_a_name", "8.8.8.8.8", "INVOKE_COLOUR"):
        assert word in refused.stderr
    assert containers(test_pod) == before


def test_a_port_in_use_is_refused_before_anything_is_made(test_pod: PodUnderTest) -> None:
    other = f"{test_pod.name}-other"
    refused = test_pod.invoke("up", check=False, INVOKE_POD=other)
    assert refused.code == 1
    assert "port 25/TCP is taken" in refused.stderr
    assert "port 53/UDP is taken" in refused.stderr
    assert not volumes_of(other)
    assert not podman("network", "exists", other, check=False).ok


@pytest.mark.parametrize(
    ("bind", "told"), [("127.0.0.251", "port 993/TCP is taken"), ("192.0.2.1", "not an address of")]
)
def test_an_address_that_cannot_be_served_on_is_refused_while_the_pod_serves_on(
    test_pod: PodUnderTest, bind: str, told: str
) -> None:
    before = containers(test_pod)
    with socket.create_server(("127.0.0.251", 993)):
        refused = test_pod.invoke("up", check=False, INVOKE_BIND=bind)
    assert refused.code == 1
    assert told in refused.stderr
    assert containers(test_pod) == before
    assert test_pod.invoke("status").ok


@contextmanager
def dns_that_does_not_start() -> Iterator[None]:
    """Replace the DNS image by one whose entrypoint fails. It inherits the label with the digest, so `up` keeps it."""
    image = "localhost/podserve-dns:latest"
    before = images.identifiers([image])[0]
    other = f'FROM {image}\nRUN ["ln", "-sf", "/bin/false", "/usr/local/bin/entrypoint"]\n'
    podman("build", "--pull=never", "--tag", image, "-", stdin=other)
    made = images.identifiers([image])[0]
    try:
        yield
    finally:
        podman("tag", before, image)
        podman("rmi", made)


@pytest.mark.alone
def test_an_up_that_fails_half_way_leaves_what_was_there_before(test_pod: PodUnderTest) -> None:
    with dns_that_does_not_start():
        failed = test_pod.invoke("up", check=False)
    assert failed.code == 1
    assert "Traceback" not in failed.stderr
    assert f"{test_pod.container('dns')} has exited" in failed.stderr
    assert "the pod that ran before is played again" in failed.stderr
    assert json.loads(test_pod.invoke("status", "--json").stdout)["ok"]
    assert "nothing was changed" in test_pod.invoke("up").stdout


def test_changed_settings_are_in_use_after_up(test_pod: PodUnderTest, alice: Account, tmp_path: Path) -> None:
    name, subject = token(), token()
    repository, git = make(test_pod, tmp_path / "work"), Git(test_pod.server, alice)
    git.commit(repository.work, "Large", {"large": os.urandom(200_000)})
    push = ("-C", str(repository.work), "push", git.url(repository.name), "main")
    changed = partial(test_pod.invoke, "up", INVOKE_MESSAGE_SIZE_LIMIT="1000000", INVOKE_PUSH_SIZE_LIMIT="100000")
    up = changed(INVOKE_DNSSEC="yes", INVOKE_POSTMASTER=name)
    made = re.search(rf"Log in as\s+({name}@\S+) with\s+the\s+password\s+(\S+)", up.stdout)
    assert made, up
    postmaster = Account(made[1], made[2])
    test_pod.wait_until_known(postmaster)
    try:
        with test_pod.server.smtp() as client:
            assert client.esmtp_features["size"] == "1000000"
            recipient = f"abuse@{test_pod.server.domain}"
            client.sendmail(STRANGER, recipient, letter(STRANGER, recipient, subject).as_bytes())
        assert arrived(test_pod.server, postmaster, subject)
        # The root zone of the test upstream is not signed with the key that BIND trusts.
        refused = dns.query.udp(dns.message.make_query("example.com", "A"), test_pod.server.host, timeout=PATIENCE)
        assert refused.rcode() == dns.rcode.SERVFAIL
        assert "pack exceeds maximum allowed size" in git.run(*push, check=False).stderr
    finally:
        test_pod.invoke("up")
    test_pod.invoke("users.remove", name)
    with test_pod.server.smtp() as client:
        assert client.esmtp_features["size"] == str(test_pod.settings.message_size_limit)
    assert git.run(*push).ok


def test_up_without_a_line_ends_well_and_names_the_forwarders(test_pod: PodUnderTest) -> None:
    with test_pod.upstreams[0].stopped(), test_pod.upstreams[1].stopped():
        up = test_pod.invoke("up")
    assert "Warning" in up.stdout
    assert as_text(test_pod.settings.forwarders) in " ".join(up.stdout.split())


def test_restart_returns_when_everything_answers(test_pod: PodUnderTest) -> None:
    before = containers(test_pod)
    test_pod.invoke("restart")
    assert test_pod.invoke("status").ok
    assert not set(before) & set(containers(test_pod))


def test_logs_are_shown_by_service(test_pod: PodUnderTest) -> None:
    assert "resuming normal operations" in "".join(test_pod.invoke("logs", "--service", "apache").stderr)
    everything = test_pod.invoke("logs")
    assert test_pod.container("dns") in everything.stdout + everything.stderr
    assert test_pod.invoke("logs", "--service", "ftp", check=False).code == 1


def test_twenty_accounts_added_at_once_are_all_there(test_pod: PodUnderTest) -> None:
    with ThreadPoolExecutor(20) as pool:
        added = list(pool.map(lambda _: test_pod.add_account(), range(20)))
    assert {account.address for account in added} <= set(test_pod.invoke("users.list").stdout.split())


@pytest.mark.alone
def test_an_account_works_everywhere_within_two_seconds(test_pod: PodUnderTest) -> None:
    account = test_pod.add_account()
    added = time.monotonic()

    def everywhere() -> None:
        with test_pod.server.imap(account), test_pod.server.pop3(account), test_pod.server.submission(account):
            pass
        with test_pod.server.http(account) as client:
            if client.get("/webdav/").status_code == 401:
                raise NotYet("WebDAV asks for a login")
        with test_pod.server.smtp() as client:
            client.mail("someone@example.com")
            code, text = client.rcpt(account.address)
            if code != 250:
                raise NotYet(text.decode())

    test_pod.wait_until_known(account)
    wait_until(everywhere, 2, "the new account to work everywhere")
    assert time.monotonic() - added < 2


@pytest.mark.parametrize("name", ["../x", "a b", "x@elsewhere.example", "a:b", "", "x+tag", "-x", "ä"])
def test_an_address_that_cannot_be_is_refused(test_pod: PodUnderTest, name: str) -> None:
    refused = test_pod.invoke("users.add", "--password-stdin", "--name", name, stdin="long enough\n", check=False)
    assert refused.code != 0
    assert "Traceback" not in refused.stderr


def test_a_password_is_never_shown_nor_kept_in_clear(test_pod: PodUnderTest) -> None:
    secret = token()
    added = test_pod.invoke("users.add", token(), "--password-stdin", stdin=f"{secret}\n")
    assert secret not in added.stdout + added.stderr
    assert secret not in (test_pod.folder("accounts") / "passwd").read_text()


def test_a_short_password_is_refused(test_pod: PodUnderTest, alice: Account) -> None:
    refused = test_pod.invoke("users.passwd", alice.address, "--password-stdin", stdin="short\n", check=False)
    assert refused.code == 1
    with test_pod.server.imap(alice) as client:
        assert client.noop()


def test_down_asks_before_it_removes_volumes(test_pod: PodUnderTest) -> None:
    refused = test_pod.invoke("down", "--volumes", check=False)
    assert refused.code == 1
    assert "--yes" in refused.stderr
    assert test_pod.invoke("status").ok
