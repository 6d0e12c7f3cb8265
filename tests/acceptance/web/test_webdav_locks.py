"""WebDAV locks: a locked file or folder is changed only with its lock token, and only by the account that holds it."""

import pytest

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server
from tests.testbed.webdav import EXCLUSIVE, SHARED, address, folder, listed, lock, tree, unlock, visitor


def test_a_locked_file_is_changed_only_by_who_locked_it(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"before")
        key = lock(client, "file")
        assert client.put("file", content=b"other").status_code == 423
        assert client.put("file", content=b"after", headers={"If": f"({key})"}).status_code == 204
        assert unlock(client, "file", key) == 204
        assert client.put("file", content=b"free").status_code == 204


PAINT = '<propertyupdate xmlns="DAV:"><set><prop><colour xmlns="urn:test">red</colour></prop></set></propertyupdate>'


@pytest.mark.parametrize(("method", "body"), [
    ("PUT", "his"), ("DELETE", ""), ("MOVE", ""), ("PROPPATCH", PAINT), ("LOCK", EXCLUSIVE), ("LOCK", SHARED),
])  # fmt: skip
def test_a_lock_keeps_everybody_else_out(
    test_pod: PodUnderTest, alice: Account, bob: Account, method: str, body: str
) -> None:
    with folder(test_pod.server, alice) as client, visitor(test_pod.server, bob, client) as other:
        client.put("file", content=b"hers")
        key = lock(client, "file")
        elsewhere = {"Destination": address(test_pod.server, client, "elsewhere")} if method == "MOVE" else {}
        assert other.request(method, "file", content=body, headers=elsewhere).status_code == 423
        assert other.get("file").content == b"hers"
        assert listed(client) == {client.base_url.path, f"{client.base_url.path}file"}
        assert unlock(client, "file", key) == 204


def test_a_locks_token_is_of_no_use_to_a_stranger(test_pod: PodUnderTest, alice: Account, bob: Account) -> None:
    with folder(test_pod.server, alice) as client, visitor(test_pod.server, bob, client) as other:
        client.put("file", content=b"hers")
        key = lock(client, "file")
        assert other.put("file", content=b"his", headers={"If": f"({key})"}).status_code == 403
        assert unlock(other, "file", key) == 403
        assert other.put("file", content=b"his").status_code == 423
        assert client.get("file").content == b"hers"
        assert unlock(client, "file", key) == 204
        assert other.put("file", content=b"his").status_code == 204


def test_a_made_up_token_unlocks_nothing(server: Server, alice: Account) -> None:
    made_up = "<opaquelocktoken:00000000-0000-0000-0000-000000000000>"
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        key = lock(client, "file")
        assert unlock(client, "file", made_up) >= 400
        assert client.put("file", content=b"y", headers={"If": f"({made_up})"}).status_code == 412
        assert unlock(client, "file", key) == 204


def test_a_lock_is_seen_and_refreshed(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        key = lock(client, "file")
        seen = tree(client.request("PROPFIND", "file", headers={"Depth": "0"}))
        assert f"<{seen.findtext('.//{DAV:}locktoken/{DAV:}href')}>" == key
        refreshed = client.request("LOCK", "file", headers={"If": f"({key})", "Timeout": "Second-3000"})
        assert refreshed.status_code == 200
        _, _, seconds = tree(refreshed).findtext(".//{DAV:}timeout", "").partition("-")
        assert 2900 < int(seconds) <= 3000
        assert client.request("LOCK", "file", headers={"Timeout": "Second-3000"}).status_code in {400, 423}
        assert unlock(client, "file", key) == 204


def test_a_lock_ends_by_itself(server: Server, alice: Account) -> None:
    with folder(server, alice) as client:
        client.put("file", content=b"x")
        key = lock(client, "file")
        assert client.request("LOCK", "file", headers={"If": f"({key})", "Timeout": "Second-1"}).status_code == 200

        def check() -> None:
            if client.put("file", content=b"y").status_code != 204:
                raise NotYet("locked")

        wait_until(check, 5, "the lock to end")


def test_a_shared_lock_is_shared_and_keeps_out_who_has_none(
    test_pod: PodUnderTest, alice: Account, bob: Account
) -> None:
    with folder(test_pod.server, alice) as client, visitor(test_pod.server, bob, client) as other:
        client.put("file", content=b"x")
        hers = lock(client, "file", SHARED)
        assert other.put("file", content=b"his").status_code == 423
        his = lock(other, "file", SHARED)
        assert hers != his
        assert other.put("file", content=b"his", headers={"If": f"({his})"}).status_code == 204
        assert (unlock(client, "file", hers), unlock(other, "file", his)) == (204, 204)


def test_a_name_is_locked_before_there_is_a_file(test_pod: PodUnderTest, alice: Account, bob: Account) -> None:
    with folder(test_pod.server, alice) as client, visitor(test_pod.server, bob, client) as other:
        key = lock(client, "new")
        assert other.put("new", content=b"his").status_code == 423
        assert client.put("new", content=b"hers", headers={"If": f"({key})"}).status_code in {201, 204}
        assert client.get("new").content == b"hers"
        assert unlock(client, "new", key) == 204


def test_a_locked_folder_takes_in_nothing_of_others(test_pod: PodUnderTest, alice: Account, bob: Account) -> None:
    with folder(test_pod.server, alice) as client, visitor(test_pod.server, bob, client) as other:
        client.request("MKCOL", "sub/")
        key = lock(client, "sub/", depth="infinity")
        # If the folder above is locked, mod_dav may answer 207, with the 423 in the body.
        for method, path in (("PUT", "sub/file"), ("MKCOL", "sub/deeper/"), ("DELETE", "sub/")):
            answer = other.request(method, path)
            assert answer.status_code == 423 or (answer.status_code == 207 and "HTTP/1.1 423 Locked" in answer.text)
        assert listed(client, "sub/") == {f"{client.base_url.path}sub/"}
        held = {"If": f"<{address(test_pod.server, client, 'sub/')}> ({key})"}
        assert client.put("sub/file", content=b"hers", headers=held).status_code == 201
        assert other.put("beside", content=b"his").status_code == 201
        assert unlock(client, "sub/", key) == 204


@pytest.mark.parametrize("patience", ["5", "0"], ids=["asked to end", "killed"])
def test_a_lock_outlives_the_web_server(test_pod: PodUnderTest, alice: Account, bob: Account, patience: str) -> None:
    with folder(test_pod.server, alice) as client:
        client.put("file", content=b"hers")
        key = lock(client, "file")
        podman("restart", "--time", patience, test_pod.container("apache"))
        wait_until(test_pod.server.answers, 20, "the web server to be back")
        with visitor(test_pod.server, bob, client) as other:
            assert other.put("file", content=b"his").status_code == 423
        with visitor(test_pod.server, alice, client) as again:
            assert again.put("file", content=b"after", headers={"If": f"({key})"}).status_code == 204
            assert unlock(again, "file", key) == 204
