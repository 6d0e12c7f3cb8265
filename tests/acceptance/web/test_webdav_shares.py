"""Access to WebDAV folders: all accounts share /webdav/ and /webdav/site/; /webdav/home/NAME/ is private to NAME."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.acceptance.web.test_http import ask_as_written
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.webdav import EXCLUSIVE, WWW_DATA, address, folder, listed, visitor

ALL_METHODS = ("GET", "HEAD", "PUT", "DELETE", "PROPFIND", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK", "COPY", "MOVE")
CHANGES = ("PUT", "DELETE", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK", "COPY", "MOVE", "POST")


def _home(account: Account) -> str:
    return f"/webdav/home/{account.local_part}/"


def test_what_one_shares_another_reads_and_changes(test_pod: PodUnderTest, alice: Account, bob: Account) -> None:
    with folder(test_pod.server, alice) as client, visitor(test_pod.server, bob, client) as other:
        client.put("file", content=b"hers")
        assert other.get("file").content == b"hers"
        assert other.put("file", content=b"his").status_code == 204
        assert client.get("file").content == b"his"


def test_a_home_appears_with_the_account(test_pod: PodUnderTest) -> None:
    account = test_pod.new_account()
    with test_pod.server.http(account) as client:
        assert listed(client, _home(account)) == {_home(account)}
        assert client.put(f"{_home(account)}file", content=b"mine").status_code == 201
        assert client.get(f"{_home(account)}file").content == b"mine"


def test_there_is_no_home_without_an_account(test_pod: PodUnderTest, alice: Account) -> None:
    with test_pod.server.http(alice) as client:
        assert client.request("MKCOL", f"/webdav/home/{token()}/").status_code == 403


@pytest.mark.parametrize("method", ALL_METHODS)
def test_a_home_is_closed_to_everybody_else(test_pod: PodUnderTest, alice: Account, bob: Account, method: str) -> None:
    with folder(test_pod.server, alice, _home(alice)) as client:
        client.put("file", content=b"hers")
        headers = {"Destination": f"https://{test_pod.server.domain}/webdav/{token()}", "Depth": "0"}
        with visitor(test_pod.server, bob, client) as other, test_pod.server.http() as anonymous:
            for path in ("file", "new", "", "../", "../../"):
                answer = other.request(method, path, content=EXCLUSIVE, headers=headers)
                assert answer.status_code == 403, path
                assert "hers" not in answer.text
            assert anonymous.request(method, f"{client.base_url.path}file").status_code == 401
        assert client.get("file").content == b"hers"


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_nothing_is_put_into_anothers_home_by_way_of_a_destination(
    test_pod: PodUnderTest, alice: Account, bob: Account, method: str
) -> None:
    with folder(test_pod.server, alice, _home(alice)) as client, folder(test_pod.server, bob) as other:
        other.put("file", content=b"his")
        path = client.base_url.path
        for written in (path, path.replace("/home/", "/home//"), path.replace("home", "%68ome"),
                        path.replace("/home/", f"/home/{bob.local_part}/../")):  # fmt: skip
            destination = {"Destination": f"https://{test_pod.server.domain}{written}file"}
            assert other.request(method, "file", headers=destination).status_code == 403, written
        assert listed(client) == {path}
        assert other.get("file").content == b"his"
        mine = {"Destination": f"https://{test_pod.server.domain}{_home(bob)}{token()}"}
        assert other.request(method, "file", headers=mine).status_code == 201


@pytest.mark.parametrize("spelling", [
    "/webdav/home/{name}/", "/webdav/home/%{code}{rest}/", "/webdav/home//{name}/", "//webdav/home/{name}/",
    "/webdav/home/./{name}/", "/webdav/home/{other}/../{name}/", "/webdav/home/{other}/%2e%2e/{name}/",
    "/webdav/home/{other}/..%2f{name}/", "/webdav/x/../home/{name}/", "/webdav/%68ome/{name}/",
    "/%77ebdav/home/{name}/",
    "/webdav/site/../home/{name}/", "/webdav/../webdav/home/{name}/", "/webdav/home/{name};x/", "/webdav/home/{upper}/",
    "/WEBDAV/home/{name}/", "/webdav/HOME/{name}/", "/webdav/home\\{name}\\", "/webdav/home/{name}%00/",
])  # fmt: skip
def test_no_spelling_of_the_address_opens_anothers_home(
    test_pod: PodUnderTest, alice: Account, bob: Account, spelling: str
) -> None:
    secret, name = token(), alice.local_part
    with folder(test_pod.server, alice, _home(alice)) as client:
        client.put("file", content=secret)
        path = spelling.format(
            name=name, code=f"{ord(name[0]):x}", rest=name[1:], other=bob.local_part, upper=name.upper()
        )
        path += client.base_url.path.rstrip("/").rpartition("/")[2] + "/file"
        answer = ask_as_written(test_pod.server, path, bob)
        assert 400 <= answer.status < 500
        assert secret not in answer.read().decode()


def test_a_name_in_capitals_is_nobodys_home(test_pod: PodUnderTest, alice: Account) -> None:
    with test_pod.server.http(alice) as client:
        assert client.get(f"/webdav/home/{alice.local_part.upper()}/").status_code == 403


@pytest.mark.parametrize("method", ["GET", "PROPFIND", "HEAD", "OPTIONS"])
def test_nobody_lists_the_homes(test_pod: PodUnderTest, alice: Account, method: str) -> None:
    with test_pod.server.http(alice) as client:
        for path in ("/webdav/home", "/webdav/home/", "/webdav/home//", "/webdav/home/x/../"):
            answer = client.request(method, path, headers={"Depth": "1"})
            assert answer.status_code == 403
            assert alice.local_part not in answer.text


@pytest.mark.parametrize("method", CHANGES)
def test_what_belongs_to_all_stays_where_it_is(test_pod: PodUnderTest, alice: Account, method: str) -> None:
    protected = ["/webdav", "/webdav/home", "/webdav/site", _home(alice).rstrip("/")]
    headers = {"Destination": f"https://{test_pod.server.domain}/webdav/{token()}"}
    with test_pod.server.http(alice) as client:
        for path in (f"{path}{end}" for path in protected for end in ("", "/", "//", "/./")):
            assert client.request(method, path, content=EXCLUSIVE, headers=headers).status_code == 403, path


def test_a_file_takes_no_post(test_pod: PodUnderTest, alice: Account) -> None:
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"hers")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = client.post("file", content=b"a=b", headers={"Content-Type": kind})
            assert (answer.status_code, b"hers" in answer.content) == (405, False)
        assert client.get("file").content == b"hers"


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_what_belongs_to_all_is_not_replaced(test_pod: PodUnderTest, alice: Account, method: str) -> None:
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"x")
        for path in ("/webdav/", "/webdav/home", "/webdav/site", "/webdav/site/", _home(alice), _home(alice)[:-1]):
            destination = {"Destination": f"https://{test_pod.server.domain}{path}", "Overwrite": "T"}
            assert client.request(method, "file", headers=destination).status_code == 403, path
        assert client.get("file").content == b"x"


def test_publishing_is_copying(test_pod: PodUnderTest, alice: Account) -> None:
    with folder(test_pod.server, alice) as client, folder(test_pod.server, alice, "/webdav/site/") as site:
        client.put("page.html", content=b"<p>Hello")
        published = {"Destination": address(test_pod.server, site, "page.html")}
        assert client.request("COPY", "page.html", headers=published).status_code == 201
        path = site.base_url.path.removeprefix("/webdav/site") + "page.html"
        with test_pod.server.http() as anonymous:
            assert anonymous.get(path).text == "<p>Hello"
            assert site.delete("page.html").status_code == 204
            assert anonymous.get(path).status_code == 404


def test_the_site_is_seen_in_the_list_of_what_all_share(test_pod: PodUnderTest, alice: Account) -> None:
    with test_pod.server.http(alice) as client:
        assert "/webdav/site/" in listed(client, "/webdav/")
        assert 'href="site/"' in client.get("/webdav/").text
        assert "/webdav/site/" in listed(client, "/webdav/site/")


def test_the_site_is_changed_only_with_a_login(server: Server) -> None:
    with server.http() as anonymous:
        for method in CHANGES:
            assert anonymous.request(method, f"/webdav/site/{token()}").status_code == 401


def test_a_page_with_includes_is_the_same_by_webdav_and_on_the_site(test_pod: PodUnderTest, alice: Account) -> None:
    page = '<!--#echo var="DOMAIN" -->|<!--#exec cmd="id" -->|<!--#exec cgi="/git/" -->'
    with folder(test_pod.server, alice, "/webdav/site/") as site, test_pod.server.http() as anonymous:
        site.put("page.shtml", content=page)
        assert site.get("page.shtml").text == page
        served = anonymous.get(site.base_url.path.removeprefix("/webdav/site") + "page.shtml").text
    assert served == page


@pytest.mark.parametrize("way", ["/{}", "/webdav/../{}", "/webdav/%2e%2e/{}", "//{}"])
def test_a_page_includes_nothing_that_its_reader_may_not_read(
    test_pod: PodUnderTest, alice: Account, bob: Account, way: str
) -> None:
    secret = token()
    with folder(test_pod.server, alice, _home(alice)) as client, folder(test_pod.server, bob, "/webdav/site/") as site:
        client.put("file", content=secret)
        site.put("page.shtml", content=f'before <!--#include virtual="{client.base_url.path}file" --> after')
        path = way.format(site.base_url.path.removeprefix("/webdav/site/") + "page.shtml")
        for reader in (None, bob):
            answer = ask_as_written(test_pod.server, path, reader)
            text = answer.read().decode()
            assert (answer.status, text[:6], secret in text) == (200, "before", False)


ESCAPES = [
    "../", "../../", "%2e%2e/", "..%2f", "%2e%2e%2f", ".%2e/", "%252e%252e/", "..%252f", "%c0%ae%c0%ae/", "%e0%80%ae./",
    "..%c0%af", "..%ef%bc%8f", "..\\", "..%5c", "%2e%2e%5c", "..;/", "..;x=1/", "/../", "//../", "./.././", "..%00/",
    "..%0a/", "..%09/", "..%20/", "%u002e%u002e/", ".../", "..../",
]  # fmt: skip


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("begin", ["/", "/webdav/", "/webdav/home/{}/", "/webdav/site/"])
def test_no_path_leads_out_in_any_encoding(test_pod: PodUnderTest, alice: Account, begin: str, escape: str) -> None:
    name, secret = token(), token()
    (test_pod.folder("web") / "acme" / name).write_text(secret)
    for times, target, mark in ((1, f"acme/{name}", secret), (2, f"acme/{name}", secret), (8, "etc/passwd", "root:")):
        answer = ask_as_written(test_pod.server, begin.format(alice.local_part) + escape * times + target, alice)
        assert 400 <= answer.status < 500
        assert mark not in answer.read().decode(errors="replace")


@pytest.mark.parametrize("escape", ["../", "../../", "%2e%2e/", "..%2f", "%252e%252e/", "%c0%ae%c0%ae/", "..%5c"])
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_no_destination_leads_out(test_pod: PodUnderTest, alice: Account, method: str, escape: str) -> None:
    name = token()
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"x")
        for begin in ("/webdav/", client.base_url.path, "/webdav/site/"):
            destination = {"Destination": f"https://{test_pod.server.domain}{begin}{escape * 3}acme/{name}"}
            assert client.request(method, "file", headers=destination).status_code >= 400
        assert client.get("file").content == b"x"
    assert not list(test_pod.folder("web").rglob(name))


def _get(client: httpx.Client, path: str) -> httpx.Response:
    return client.get(path)


def _put(client: httpx.Client, path: str) -> httpx.Response:
    return client.put(path, content=b"overwritten")


def _propfind(client: httpx.Client, path: str) -> httpx.Response:
    return client.request("PROPFIND", path, headers={"Depth": "1"})


def _copy(client: httpx.Client, path: str) -> httpx.Response:
    return client.request("COPY", path, headers={"Destination": f"https://{client.headers['Host']}/webdav/{token()}"})


@pytest.mark.parametrize("attempt", [_get, _put, _propfind, _copy])
@pytest.mark.parametrize("place", ["dav", "site", "home/{}"])
def test_a_link_that_leads_out_is_not_followed(
    test_pod: PodUnderTest, alice: Account, place: str, attempt: Callable[[httpx.Client, str], httpx.Response]
) -> None:
    web, where, secret = test_pod.folder("web"), place.format(alice.local_part), token()
    target = web / "acme" / token()
    target.mkdir()
    (target / "file").write_text(secret)
    for file in (target, target / "file"):
        os.chown(file, WWW_DATA, WWW_DATA)
    links = web / where / token()
    links.mkdir()
    _link(links / "file", f"/data/web/acme/{target.name}/file")
    _link(links / "folder", f"/data/web/acme/{target.name}")
    os.chown(links, WWW_DATA, WWW_DATA)
    path = f"/webdav/{where}/{links.name}".replace("/dav/", "/")
    with test_pod.server.http(alice) as client:
        for name in ("file", "folder", "folder/", "folder/file", "folder/new"):
            answer = attempt(client, f"{path}/{quote(name)}")
            assert answer.status_code == 403, name
            assert secret not in answer.text
        copied = client.request(
            "COPY", path, headers={"Destination": f"https://{test_pod.server.domain}/webdav/{token()}/"}
        )
        assert copied.status_code == 201
    assert [(file.name, file.read_text()) for file in target.iterdir()] == [("file", secret)]
    assert secret not in "".join(file.read_text() for file in (web / "dav").rglob("file") if file.is_file())


def _link(link: Path, target: str) -> None:
    link.symlink_to(target)
    os.lchown(link, WWW_DATA, WWW_DATA)
