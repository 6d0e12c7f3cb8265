"""The tasks on a running pod: their effects, repeated runs, and refusals."""

import json
import os
import poplib
import re
import smtplib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
from imapclient.exceptions import LoginError

from podserve import answering
from podserve.commands import podman
from podserve.endpoints import tls_ports
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.values import as_text
from podserve.waiting import NotYet, wait_until
from tests.testbed.checkout import copy_of_checkout
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


def test_status_tells_the_size_of_each_claim(test_pod: PodUnderTest) -> None:
    seen = json.loads(test_pod.invoke("status", "--json").stdout)
    sizes = {"certificates": 10 * 2**20, "web": 10 * 2**30, "mail": 5 * 2**30, "accounts": 10 * 2**20,
             "authority": 10 * 2**20, "dns": 100 * 2**20,
             "dkim": 10 * 2**20}  # fmt: skip
    claims = {content: volume.name for content, volume in test_pod.pod.volumes.items()}
    assert {use["name"]: use["size"] for use in seen["volumes"]} == {claims[what]: size for what, size in sizes.items()}


def test_the_certificate_and_the_repositories_are_shown_as_json(test_pod: PodUnderTest) -> None:
    seen = json.loads(test_pod.invoke("certs.show", "--json").stdout)
    assert test_pod.settings.domain in seen["names"]
    assert {port["port"] for port in seen["ports"]} == set(tls_ports(test_pod.pod))
    assert all(port["serves_it"] and not port["error"] for port in seen["ports"])
    name = token()
    test_pod.invoke("repos.add", name, "--public", "--description", "A description")
    listed = json.loads(test_pod.invoke("repos.list", "--json").stdout)["repositories"]
    assert {"name": name, "description": "A description", "public": True} in listed


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


def test_an_up_that_fails_half_way_leaves_what_was_there_before(test_pod: PodUnderTest, tmp_path: Path) -> None:
    with copy_of_checkout(tmp_path / "checkout") as checkout:
        # The image has an entrypoint that fails. It inherits the label with the digest, so `up` does not build it anew.
        image = checkout.image("dns")
        other = f'FROM {image}\nRUN ["ln", "-sf", "/bin/false", "/usr/local/bin/entrypoint"]\n'
        podman("build", "--pull=never", "--tag", image, "-", stdin=other)
        failed = checkout.invoke(test_pod.environment, "up", check=False)
    assert failed.code == 1
    assert "Traceback" not in failed.stderr
    assert f"{test_pod.container('dns')} has exited" in failed.stderr
    assert "the pod that ran before is played again" in failed.stderr
    assert json.loads(test_pod.invoke("status", "--json").stdout)["ok"]
    assert "nothing was changed" in test_pod.invoke("up").stdout


def test_an_endpoint_that_never_answers_is_told_with_the_last_lines_of_its_container(
    test_pod: PodUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "START_TIMEOUT", 0.5)
    test_pod.exec("mail", "s6-svc", "-wd", "-d", "/run/s6/postfix")
    try:
        with pytest.raises(Problem, match=r"submission: .*\nthe last lines of .*-mail:\n(?s:.*)postfix/") as silent:
            answering.wait_until_answering(test_pod.pod)
    finally:
        test_pod.exec("mail", "s6-svc", "-u", "/run/s6/postfix")
    assert str(silent.value).count("the last lines of") == 1
    answering.wait_until_answering(test_pod.pod)


def test_changed_settings_are_in_use_after_up(test_pod: PodUnderTest, alice: Account, tmp_path: Path) -> None:
    name, subject = token(), token()
    repository, git = make(test_pod, tmp_path / "work"), Git(test_pod.server, alice)
    git.commit(repository.work, "Large", {"large": os.urandom(200_000)})
    push = ("-C", str(repository.work), "push", git.url(repository.name), "main")
    changed = partial(test_pod.invoke, "up", INVOKE_MESSAGE_SIZE_LIMIT="1000000", INVOKE_PUSH_SIZE_LIMIT="100000")
    up = changed(INVOKE_DNSSEC="yes", INVOKE_POSTMASTER=name, INVOKE_IMAP_SESSIONS="1")
    made = re.search(rf"Log in as\s+({name}@\S+) with\s+the\s+password\s+(\S+)", up.stdout)
    assert made, up
    postmaster = Account(made[1], made[2])
    assert re.fullmatch(r"[A-Za-z0-9]{20,}", postmaster.password)
    assert len(set(postmaster.password)) > 8
    assert postmaster.password != test_pod.postmaster.password
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
        with test_pod.server.imap(alice), pytest.raises(LoginError), test_pod.server.imap(alice):
            pass
    finally:
        test_pod.invoke("up")
    test_pod.invoke("users.remove", name)
    with test_pod.server.smtp() as client:
        assert client.esmtp_features["size"] == str(test_pod.settings.message_size_limit)
    assert git.run(*push).ok


OTHER, IN_UNICODE = "xn--mller-kva.example.com", "müller.example.com"
"""A domain outside ASCII: its A-label and its U-label."""


def refuse_logins(test_pod: PodUnderTest, account: Account) -> None:
    """Check that a login of an account is refused on each port that takes one."""
    server = test_pod.server
    refused: list[tuple[type[Exception], AbstractContextManager[object]]] = [
        (LoginError, server.imap(account)),
        (LoginError, server.imap(account, implicit_tls=False)),
        (poplib.error_proto, server.pop3(account)),
        (smtplib.SMTPAuthenticationError, server.submission(account)),
    ]

    def refuse(error: type[Exception], client: AbstractContextManager[object]) -> None:
        with pytest.raises(error, match=r"AUTH|auth"), client:
            pass

    with ThreadPoolExecutor() as pool:  # Dovecot answers a wrong login after two seconds
        list(pool.map(refuse, *zip(*refused, strict=True)))
    with server.http(account) as client:
        for path in ("/webdav/", "/webdav/site/", "/git/", "/git/private.git/info/refs?service=git-upload-pack"):
            assert client.get(path).status_code == 401, path
        assert client.put(f"/webdav/{token()}", content="x").status_code == 401
        assert client.get(f"/webdav/home/{account.local_part}/").status_code in {401, 403}


def take_mail_in_both_forms(test_pod: PodUnderTest, account: Account) -> None:
    """Check that the account and its alias get mail to both forms of the domain, and that no form opens a relay."""
    server, subjects = test_pod.server, [token() for _ in range(7)]
    name, postmaster = account.local_part, test_pod.settings.postmaster_address
    recipients = [f"{name}@{OTHER}", f"{name}@{IN_UNICODE}", f"{name}+tag@{IN_UNICODE}", f"{name}@MÜLLER.example.com",
                  f"info@{OTHER}", f"info@{IN_UNICODE}"]  # fmt: skip
    options = ["SMTPUTF8"]
    with server.smtp() as client:
        for recipient, subject in zip(recipients, subjects, strict=False):
            assert not client.sendmail(STRANGER, [recipient], f"Subject: {subject}\r\n\r\nHi.\r\n", options)
        for recipient in (f"{token()}@{IN_UNICODE}", f"é{name}@{IN_UNICODE}", f"{name}@lists.{IN_UNICODE}"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail(STRANGER, [recipient], "Subject: no\r\n\r\n", options)
        for sender in (f"x@{OTHER}", f"x@{IN_UNICODE}"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail(sender, [account.address], "Subject: no\r\n\r\n", options)
        assert not client.sendmail(STRANGER, [f"abuse@{IN_UNICODE}"], "Subject: hello\r\n\r\n", options)
    with server.submission(account) as client:
        client.sendmail(f"{name}@{IN_UNICODE}", recipients[:1], f"Subject: {subjects[6]}\r\n\r\nHi.\r\n", options)
        with pytest.raises(smtplib.SMTPException, match="not owned"):
            client.sendmail(postmaster.replace(OTHER, IN_UNICODE), recipients[:1], "Subject: no\r\n\r\n", options)
    for subject in subjects:
        arrived(server, account, subject)


def test_accounts_of_another_domain_cannot_log_in_but_are_named_and_work_again_when_the_domain_is_back(
    test_pod: PodUnderTest,
) -> None:
    account, gone = test_pod.new_account(), test_pod.new_account()
    other = partial(test_pod.invoke, INVOKE_DOMAIN=IN_UNICODE)
    refused = other("up", check=False)
    assert (refused.code, "mail to these accounts and aliases would be refused" in refused.stderr) == (1, True)
    other("down")
    try:
        warned = " ".join(other("up").stdout.split())
        assert f"cannot log in, because this pod serves {OTHER}" in warned
        elsewhere = replace(test_pod, pod=Pod.of(replace(test_pod.settings, domain=OTHER)))
        assert f"{OTHER} ({IN_UNICODE})" in warned
        refuse_logins(elsewhere, account)
        anna = Account(f"anna@{OTHER}", token())
        other("users.add", f"anna@{IN_UNICODE}", "--password-stdin", stdin=f"{anna.password}\n")
        elsewhere.wait_until_known(anna)
        other("aliases.add", f"info@{IN_UNICODE}", f"anna@{IN_UNICODE}")
        take_mail_in_both_forms(elsewhere, anna)
        seen = json.loads(other("status", "--json").stdout)
        assert seen["ok"]
        assert {account.address, gone.address} <= set(seen["other_accounts"])
        listed = other("users.list").stdout.splitlines()
        assert f"{account.address} cannot log in: this pod serves {OTHER}" in listed
        assert f"postmaster@{OTHER}" in listed

        changed = replace(account, password=token())
        other("users.passwd", account.address, "--password-stdin", stdin=f"{changed.password}\n")
        with pytest.raises(LoginError), elsewhere.server.imap(changed):
            pass
        other("users.remove", gone.address)
        other("aliases.remove", f"info@{IN_UNICODE}")
        other("users.remove", f"anna@{IN_UNICODE}")
    finally:
        test_pod.invoke("users.remove", f"postmaster@{OTHER}")
        test_pod.invoke("up")
    test_pod.wait_until_known(changed)
    with test_pod.server.imap(changed), test_pod.server.pop3(changed), test_pod.server.submission(changed):
        pass
    with test_pod.server.http(changed) as client:
        assert client.get("/webdav/").status_code == 200
    assert gone.address not in test_pod.invoke("users.list").stdout


def test_up_without_a_line_ends_well_and_names_the_forwarders(test_pod: PodUnderTest) -> None:
    with test_pod.upstreams[0].stopped(), test_pod.upstreams[1].stopped():
        up = test_pod.invoke("up")
    assert "Warning" in up.stdout
    assert as_text(test_pod.settings.forwarders) in " ".join(up.stdout.split())


def test_restart_returns_when_everything_answers(test_pod: PodUnderTest) -> None:
    before = containers(test_pod)
    test_pod.invoke("restart")
    for port in test_pod.pod.ports:
        test_pod.exchange(port)
    assert test_pod.invoke("status").ok
    assert not set(before) & set(containers(test_pod))


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


def test_a_disabled_account_gets_mail_and_cannot_log_in_until_it_is_enabled(
    test_pod: PodUnderTest, new_account: Account
) -> None:
    def logs_in(*, expected: bool) -> None:
        try:
            with test_pod.server.imap(new_account):
                found = True
        except LoginError:
            found = False
        if found != expected:
            raise NotYet(f"logs in: {found}")

    subject = token()
    test_pod.invoke("users.disable", new_account.address)
    wait_until(partial(logs_in, expected=False), 2, f"{new_account.address} to be disabled")
    refuse_logins(test_pod, new_account)
    with test_pod.server.smtp() as client:
        client.sendmail(STRANGER, new_account.address, letter(STRANGER, new_account.address, subject).as_bytes())
    test_pod.invoke("users.enable", new_account.address)
    wait_until(partial(logs_in, expected=True), 2, f"{new_account.address} to be enabled")
    assert arrived(test_pod.server, new_account, subject)
    with test_pod.server.pop3(new_account), test_pod.server.submission(new_account):
        pass
    with test_pod.server.http(new_account) as web:
        assert web.get("/webdav/").status_code == 200


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


def test_an_account_that_exists_is_not_added_again(test_pod: PodUnderTest, alice: Account) -> None:
    other = replace(alice, password=token())
    refused = test_pod.invoke("users.add", alice.address, "--password-stdin", stdin=f"{other.password}\n", check=False)
    assert refused.code == 1
    assert f"users.passwd {alice.address}" in refused.stderr
    with pytest.raises(LoginError), test_pod.server.imap(other):
        pass
    with test_pod.server.imap(alice):
        pass


def test_the_postmaster_is_not_removed_and_gets_the_mail_to_abuse(test_pod: PodUnderTest) -> None:
    refused = test_pod.invoke("users.remove", test_pod.postmaster.address, check=False)
    assert refused.code == 1
    assert "postmaster" in refused.stderr
    subject, recipient = token(), f"abuse@{test_pod.server.domain}"
    with test_pod.server.smtp() as client:
        client.sendmail(STRANGER, recipient, letter(STRANGER, recipient, subject).as_bytes())
    assert arrived(test_pod.server, test_pod.postmaster, subject)


def test_down_asks_before_it_removes_volumes(test_pod: PodUnderTest) -> None:
    refused = test_pod.invoke("down", "--volumes", check=False)
    assert refused.code == 1
    assert "--yes" in refused.stderr
    assert test_pod.invoke("status").ok
