"""WebDAV at /webdav/: files for those who log in."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote
from xml.etree import ElementTree as ET

import httpx
import pytest
from imapclient.exceptions import LoginError

from podserve.waiting import NotYet, wait_until
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import Account, Server, token
from tests.acceptance.test_http import ask_as_written

PROMPT = 2.0
"""Seconds after which a changed account is in use everywhere."""
LOCK = """<?xml version="1.0" encoding="utf-8"?>
<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"""


@contextmanager
def folder(server: Server, account: Account) -> Iterator[httpx.Client]:
    """Yield a client whose paths begin in a new folder of the account's, removed afterwards."""
    with server.http(account) as client:
        client.base_url = client.base_url.join(f"/webdav/{token()}/")
        assert client.request("MKCOL", "").status_code == 201
        yield client
        assert client.delete("").status_code == 204


def listed(client: httpx.Client, path: str = "") -> set[str]:
    """Return the addresses, as they are written, of what PROPFIND finds in a folder."""
    answer = client.request("PROPFIND", path, headers={"Depth": "1"})
    assert answer.status_code == 207, answer.text
    # The server under test is trusted with XML here.
    return {href.text or "" for href in ET.fromstring(answer.content).iter("{DAV:}href")}  # noqa: S314


def test_webdav_is_offered(server: Server, alice: Account) -> None:
    with server.http(alice) as client:
        answer = client.options("/webdav/")
    assert answer.status_code == 200
    assert "1,2" in answer.headers.get_list("DAV")
    assert {"PROPFIND", "LOCK", "MOVE"} <= set(answer.headers["Allow"].split(","))


def test_a_file_is_stored_listed_replaced_and_removed(server: Server, alice: Account) -> None:
    content = secrets.token_bytes(300_000)
    with folder(server, alice) as client:
        assert client.put("file.bin", content=b"before").status_code == 201
        assert client.put("file.bin", content=content).status_code == 204
        assert client.get("file.bin").content == content
        assert f"{client.base_url.path}file.bin" in listed(client)
        assert client.delete("file.bin").status_code == 204
        assert client.get("file.bin").status_code == 404
        assert listed(client) == {client.base_url.path}


@pytest.mark.parametrize("name", ["with space", "gr\u00fc\u00dfe", "\u6587\u4ef6", "a&b=c+d", "100%", "quote'\"s"])
def test_a_file_may_have_any_name(server: Server, alice: Account, name: str) -> None:
    with folder(server, alice) as client:
        assert client.put(quote(name), content=name.encode()).status_code == 201
        assert client.get(quote(name)).content == name.encode()
        assert len(listed(client)) == 2


def test_folders_and_files_are_made_copied_and_moved(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        here = f"https://{server.domain}{client.base_url.path}"
        assert client.request("MKCOL", "sub/").status_code == 201
        assert client.put("one", content=b"1").status_code == 201
        assert client.request("COPY", "one", headers={"Destination": f"{here}sub/two"}).status_code == 201
        assert client.request("MOVE", "one", headers={"Destination": f"{here}sub/three"}).status_code == 201
        assert client.get("one").status_code == 404
        assert [client.get(f"sub/{name}").content for name in ("two", "three")] == [b"1", b"1"]
        assert client.request("COPY", "sub/", headers={"Destination": f"{here}twin/"}).status_code == 201
        assert client.get("twin/two").content == b"1"


def test_a_folder_is_made_only_once_and_only_in_one_that_is_there(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        assert client.request("MKCOL", "").status_code == 405
        assert client.request("MKCOL", "missing/sub/").status_code == 409
        assert client.put("missing/file", content=b"x").status_code in {403, 409}


def test_a_move_does_not_overwrite_when_told_not_to(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("one", content=b"1")
        client.put("two", content=b"2")
        destination = f"https://{server.domain}{client.base_url.path}two"
        moved = client.request("MOVE", "one", headers={"Destination": destination, "Overwrite": "F"})
        assert moved.status_code == 412
        assert client.get("two").content == b"2"


def test_a_locked_file_is_changed_only_by_who_locked_it(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"before")
        locked = client.request("LOCK", "file", content=LOCK, headers={"Timeout": "Second-60"})
        assert locked.status_code == 200, locked.text
        key = locked.headers["Lock-Token"]
        assert client.put("file", content=b"other").status_code == 423
        assert client.put("file", content=b"after", headers={"If": f"({key})"}).status_code == 204
        assert client.request("UNLOCK", "file", headers={"Lock-Token": key}).status_code == 204
        assert client.put("file", content=b"free").status_code == 204


def test_a_download_is_resumed(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"0123456789")
        rest = client.get("file", headers={"Range": "bytes=4-"})
    assert (rest.status_code, rest.content) == (206, b"456789")


def test_a_folder_is_not_listed_as_a_page(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        page = client.get("")
    assert page.status_code == 404
    assert "file" not in page.text


def test_a_file_is_what_was_uploaded_and_nothing_runs_it(server: Server, alice: Account) -> None:
    page = b'URI: page\n<!--#echo var="DOMAIN" --><?php echo 1; ?>'
    with folder(server, alice) as client:
        for name in ("page.shtml", "page.php", "page.cgi", "page.fcgi", "page.var"):
            client.put(name, content=page)
            assert client.get(name).content == page
        client.put(".htaccess", content=b"Require all granted\nSatisfy any\n")
        with server.http() as anonymous:
            assert anonymous.get(f"{client.base_url.path}page.php").status_code == 401


@pytest.mark.parametrize("method", ["GET", "PUT", "PROPFIND", "OPTIONS", "DELETE", "MKCOL", "LOCK", "COPY", "HEAD"])
def test_nothing_is_done_without_a_login(server: Server, method: str) -> None:
    with server.http() as client:
        answer = client.request(method, f"/webdav/{token()}")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="PodServe"'


def test_a_wrong_password_is_refused(server: Server, alice: Account) -> None:
    for wrong in (f"{alice.password}x", alice.password[:-1], "", alice.password.swapcase()):
        with server.http(Account(alice.address, wrong)) as client:
            assert client.request("PROPFIND", "/webdav/", headers={"Depth": "0"}).status_code == 401


def test_an_unknown_user_is_refused(server: Server, alice: Account) -> None:
    for unknown in (f"{token()}@{server.domain}", alice.local_part, f"{alice.local_part}@other.example"):
        with server.http(Account(unknown, alice.password)) as client:
            assert client.request("PROPFIND", "/webdav/", headers={"Depth": "0"}).status_code == 401


def test_no_password_is_asked_for_over_plain_http(server: Server, alice: Account) -> None:
    for account in (None, alice):
        with server.http(account, port=80) as client:
            answer = client.request("PROPFIND", "/webdav/")
        assert answer.status_code == 301
        assert answer.headers["Location"] == f"https://{server.domain}/webdav/"
        assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/webdav/../../../etc/passwd", "/webdav/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/webdav/..%2f..%2f..%2fetc/passwd"],
)
def test_no_path_leads_out_of_the_folder(server: Server, alice: Account, path: str) -> None:
    answer = ask_as_written(server, path, alice)
    assert 400 <= answer.status < 500
    assert b"root:" not in answer.read()


def test_a_file_is_not_moved_out_of_the_folder(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        destination = f"https://{server.domain}/{token()}"
        assert client.request("MOVE", "file", headers={"Destination": destination}).status_code == 405
        assert client.get("file").content == b"x"


def test_the_upload_belongs_to_the_web_server_on_the_volume(own: OwnPod, alice: Account) -> None:
    with folder(own.server, alice) as client:
        client.put("file", content=b"x")
        there = own.folder("web") / "dav" / client.base_url.path.removeprefix("/webdav/") / "file"
        assert there.read_bytes() == b"x"
        assert there.stat().st_uid == 33


def _web(server: Server, account: Account) -> bool:
    with server.http(account) as client:
        return client.request("PROPFIND", "/webdav/", headers={"Depth": "0"}).status_code == 207


def _mail(server: Server, account: Account) -> bool:
    try:
        with server.imap(account):
            return True
    except LoginError:
        return False


LOGINS = pytest.mark.parametrize("logs_in", [_web, _mail], ids=["web", "mail"])
Login = Callable[[Server, Account], bool]


def _wait_for_refusal(logs_in: Login, server: Server, account: Account) -> None:
    def check() -> None:
        if logs_in(server, account):
            raise NotYet("the login is accepted")

    wait_until(check, PROMPT, f"{account.address} to be refused")


@LOGINS
def test_a_removed_account_is_refused_within_two_seconds(own: OwnPod, new_account: Account, logs_in: Login) -> None:
    assert logs_in(own.server, new_account)
    own.invoke("users.remove", new_account.address)
    _wait_for_refusal(logs_in, own.server, new_account)


@LOGINS
def test_a_changed_password_is_in_use_within_two_seconds(own: OwnPod, new_account: Account, logs_in: Login) -> None:
    changed = Account(new_account.address, secrets.token_urlsafe(12))
    assert logs_in(own.server, new_account)
    own.invoke("users.passwd", new_account.address, "--password-stdin", stdin=f"{changed.password}\n")
    _wait_for_refusal(logs_in, own.server, new_account)
    assert logs_in(own.server, changed)


def test_a_new_account_is_accepted_at_once_after_it_was_refused(own: OwnPod) -> None:
    account = Account(f"{token()}@{own.server.domain}", secrets.token_urlsafe(12))
    assert not _web(own.server, account)
    own.invoke("users.add", account.address, "--password-stdin", stdin=f"{account.password}\n")
    assert _web(own.server, account)


def test_logins_and_refusals_are_logged_with_the_name(own: OwnPod, alice: Account, since: float) -> None:
    path = f"/webdav/{token()}"
    with own.server.http(alice) as client:
        client.get(path)
    assert f" {alice.address} " in own.wait_for_log("apache", f'"GET {path} HTTP/1.1" 404', since)
    with own.server.http(Account(alice.address, "wrong")) as client:
        client.get(path)
    assert own.wait_for_log("apache", f'"GET {path} HTTP/1.1" 401', since)
