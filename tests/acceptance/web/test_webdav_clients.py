"""WebDAV with common clients. None of them needs a special setting."""

import hashlib
import secrets
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from podserve.waiting import NotYet, wait_until
from tests.acceptance.web.test_http import tls
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server
from tests.testbed.webdav import Desk, address, folder, listed, tree

GVFS = "gvfs/1.57.2"
FINDER = "WebDAVFS/3.0.0 (03008000) Darwin/23.0.0 (x86_64)"
EXPLORER = "Microsoft-WebDAV-MiniRedir/10.0.22621"
AGENTS = pytest.mark.parametrize("agent", [GVFS, FINDER, EXPLORER, "davfs2/1.6.1 neon/0.32.5", "rclone/v1.60.1", "x"])


@pytest.fixture
def desk(test_pod: PodUnderTest, tmp_path: Path) -> Desk:
    """A user's machine."""
    return Desk(test_pod.server, tmp_path)


@pytest.mark.parametrize("suite", ["basic", "copymove", "props", "locks"])
def test_the_protocols_own_test_suite_finds_no_fault(desk: Desk, alice: Account, suite: str) -> None:
    with folder(desk.server, alice) as client:
        here = address(desk.server, client, "")
        found = desk.run("env", f"TESTS={suite}", "litmus", here, alice.address, alice.password)
    assert found.ok, found
    assert " 0 failed. 100.0%" in found.stdout


def test_cadaver_works_with_a_folder(desk: Desk, alice: Account) -> None:
    content = secrets.token_bytes(100_000)
    (desk.home / "sent.bin").write_bytes(content)
    _netrc(desk, alice)
    with folder(desk.server, alice) as client:
        script = ("put sent.bin", "mkcol sub", "copy sent.bin sub/twin", "move sent.bin sub/first", "lock sub/twin",
                  "unlock sub/twin", "propset sub/twin colour red", "propget sub/twin colour", "get sub/twin got.bin",
                  "delete sub/twin", "ls sub", "quit")  # fmt: skip
        here = address(desk.server, client, "")
        worked = desk.run("cadaver", here, stdin="\n".join(script) + "\n")
        assert worked.ok, worked
        assert "failed" not in worked.stdout, worked
        assert (desk.home / "got.bin").read_bytes() == content
        assert listed(client, "sub/") == {f"{client.base_url.path}sub/", f"{client.base_url.path}sub/first"}


def test_davfs2_saves_a_file_several_times_in_a_second(desk: Desk, alice: Account) -> None:
    conf, secret = desk.home / "davfs2.conf", desk.home / "secrets"
    with folder(desk.server, alice) as client:
        here, mounted = address(desk.server, client, ""), desk.home / "mounted"
        mounted.mkdir()
        secret.write_text(f'"{here}" {alice.address} {alice.password}\n')
        # Without a delay, davfs2 uploads a file when it is closed. It sends the ETag of that with the next upload.
        conf.write_text(f"secrets {secret}\ndelay_upload 0\nask_auth 0\n")
        for file in (conf, secret):
            file.chmod(0o600)
        script = (
            'mount -t davfs -o "conf=$1" "$2" mounted',
            'trap "umount mounted" EXIT',
            "for word in one two three; do echo $word > mounted/file; done",
            "cat mounted/file",
            "echo four > mounted/.swap && mv mounted/.swap mounted/file && cat mounted/file",
            "echo five > mounted/gone && rm mounted/gone",
        )
        saved = desk.run("sh", "-ec", "\n".join(script), "sh", str(conf), here)
        assert saved.ok, saved
        assert saved.stdout.split()[:2] == ["three", "four"], saved
        assert client.get("file").text == "four\n"
        assert listed(client) == {client.base_url.path, f"{client.base_url.path}file"}


def test_cadaver_is_asked_for_the_right_password(desk: Desk, alice: Account) -> None:
    _netrc(desk, Account(alice.address, "wrong-password"))
    refused = desk.run("cadaver", f"https://{desk.server.domain}/webdav/", stdin="ls\nquit\n")
    assert "Could not authenticate" in refused.stdout, refused


def test_rclone_copies_a_tree_there_and_back(desk: Desk, alice: Account) -> None:
    for name in ("a file", "gr\u00fcn/100%.txt", "deep/er/still#1", "empty"):
        file = desk.home / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"" if name == "empty" else secrets.token_bytes(1000))
    with folder(desk.server, alice) as client:
        password = desk.run("rclone", "obscure", "-", stdin=alice.password).stdout.strip()
        (desk.home / "rclone.conf").write_text(
            f"[files]\ntype = webdav\nvendor = other\nurl = {address(desk.server, client, '')}\n"
            f"user = {alice.address}\npass = {password}\n"
        )
        for words in ("copy tree files:", "copy files: back", "check --download tree files:", "purge files:deep"):
            done = desk.run("rclone", "--config", "rclone.conf", *words.split())
            assert done.ok, done
        assert not any("deep" in path for path in listed(client))
    assert _contents(desk.home / "tree") == _contents(desk.home / "back")


def test_curl_uploads_and_downloads(desk: Desk, alice: Account) -> None:
    content = secrets.token_bytes(3_000_000)
    (desk.home / "sent.bin").write_bytes(content)
    _netrc(desk, alice)
    with folder(desk.server, alice) as client:
        here = address(desk.server, client, "")
        for options in (["-T", "sent.bin", here], ["-o", "got.bin", f"{here}sent.bin"]):
            done = desk.run("curl", "--netrc-file", ".netrc", "--silent", "--show-error", "--fail", *options)
            assert done.ok, done
    assert (desk.home / "got.bin").read_bytes() == content


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_a_client_that_asks_before_it_sends_is_told(desk: Desk, alice: Account, password: str) -> None:
    (desk.home / "sent.bin").write_bytes(bytes(3_000_000))
    _netrc(desk, alice if password == "right" else Account(alice.address, "wrong-password"))
    with folder(desk.server, alice) as client:
        here = address(desk.server, client, "")
        done = desk.run("curl", "--netrc-file", ".netrc", "--http1.1", "--silent", "--verbose", "--header",
                        "Expect: 100-continue", "--expect100-timeout", "20", "-T", "sent.bin", here)  # fmt: skip
    assert ("< HTTP/1.1 100 Continue" in done.stderr) == (password == "right"), done
    assert f"< HTTP/1.1 {'201' if password == 'right' else '401'}" in done.stderr, done


def test_an_upload_of_unknown_length_is_stored(server: Server, alice: Account) -> None:
    parts = [secrets.token_bytes(size) for size in (1, 70_000, 8192)]

    def content() -> Iterator[bytes]:
        yield from parts

    with folder(server, alice) as client:
        sent = client.put("file", content=content())
        assert sent.request.headers["Transfer-Encoding"] == "chunked"
        assert sent.status_code == 201
        assert client.get("file").content == b"".join(parts)


@AGENTS
@pytest.mark.parametrize("method", ["PROPFIND", "MKCOL", "OPTIONS", "PROPPATCH", "DELETE"])
def test_a_folders_address_without_the_slash_is_as_good(
    server: Server, alice: Account, agent: str, method: str
) -> None:
    body = '<propertyupdate xmlns="DAV:"><set><prop><a xmlns="urn:test"/></prop></set></propertyupdate>'
    wanted = {"PROPFIND": 207, "MKCOL": 405, "OPTIONS": 200, "PROPPATCH": 207, "DELETE": 204}
    with folder(server, alice) as client:
        client.request("MKCOL", "sub/")
        content = body if method == "PROPPATCH" else ""
        answer = client.request(method, "sub", content=content, headers={"User-Agent": agent, "Depth": "infinity"}
                                if method == "DELETE" else {"User-Agent": agent, "Depth": "1"})  # fmt: skip
        assert answer.status_code == wanted[method]


@AGENTS
def test_a_mount_of_an_address_without_the_slash_finds_the_folder(
    test_pod: PodUnderTest, alice: Account, agent: str
) -> None:
    with test_pod.server.http(alice) as client:
        for path in ("/webdav", "/webdav/site", f"/webdav/home/{alice.local_part}"):
            answer = client.request("PROPFIND", path, headers={"User-Agent": agent, "Depth": "0"})
            assert answer.status_code == 207
            assert tree(answer).findtext(".//{DAV:}href") == f"{path}/"


def test_a_browser_is_led_to_the_address_with_the_slash(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.request("MKCOL", "sub/")
        answer = client.get("sub")
        assert (answer.status_code, answer.headers["Location"]) == (301, address(server, client, "sub/"))


def test_windows_is_told_that_this_is_webdav(server: Server, alice: Account) -> None:
    with server.http(alice) as client:
        answer = client.options("/webdav/", headers={"User-Agent": EXPLORER})
    assert answer.headers["MS-Author-Via"] == "DAV"


def test_what_finder_puts_beside_a_file_is_stored(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        for name in ("._file", ".DS_Store"):
            assert client.put(name, content=b"\0\5\x16\7", headers={"User-Agent": FINDER}).status_code == 201
            assert client.get(name).content == b"\0\5\x16\7"


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("name", ["file", "new"])
def test_an_upload_that_is_cut_off_changes_nothing(
    test_pod: PodUnderTest, alice: Account, framing: str, name: str
) -> None:
    login = b64encode(f"{alice.address}:{alice.password}".encode()).decode()
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"before")
        head = (f"PUT {client.base_url.path}{name} HTTP/1.1\r\nHost: {test_pod.server.domain}\r\n"
                f"Authorization: Basic {login}\r\n{framing}\r\n\r\n")  # fmt: skip
        part = b"c350\r\n" + bytes(50_000) + b"\r\n" if "chunked" in framing else bytes(50_000)
        there = test_pod.folder("web") / "dav" / Path(client.base_url.path).name

        with tls(test_pod.server, test_pod.server.context()) as connection:
            connection.sendall(head.encode() + part)
            _wait_for_upload(there)
            assert listed(client) == {client.base_url.path, f"{client.base_url.path}file"}
            connection.shutdown(socket.SHUT_RDWR)
        _wait_for_files(there, {"file"})
        assert client.get("file").content == b"before"


@pytest.mark.parametrize("length", [{}, {"Content-Length": "100000"}])
@pytest.mark.parametrize("name", ["file", "new"])
def test_an_upload_over_http_2_that_is_cut_off_changes_nothing(
    test_pod: PodUnderTest, alice: Account, length: dict[str, str], name: str
) -> None:
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"before")
        there = test_pod.folder("web") / "dav" / Path(client.base_url.path).name

        def content() -> Iterator[bytes]:
            yield bytes(50_000)
            _wait_for_upload(there)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), test_pod.server.http(alice, http2=True) as other:
            other.put(f"{client.base_url.path}{name}", content=content(), headers=length)
        _wait_for_files(there, {"file"})
        assert client.get("file").content == b"before"


def _wait_for_upload(there: Path) -> None:
    def uploading() -> None:
        if not any(file.name.startswith(".davfs.tmp") for file in there.iterdir()):
            raise NotYet("no upload under way")

    wait_until(uploading, 5, "the upload to begin")


def _wait_for_files(there: Path, names: set[str]) -> None:
    def over() -> None:
        if {file.name for file in there.iterdir()} != names:
            raise NotYet("a part of it is there")

    wait_until(over, 5, "what was sent to be gone")


def _netrc(desk: Desk, account: Account) -> None:
    file = desk.home / ".netrc"
    file.write_text(f"machine {desk.server.domain} login {account.address} password {account.password}\n")
    file.chmod(0o600)


def _contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
