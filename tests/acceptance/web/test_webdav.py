"""WebDAV at /webdav/: methods, conditions, properties and logins."""

import os
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote

import httpx
import pytest
from imapclient.exceptions import LoginError

from podserve.accounts import random_password
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.webdav import WWW_DATA, address, folder, listed, tree

PROMPT = 2.0
"""Seconds until a changed account must be in use everywhere."""
HUGE = 2 * 1024**3 + 1
"""Bytes of a file whose size does not fit into 31 bits."""
CHUNK = bytes(1024 * 1024)
FILES = 5000
"""The number of files in a large folder."""


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


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "gr\u00fc\u00dfe",
        "\u6587\u4ef6",
        "\U0001f600",
        "a&b=c+d",
        "100%",
        "%41",
        "a#b",
        "a?b",
        "a;b",
        "<b>",
        "quote'\"s",
        " begins and ends ",
        "back\\slash",
        "~",
        "x" * 250,
        ".hidden",
        "._resource",
        ".DS_Store",
    ],
)
def test_a_file_may_have_any_name(server: Server, alice: Account, name: str) -> None:
    with folder(server, alice) as client:
        assert client.put(quote(name), content=name.encode()).status_code == 201
        assert client.get(quote(name)).content == name.encode()
        (found,) = listed(client) - {client.base_url.path}
        assert unquote(found.rpartition("/")[2]) == name


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


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_a_destination_is_overwritten_unless_told_not_to(server: Server, alice: Account, method: str) -> None:
    with folder(server, alice) as client:
        client.put("one", content=b"1")
        client.put("two", content=b"2")
        destination = {"Destination": address(server, client, "two")}
        kept = client.request(method, "one", headers={**destination, "Overwrite": "F"})
        assert (kept.status_code, client.get("two").content) == (412, b"2")
        assert client.request(method, "one", headers={**destination, "Overwrite": "T"}).status_code == 204
        assert client.get("two").content == b"1"
        assert client.get("one").status_code == (200 if method == "COPY" else 404)


def test_a_folder_is_copied_with_or_without_what_is_in_it(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.request("MKCOL", "sub/")
        client.put("sub/file", content=b"x")
        for depth, name, status in (("infinity", "all", 200), ("0", "none", 404)):
            headers = {"Destination": address(server, client, f"{name}/"), "Depth": depth}
            assert client.request("COPY", "sub/", headers=headers).status_code == 201
            assert client.get(f"{name}/file").status_code == status


@pytest.mark.parametrize(("destination", "status"), [
    ("", 400), ("http://{domain}{here}two", 502), ("https://{domain}{here}one", 403), ("https://{domain}/two", 405),
])  # fmt: skip
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_nothing_is_copied_to_where_it_cannot_be(
    server: Server, alice: Account, method: str, destination: str, status: int
) -> None:
    with folder(server, alice) as client:
        client.put("one", content=b"1")
        written = destination.format(domain=server.domain, here=client.base_url.path)
        answer = client.request(method, "one", headers={"Destination": written} if written else {})
        assert answer.status_code == status
        assert client.get("one").content == b"1"


@pytest.mark.parametrize(("method", "status"), [("COPY", 409), ("MOVE", 500)])
def test_nothing_is_copied_to_a_folder_that_is_not_there(
    server: Server, alice: Account, method: str, status: int
) -> None:
    with folder(server, alice) as client:
        client.put("one", content=b"1")
        destination = {"Destination": address(server, client, "missing/two")}
        # mod_dav_fs answers 500 if a rename fails, whatever the reason.
        assert client.request(method, "one", headers=destination).status_code in {409, status}
        assert listed(client) == {client.base_url.path, f"{client.base_url.path}one"}


RANGES = pytest.mark.parametrize(("asked", "content"), [
    ("4-", b"456789"), ("2-3", b"23"), ("-3", b"789"), ("0-0", b"0"), ("8-99", b"89"),
])  # fmt: skip


@RANGES
def test_a_part_of_a_file_is_downloaded(server: Server, alice: Account, asked: str, content: bytes) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"0123456789")
        part = client.get("file", headers={"Range": f"bytes={asked}"})
    assert (part.status_code, part.content) == (206, content)
    assert part.headers["Content-Range"].endswith("/10")


def test_a_part_beyond_the_end_is_refused(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"0123456789")
        assert client.get("file", headers={"Range": "bytes=10-"}).status_code == 416


def test_a_part_of_a_file_is_not_written(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"0123456789")
        for path in ("file", "new"):
            assert client.put(path, content=b"xx", headers={"Content-Range": "bytes 2-3/10"}).status_code == 400
        assert client.get("file").content == b"0123456789"
        assert listed(client) == {client.base_url.path, f"{client.base_url.path}file"}


def _tag(client: httpx.Client, path: str) -> str:
    """Return a file's ETag, which must be strong at once: a weak one matches no If-Match (RFC 9110, section 13.1.1)."""
    tag = str(client.head(path).headers["ETag"])
    assert tag.startswith('"')
    query = '<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'
    told = tree(client.request("PROPFIND", path, content=query, headers={"Depth": "0"}))
    assert told.findtext(".//{DAV:}getetag") == tag
    return tag


def test_a_download_is_resumed_only_if_the_file_is_still_the_same(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"0123456789")
        resume = {"Range": "bytes=4-", "If-Range": _tag(client, "file")}
        assert client.get("file", headers=resume).content == b"456789"
        client.put("file", content=b"all of it is another")
        whole = client.get("file", headers=resume)
    assert (whole.status_code, whole.content) == (200, b"all of it is another")


def test_a_file_is_not_replaced_when_it_has_changed_meanwhile(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"first")
        known = {"If-Match": _tag(client, "file")}
        assert client.put("file", content=b"second one", headers=known).status_code == 204
        assert client.put("file", content=b"third", headers=known).status_code == 412
        assert client.delete("file", headers=known).status_code == 412
        assert client.get("file").content == b"second one"


def test_a_file_is_saved_again_and_again_at_once_each_time_by_its_tag(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"0")
        tags = [_tag(client, "file")]
        for content in (b"1", b"2", b"3"):
            assert client.put("file", content=content, headers={"If-Match": tags[-1]}).status_code == 204
            tags.append(_tag(client, "file"))
            assert client.put("file", content=b"stale", headers={"If-Match": tags[-2]}).status_code == 412
        assert len(set(tags)) == len(tags)
        assert client.get("file").content == b"3"
        known = {"If-Match": f'"another", {tags[-1]}'}
        assert client.get("file", headers=known).content == b"3"
        assert client.get("file", headers={"Range": "bytes=0-0", "If-Range": tags[-1]}).status_code == 206
        assert client.put("file", content=b"5", headers={"If-None-Match": tags[-1]}).status_code == 412
        assert client.put("file", content=b"5", headers={"If-Match": f"W/{tags[-1]}"}).status_code == 412
        assert client.put("file", content=b"5", headers={"If": f"([{tags[-2]}])"}).status_code == 412
        assert client.put("file", content=b"4", headers={"If": f"([{tags[-1]}])"}).status_code == 204
        moved = {"Destination": address(server, client, "moved"), "If-Match": _tag(client, "file")}
        assert client.request("MOVE", "file", headers={**moved, "If-Match": tags[-1]}).status_code == 412
        assert client.request("MOVE", "file", headers=moved).status_code == 201
        assert client.delete("moved", headers={"If-Match": tags[-1]}).status_code == 412
        assert client.delete("moved", headers={"If-Match": _tag(client, "moved")}).status_code == 204
        assert client.put("moved", content=b"", headers={"If-Match": tags[-1]}).status_code == 412


def test_two_files_of_one_size_and_time_have_two_tags(test_pod: PodUnderTest, alice: Account) -> None:
    with folder(test_pod.server, alice) as client:
        there, tags = test_pod.folder("web") / "dav" / client.base_url.path.split("/")[2], []
        now = time.time_ns()
        for content in (b"first", b"other"):
            client.put("new", content=content)
            os.utime(there / "new", ns=(now, now))  # as if both were written in one tick of the kernel's clock
            client.request("MOVE", "new", headers={"Destination": address(test_pod.server, client, "file")})
            tags.append(_tag(client, "file"))
        assert tags[0] != tags[1]
        assert client.put("file", content=b"third", headers={"If-Match": tags[0]}).status_code == 412
        assert client.put("file", content=b"third", headers={"If-Match": tags[1]}).status_code == 204


def test_a_file_is_made_only_if_there_is_none(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        new = {"If-None-Match": "*"}
        assert client.put("file", content=b"first", headers=new).status_code == 201
        assert client.put("file", content=b"second", headers=new).status_code == 412
        assert client.get("file").content == b"first"


def test_what_a_client_has_already_is_not_sent_again(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        known = client.get("file").headers
        same = client.get("file", headers={"If-None-Match": known["ETag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert client.get("file", headers={"If-Modified-Since": known["Last-Modified"]}).status_code == 304
        assert client.get("file", headers={"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}).content == b"x"


def _property(client: httpx.Client, path: str, wanted: str) -> tuple[str, str]:
    """Return the status and the text of one property of the namespace urn:test."""
    query = f'<propfind xmlns="DAV:"><prop><{wanted} xmlns="urn:test"/></prop></propfind>'
    answer = client.request("PROPFIND", path, content=query, headers={"Depth": "0"})
    assert answer.status_code == 207, answer.text
    (found,) = tree(answer).iter("{DAV:}propstat")
    return found.findtext("{DAV:}status", ""), found.findtext(f"{{DAV:}}prop/{{urn:test}}{wanted}", "")


def _set_property(client: httpx.Client, path: str, verb: str, value: str) -> str:
    update = (
        f'<propertyupdate xmlns="DAV:"><{verb}><prop><colour xmlns="urn:test">{value}</colour></prop></{verb}>'
        "</propertyupdate>"
    )
    answer = client.request("PROPPATCH", path, content=update.encode())
    assert answer.status_code == 207, answer.text
    return tree(answer).findtext(".//{DAV:}status", "")


def test_a_property_is_kept_and_goes_with_the_file(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        assert _property(client, "file", "colour")[0] == "HTTP/1.1 404 Not Found"
        assert _set_property(client, "file", "set", "gr\u00fcn &amp; blau") == "HTTP/1.1 200 OK"
        assert _property(client, "file", "colour") == ("HTTP/1.1 200 OK", "gr\u00fcn & blau")
        assert client.put("file", content=b"other").status_code == 204
        client.request("MOVE", "file", headers={"Destination": address(server, client, "moved")})
        assert _property(client, "moved", "colour") == ("HTTP/1.1 200 OK", "gr\u00fcn & blau")
        client.put("file", content=b"another")
        assert _property(client, "file", "colour")[0] == "HTTP/1.1 404 Not Found"
        _set_property(client, "moved", "remove", "")
        assert _property(client, "moved", "colour")[0] == "HTTP/1.1 404 Not Found"


@pytest.mark.parametrize("length", [250, 251, 255])
def test_a_file_with_a_long_name_keeps_its_properties_or_refuses_them(
    server: Server, alice: Account, length: int
) -> None:
    long, fits = "n" * length, length == 250
    with folder(server, alice) as client:
        assert client.put(long, content=b"x").status_code == 201
        paint = '<prop><colour xmlns="urn:test">red</colour></prop>'
        update = f'<propertyupdate xmlns="DAV:"><set>{paint}</set></propertyupdate>'
        answer = client.request("PROPPATCH", long, content=update)
        assert (answer.status_code, "HTTP/1.1 200 OK" in answer.text) == ((207, True) if fits else (507, False))
        for method in ("COPY", "MOVE"):
            client.put("file", content=b"y")
            assert _set_property(client, "file", "set", "red") == "HTTP/1.1 200 OK"
            for end in ("", "/"):
                there = {"Destination": address(server, client, f"{method}{long[4:]}{end}")}
                assert client.request(method, "file", headers=there).status_code == (201 if fits else 507)
                if fits:
                    assert _property(client, f"{method}{long[4:]}", "colour")[1] == "red"
                    break
                assert _property(client, "file", "colour")[1] == "red"
        client.put("bare", content=b"z")
        there = {"Destination": address(server, client, f"bare{long[4:]}")}
        assert client.request("MOVE", "bare", headers=there).status_code == 201, "without properties none are lost"
        client.request("MKCOL", f"{'f' * length}/")
        assert _set_property(client, f"{'f' * length}/", "set", "red") == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("host", ["domain", "files_host"])
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_a_destination_may_be_a_path(test_pod: PodUnderTest, alice: Account, method: str, host: str) -> None:
    with folder(test_pod.server, alice) as client:
        client.headers["Host"] = getattr(test_pod.settings, host)
        client.put("file", content=b"x")
        there = {"Destination": f"{client.base_url.path}a%20b"}
        assert client.request(method, "file", headers=there).status_code == 201
        assert client.get("a%20b").content == b"x"
        elsewhere = {"Destination": f"//other.example{client.base_url.path}c"}
        assert client.request(method, "a%20b", headers=elsewhere).status_code >= 400
        assert client.request(method, "a%20b", headers={"Destination": "c"}).status_code == 400


def test_what_the_server_knows_of_a_file_cannot_be_set(server: Server, alice: Account) -> None:
    update = (
        '<propertyupdate xmlns="DAV:"><set><prop><getcontentlength>7</getcontentlength></prop></set></propertyupdate>'
    )
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        refused = tree(client.request("PROPPATCH", "file", content=update))
        assert refused.findtext(".//{DAV:}status", "").startswith("HTTP/1.1 4")
        assert client.head("file").headers["Content-Length"] == "1"


@pytest.mark.parametrize(("asked", "value"), [("allprop", "red"), ("propname", None)])
def test_all_properties_are_told_or_only_their_names(
    server: Server, alice: Account, asked: str, value: str | None
) -> None:
    query = f'<propfind xmlns="DAV:"><{asked}/></propfind>'
    with folder(server, alice) as client:
        client.put("file", content=b"12345")
        _set_property(client, "file", "set", "red")
        found = tree(client.request("PROPFIND", "file", content=query, headers={"Depth": "0"}))
    assert found.findtext(".//{urn:test}colour") == (value or "")
    assert found.findtext(".//{DAV:}getcontentlength") == ("5" if value else "")


def test_a_folder_is_not_listed_with_all_that_is_below(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        for headers in ({"Depth": "infinity"}, {}):
            assert client.request("PROPFIND", "", headers=headers).status_code == 403


def test_an_empty_file_is_a_file(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        assert client.put("empty", content=b"").status_code == 201
        answer = client.get("empty")
        assert (answer.status_code, answer.content) == (200, b"")
        client.put("empty", content=b"no more")
        assert client.put("empty", content=b"").status_code == 204
        assert client.head("empty").headers.get("Content-Length", "0") == "0"


def test_a_file_may_be_larger_than_two_gibibytes(server: Server, alice: Account) -> None:
    def content() -> Iterator[bytes]:
        for _ in range(HUGE // len(CHUNK)):
            yield CHUNK
        yield b"!"

    with folder(server, alice) as client:
        sent = client.put("huge", content=content(), headers={"Content-Length": str(HUGE)})
        assert sent.status_code == 201
        assert client.head("huge").headers["Content-Length"] == str(HUGE)
        end = client.get("huge", headers={"Range": f"bytes={HUGE - 3}-"})
        assert end.content == b"\0\0!"
        with client.stream("GET", "huge") as whole:
            assert sum(len(part) for part in whole.iter_raw()) == HUGE


@pytest.mark.parametrize("place", ["dav", "home/{}"])
@pytest.mark.alone
def test_five_thousand_files_are_listed_in_under_a_second(test_pod: PodUnderTest, alice: Account, place: str) -> None:
    made = test_pod.folder("web") / place.format(alice.local_part) / token()
    made.mkdir()
    for number in range(FILES):
        (made / f"{number}.txt").touch()
    for file in (made, *made.iterdir()):
        os.chown(file, WWW_DATA, WWW_DATA)
    path = "/webdav/" + str(made.relative_to(test_pod.folder("web"))).removeprefix("dav/") + "/"
    with test_pod.server.http(alice) as client:
        begin = time.monotonic()
        answer = client.request("PROPFIND", path, headers={"Depth": "1"})
        listed_in = time.monotonic() - begin
        page = client.get(path)
        shown_in = time.monotonic() - begin - listed_in
        client.delete(path)
    assert answer.content.count(b"<D:href>") == FILES + 1
    assert page.text.count(".txt</a>") == FILES
    assert max(listed_in, shown_in) < 1


def test_a_folder_is_a_page_for_those_with_a_login(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        for name in ("file", "README.html", ".hidden", "a%20b"):
            client.put(name, content=b"the content")
        _set_property(client, "file", "set", "red")
        page = client.get("")
        with server.http() as anonymous:
            refused = anonymous.get(client.base_url.path)
    assert page.status_code == 200
    assert all(f'href="{name}"' in page.text for name in ("file", "README.html", ".hidden", "a%20b"))
    assert ".DAV" not in page.text
    assert "the content" not in page.text
    assert refused.status_code == 401
    assert "file" not in refused.text


@pytest.mark.parametrize("path", [".DAV/", ".DAV/file", ".davfs.tmpabc", "sub/.DAV/file"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PROPFIND", "DELETE", "MKCOL"])
def test_the_servers_own_files_are_nobodys(server: Server, alice: Account, method: str, path: str) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        _set_property(client, "file", "set", "red")
        assert client.request(method, path).status_code == 403
        assert listed(client) == {client.base_url.path, f"{client.base_url.path}file"}


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
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="PodServe", charset="UTF-8"'


def test_a_login_is_the_same_in_capitals(server: Server, alice: Account) -> None:
    for name in (alice.address.upper(), alice.address.capitalize(), alice.address.swapcase()):
        with server.http(Account(name, alice.password)) as client:
            assert client.request("PROPFIND", "/webdav/", headers={"Depth": "0"}).status_code == 207
            home = f"/webdav/home/{alice.local_part}/"
            assert client.request("PROPFIND", home, headers={"Depth": "0"}).status_code == 207
            assert client.get("/git/").status_code == 200
        with server.http(Account(name, alice.password.swapcase())) as client:
            assert client.get("/webdav/").status_code == 401, "a password is not"


@pytest.mark.parametrize(
    "password", ["Gr\u00fc\u00dfe: K\u00f6ln", "\u5bc6\u7801 \U0001f511 \u043f\u0430\u0440\u043e\u043b\u044c"]
)
def test_a_password_outside_ascii_is_accepted(test_pod: PodUnderTest, password: str) -> None:
    account = Account(f"{token()}@{test_pod.server.domain}", password)
    test_pod.invoke("users.add", account.address, "--password-stdin", stdin=f"{password}\n")
    for given, accepted in ((account, True), (Account(account.address, f"{password}x"), False)):
        assert _web(test_pod.server, given) is accepted
        assert _submits(test_pod.server, given) is accepted


def _submits(server: Server, account: Account) -> bool:
    """Log in on port 587 by SASL PLAIN in UTF-8 (RFC 4616). smtplib and imaplib send a password in ASCII only."""
    with server.smtp(port=587) as client:
        words = b64encode(f"\0{account.address}\0{account.password}".encode()).decode()
        return client.docmd("AUTH", f"PLAIN {words}")[0] == 235


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


def test_a_page_that_was_uploaded_does_not_act_and_a_film_is_downloaded(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        for name, film in (("page.html", False), ("film.mp4", True), ("sound.wav", True), ("text.txt", False)):
            client.put(name, content=b"<script>alert(1)</script>")
            headers = client.get(name).headers
            policy = headers["Content-Security-Policy"].split("; ")
            assert {"frame-ancestors 'self'", "sandbox allow-downloads"} < set(policy)
            assert headers.get("Content-Disposition") == ("attachment" if film else None)


def test_the_upload_belongs_to_the_web_server_on_the_volume(test_pod: PodUnderTest, alice: Account) -> None:
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"x")
        there = test_pod.folder("web") / "dav" / client.base_url.path.removeprefix("/webdav/") / "file"
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
def test_a_removed_account_is_refused_within_two_seconds(
    test_pod: PodUnderTest, new_account: Account, logs_in: Login
) -> None:
    assert logs_in(test_pod.server, new_account)
    test_pod.invoke("users.remove", new_account.address)
    _wait_for_refusal(logs_in, test_pod.server, new_account)


@LOGINS
def test_a_changed_password_is_in_use_within_two_seconds(
    test_pod: PodUnderTest, new_account: Account, logs_in: Login
) -> None:
    changed = Account(new_account.address, random_password())
    assert logs_in(test_pod.server, new_account)
    test_pod.invoke("users.passwd", new_account.address, "--password-stdin", stdin=f"{changed.password}\n")
    _wait_for_refusal(logs_in, test_pod.server, new_account)
    assert logs_in(test_pod.server, changed)


def test_a_new_account_is_accepted_at_once_after_it_was_refused(test_pod: PodUnderTest) -> None:
    account = Account(f"{token()}@{test_pod.server.domain}", random_password())
    assert not _web(test_pod.server, account)
    test_pod.invoke("users.add", account.address, "--password-stdin", stdin=f"{account.password}\n")
    assert _web(test_pod.server, account)


def test_logins_and_refusals_are_logged_with_the_name(test_pod: PodUnderTest, alice: Account, since: float) -> None:
    path = f"/webdav/{token()}"
    with test_pod.server.http(alice) as client:
        client.get(path)
    assert f" {alice.address} " in test_pod.wait_for_log("apache", f'"GET {path} HTTP/1.1" 404', since)
    with test_pod.server.http(Account(alice.address, "wrong")) as client:
        client.get(path)
    assert test_pod.wait_for_log("apache", f'"GET {path} HTTP/1.1" 401', since)
