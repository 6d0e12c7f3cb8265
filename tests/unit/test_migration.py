"""From where mail is copied: which servers, users and passwords are refused before anybody connects."""

from pathlib import Path

import pytest

from podserve import migration
from podserve.errors import Problem
from podserve.migration import Origin, mail_origin
from tests.unit.helpers import pod_with

PEM = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("imaps://imap.example.org", "imap.example.org", 993),
        ("imaps://IMAP.example.org:9993/", "imap.example.org", 9993),
        ("imaps://müller.de", "xn--mller-kva.de", 993),
    ],
)
def test_a_server_is_named_by_its_address(address: str, host: str, port: int) -> None:
    assert mail_origin(address, "alice") == Origin(host, port, "alice")


@pytest.mark.parametrize(
    "address",
    ["", "imap.example.org", "imap://imap.example.org", "imaps://", "imaps://192.0.2.1", "imaps://[2001:db8::1]",
     "imaps://a.example:0x1", "imaps://a.example:70000", "imaps://alice:secret@a.example", "imaps://a.example/INBOX",
     "imaps://a.example?x", "imaps://a b.example"],
)  # fmt: skip
def test_another_form_is_refused(address: str) -> None:
    with pytest.raises(Problem, match="is no mail server to copy from: expected imaps://HOST"):
        mail_origin(address, "alice")


@pytest.mark.parametrize("user", ["", "a\nb", "a\tb"])
def test_a_login_without_a_user_is_refused(user: str) -> None:
    with pytest.raises(Problem, match="--user is missing"):
        mail_origin("imaps://a.example", user)


def test_the_roots_of_a_private_authority_are_read_and_others_refused(tmp_path: Path) -> None:
    file = tmp_path / "roots.pem"
    file.write_text(PEM)
    assert mail_origin("imaps://a.example", "alice", str(file)).authority == PEM
    file.write_text("nothing")
    for name in (file, tmp_path / "nowhere"):
        with pytest.raises(Problem, match="expected a PEM file of root certificates"):
            mail_origin("imaps://a.example", "alice", str(name))


@pytest.mark.parametrize("password", ["", "a\nb"])
def test_a_password_of_another_form_is_refused(password: str) -> None:
    with pytest.raises(Problem, match="there is no password"):
        next(migration.copy_mail(pod_with(), "alice@example.org", Origin("a.example", 993, "alice"), password))
