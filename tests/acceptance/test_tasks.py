"""The tasks on a real pod: what they do, do again, and refuse."""

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

from podserve import images, volumes
from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.acceptance.git import Git, make
from tests.acceptance.mail import STRANGER, arrived
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import PATIENCE, Account, letter, token


def containers(own: OwnPod) -> list[str]:
    """Return the ids of the pod's containers and when each was started."""
    names = own.manifests.containers.values()
    return podman("container", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *names).stdout.splitlines()


def test_the_first_up_shows_the_services_and_the_password_once(own: OwnPod) -> None:
    assert own.first_up.stdout.count("answers") == 9
    assert own.postmaster.address in own.first_up.stdout
    assert own.postmaster.password not in own.invoke("up").stdout


def test_a_second_up_changes_nothing_and_says_so(own: OwnPod) -> None:
    before = containers(own)
    again = own.invoke("up")
    assert "nothing was changed" in again.stdout
    assert containers(own) == before


def test_status_is_well_and_tells_every_endpoint(own: OwnPod) -> None:
    seen = json.loads(own.invoke("status", "--json").stdout)
    assert seen["ok"], seen["problems"]
    assert {answer["port"] for answer in seen["endpoints"]} == set(own.manifests.ports)
    assert 0 < seen["days_left"] < 398
    assert seen["queue"] >= 0


def test_status_exits_1_when_a_service_is_not_well(own: OwnPod) -> None:
    podman("pause", own.container("dns"))
    try:
        seen = own.invoke("status", check=False)
    finally:
        podman("unpause", own.container("dns"))
    assert seen.code == 1
    assert "dns-udp does not answer" in seen.stdout
    assert "is paused" in seen.stdout
    assert own.invoke("status").ok


def test_a_pod_that_a_killed_backup_has_left_paused_is_started_by_up(own: OwnPod) -> None:
    podman("pod", "pause", own.name)
    try:
        seen = own.invoke("status", check=False)
        assert seen.code == 1
        assert "is paused: invoke up" in seen.stdout
        own.invoke("up")
    finally:
        podman("pod", "unpause", own.name, check=False)
    assert own.invoke("status").ok


def test_wrong_settings_are_refused_all_at_once_and_change_nothing(own: OwnPod) -> None:
    before = containers(own)
    refused = own.invoke(
        "up", check=False, INVOKE_DOMAIN="not_a_name", INVOKE_FORWARDERS="8.8.8.8.8", INVOKE_COLOUR="red"
    )
    assert refused.code == 1
    assert "Traceback" not in refused.stderr
    for word in ("not_a_name", "8.8.8.8.8", "INVOKE_COLOUR"):
        assert word in refused.stderr
    assert containers(own) == before


def test_a_port_in_use_is_refused_before_anything_is_made(own: OwnPod) -> None:
    other = f"{own.name}-other"
    refused = own.invoke("up", check=False, INVOKE_POD=other)
    assert refused.code == 1
    assert "port 25/TCP is taken" in refused.stderr
    assert "port 53/UDP is taken" in refused.stderr
    assert not {name for name in volumes.existing() if name.startswith(other)}
    assert not podman("network", "exists", other, check=False).ok


@pytest.mark.parametrize(("bind", "told"), [("127.0.0.251", "port 993/TCP is taken"), ("192.0.2.1", "no address of")])
def test_an_address_that_cannot_be_served_on_is_refused_while_the_pod_serves_on(
    own: OwnPod, bind: str, told: str
) -> None:
    before = containers(own)
    with socket.create_server(("127.0.0.251", 993)):
        refused = own.invoke("up", check=False, INVOKE_BIND=bind)
    assert refused.code == 1
    assert told in refused.stderr
    assert containers(own) == before
    assert own.invoke("status").ok


@contextmanager
def dns_that_does_not_start() -> Iterator[None]:
    """Have the DNS service's image, as current as the one before, be one whose daemon ends at once."""
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
def test_an_up_that_fails_half_way_leaves_what_was_there_before(own: OwnPod) -> None:
    with dns_that_does_not_start():
        failed = own.invoke("up", check=False)
    assert failed.code == 1
    assert "Traceback" not in failed.stderr
    assert f"{own.container('dns')} has exited" in failed.stderr
    assert "the pod that ran before is played again" in failed.stdout
    assert json.loads(own.invoke("status", "--json").stdout)["ok"]
    assert "nothing was changed" in own.invoke("up").stdout


def test_changed_settings_are_in_use_after_up(own: OwnPod, alice: Account, tmp_path: Path) -> None:
    name, subject = token(), token()
    repository, git = make(own, tmp_path / "work"), Git(own.server, alice)
    git.commit(repository.work, "Large", {"large": os.urandom(200_000)})
    push = ("-C", str(repository.work), "push", git.url(repository.name), "main")
    changed = partial(own.invoke, "up", INVOKE_MESSAGE_SIZE_LIMIT="1000000", INVOKE_PUSH_SIZE_LIMIT="100000")
    up = changed(INVOKE_DNSSEC="yes", INVOKE_POSTMASTER=name)
    made = re.search(rf"Log in as\s+({name}@\S+) with\s+the\s+password\s+(\S+)", up.stdout)
    assert made, up
    postmaster = Account(made[1], made[2])
    own.wait_until_known(postmaster)
    try:
        with own.server.smtp() as client:
            assert client.esmtp_features["size"] == "1000000"
            recipient = f"abuse@{own.server.domain}"
            client.sendmail(STRANGER, recipient, letter(STRANGER, recipient, subject).as_bytes())
        assert arrived(own.server, postmaster, subject)
        # The test upstream's root is not the one that is signed by the key that BIND knows.
        refused = dns.query.udp(dns.message.make_query("example.com", "A"), own.server.host, timeout=PATIENCE)
        assert refused.rcode() == dns.rcode.SERVFAIL
        assert "pack exceeds maximum allowed size" in git.run(*push, check=False).stderr
    finally:
        own.invoke("up")
    own.invoke("users.remove", name)
    with own.server.smtp() as client:
        assert client.esmtp_features["size"] == own.manifests.settings.message_size_limit
    assert git.run(*push).ok


def test_up_without_a_line_ends_well_and_names_the_forwarders(own: OwnPod) -> None:
    with own.upstreams[0].stopped(), own.upstreams[1].stopped():
        up = own.invoke("up")
    assert "Warning" in up.stdout
    assert own.manifests.settings.forwarders in " ".join(up.stdout.split())


def test_restart_returns_when_everything_answers(own: OwnPod) -> None:
    before = containers(own)
    own.invoke("restart")
    assert own.invoke("status").ok
    assert not set(before) & set(containers(own))


def test_logs_are_shown_by_service(own: OwnPod) -> None:
    assert "resuming normal operations" in "".join(own.invoke("logs", "--service", "apache").stderr)
    everything = own.invoke("logs")
    assert own.container("dns") in everything.stdout + everything.stderr
    assert own.invoke("logs", "--service", "ftp", check=False).code == 1


def test_twenty_accounts_added_at_once_are_all_there(own: OwnPod) -> None:
    with ThreadPoolExecutor(20) as pool:
        added = list(pool.map(lambda _: own.new_account(), range(20)))
    assert {account.address for account in added} <= set(own.invoke("users.list").stdout.split())


def test_an_account_works_everywhere_within_two_seconds(own: OwnPod) -> None:
    account = own.add_account()
    added = time.monotonic()

    def everywhere() -> None:
        with own.server.imap(account), own.server.pop3(account), own.server.submission(account):
            pass
        with own.server.http(account) as client:
            if client.get("/webdav/").status_code == 401:
                raise NotYet("WebDAV asks for a login")
        with own.server.smtp() as client:
            client.mail("someone@example.com")
            code, text = client.rcpt(account.address)
            if code != 250:
                raise NotYet(text.decode())

    own.wait_until_known(account)
    wait_until(everywhere, 2, "the new account to work everywhere")
    assert time.monotonic() - added < 2


@pytest.mark.parametrize("name", ["../x", "a b", "x@elsewhere.example", "a:b", "", "x+tag", "-x", "ä"])
def test_an_address_that_cannot_be_is_refused(own: OwnPod, name: str) -> None:
    refused = own.invoke("users.add", "--password-stdin", "--name", name, stdin="long enough\n", check=False)
    assert refused.code != 0
    assert "Traceback" not in refused.stderr


def test_a_password_is_never_shown_nor_kept_in_clear(own: OwnPod) -> None:
    secret = token()
    added = own.invoke("users.add", token(), "--password-stdin", stdin=f"{secret}\n")
    assert secret not in added.stdout + added.stderr
    assert secret not in (own.folder("accounts") / "passwd").read_text()


def test_a_short_password_is_refused(own: OwnPod, alice: Account) -> None:
    refused = own.invoke("users.passwd", alice.address, "--password-stdin", stdin="short\n", check=False)
    assert refused.code == 1
    with own.server.imap(alice) as client:
        assert client.noop()


def test_down_asks_before_it_removes_volumes(own: OwnPod) -> None:
    refused = own.invoke("down", "--volumes", check=False)
    assert refused.code == 1
    assert "--yes" in refused.stderr
    assert own.invoke("status").ok
