"""The logs of the services: what they must not contain."""

import contextlib
import imaplib
import poplib
import re
import smtplib
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from imapclient.exceptions import IMAPClientError

from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import sasl_plain
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token

REFUSED = IMAPClientError, imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPException
"""What clients raise when a login is refused."""


def smtp_without_tls(server: Server, account: Account) -> None:
    """Try to log in on port 25, and on port 587 before STARTTLS."""
    for port in (25, 587):
        with server.smtp(port=port, tls=False) as client:
            client.docmd("AUTH", f"PLAIN {sasl_plain(account)}")
            client.docmd("AUTH", f"LOGIN {b64encode(account.address.encode()).decode()}")
            client.docmd(b64encode(account.password.encode()).decode())
            client.docmd("USER", account.address)
            client.docmd("PASS", account.password)


def web(server: Server, account: Account) -> None:
    """Log in to WebDAV, GitWeb and git, and without TLS on port 80."""
    with server.http(account) as client:
        for path in ("/webdav/", "/git/", "/git/missing.git/info/refs?service=git-upload-pack"):
            client.get(path)
    with server.http(account, port=80) as client:
        client.get("/webdav/")


def log_in_everywhere(server: Server, account: Account) -> None:
    """Log in over each protocol and by each mechanism, with TLS and (refused) without."""

    def imap() -> None:
        with server.imap(account):
            pass

    def imap_sasl() -> None:
        with server.plain_imap() as client:
            client.starttls(server.context())
            client.authenticate("PLAIN", lambda _: f"\0{account.address}\0{account.password}".encode())

    def imap_without_tls() -> None:
        with server.plain_imap() as client:
            client.login(account.address, account.password)

    def pop3() -> None:
        with server.pop3(account):
            pass

    def submission() -> None:
        with server.submission(account):
            pass

    def rules() -> None:
        with server.rules(account):
            pass

    def attempt(log_in: Callable[[], None]) -> None:
        with contextlib.suppress(*REFUSED):
            log_in()

    others = partial(smtp_without_tls, server, account), partial(web, server, account)
    with ThreadPoolExecutor() as pool:  # in parallel, because each refusal takes some seconds
        list(pool.map(attempt, (imap, imap_sasl, imap_without_tls, pop3, submission, rules, *others)))


def test_the_probes_write_nothing_to_the_logs(test_pod: PodUnderTest, server: Server) -> None:
    """Podman runs each probe 20 times a minute. A client that ends before it logs in is still logged."""
    begun = time.time()
    for service, probe in (("apache", "http"), ("mail", "mail"), ("dns", "dns-ready")):
        test_pod.exec(service, "healthcheck", probe)
    assert not re.search(r"health|secured, session|noop|curl|google", test_pod.logs(begun))
    with server.plain_imap() as client:
        client.logout()

    def logged() -> None:
        if not re.search(r"imap-login: Info: Login aborted: Logged out .* rip=[0-9]", test_pod.logs(begun)):
            raise NotYet("the line of a client is missing")

    wait_until(logged, 5, "the line of a client")


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_no_log_contains_a_password(
    server: Server, test_pod: PodUnderTest, new_account: Account, since: float, *, right: bool
) -> None:
    account = new_account if right else Account(new_account.address, token())
    log_in_everywhere(server, account)
    with server.imap(new_account):  # Dovecot's penalty for wrong passwords ends
        pass
    marker = f"/{token()}"
    with server.http() as client:
        client.get(marker)
    test_pod.wait_for_log("apache", marker, since)
    test_pod.wait_for_log("mail", f"user=<{new_account.address}>", since)
    logs = test_pod.logs(since)
    assert account.address in logs
    name, password = account.address, account.password
    for secret in (password, f"\0{name}\0{password}", f"{name}:{password}"):
        assert secret not in logs
        assert b64encode(secret.encode()).decode().rstrip("=") not in logs
