"""GitWeb at /git/: repositories, read in a browser by those who log in."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from podserve.commands import run
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import Account, Server, token

SERVICE = 33
"""The user and the group that Apache runs as: git shows no repository of another's (safe.directory)."""


@dataclass(frozen=True)
class Repository:
    """A repository on the web volume: its name, and the hash, message and file of its one commit."""

    name: str
    commit: str
    message: str
    content: str


@pytest.fixture
def repository(own: OwnPod, tmp_path: Path) -> Repository:
    """A repository of the test's own."""
    work, name, message, content = tmp_path / "work", f"{token()}.git", f"Say {token()}", token()
    bare = own.folder("web") / "git" / name
    identity = ["-c", "user.name=Alice", "-c", "user.email=alice@example.com"]
    run(["git", "init", "--quiet", "--initial-branch", "main", str(work)])
    (work / "file.txt").write_text(content)
    run(["git", "-C", str(work), "add", "file.txt"])
    run(["git", "-C", str(work), *identity, "commit", "--quiet", "--message", message])
    run(["git", "clone", "--quiet", "--bare", str(work), str(bare)])
    for path in (bare, *bare.rglob("*")):
        shutil.chown(path, SERVICE, SERVICE)
    commit = run(["git", "-C", str(work), "rev-parse", "HEAD"]).stdout.strip()
    return Repository(name, commit, message, content)


def test_the_list_shows_a_repository(own: OwnPod, alice: Account, repository: Repository) -> None:
    with own.server.http(alice) as client:
        page = client.get("/git/")
    assert page.status_code == 200
    assert repository.name in page.text
    assert f"<title>{own.server.domain} git</title>" in page.text


def test_a_commit_is_shown_with_its_message_and_what_it_changed(
    own: OwnPod, alice: Account, repository: Repository
) -> None:
    with own.server.http(alice) as client:
        log = client.get(f"/git/{repository.name}/log")
        commit = client.get(f"/git/{repository.name}/commitdiff/{repository.commit}")
        file = client.get(f"/git/{repository.name}/blob_plain/main:/file.txt")
    assert repository.commit in log.text
    assert repository.message in log.text
    assert repository.message in commit.text
    assert repository.content in commit.text
    assert (file.status_code, file.text) == (200, repository.content)


def test_pages_find_their_style_sheet_logo_and_script(own: OwnPod, alice: Account, repository: Repository) -> None:
    with own.server.http(alice) as client:
        page = client.get(f"/git/{repository.name}/log").text
        for name, kind in (("gitweb.css", "text/css"), ("git-logo.png", "image/png"), ("gitweb.js", "text/javascript")):
            assert f'"/git/static/{name}"' in page
            file = client.get(f"/git/static/{name}")
            assert (file.status_code, file.headers["Content-Type"]) == (200, kind)


def test_a_repository_that_is_not_there_is_not_found(own: OwnPod, alice: Account, repository: Repository) -> None:
    with own.server.http(alice) as client:
        assert client.get("/git/", params={"p": repository.name, "a": "log"}).status_code == 200
        assert client.get("/git/", params={"p": f"{token()}.git", "a": "log"}).status_code == 404


def test_a_folder_elsewhere_is_not_shown(own: OwnPod, alice: Account, repository: Repository) -> None:
    elsewhere = own.folder("web") / "dav" / repository.name
    (own.folder("web") / "git" / repository.name).rename(elsewhere)
    with own.server.http(alice) as client:
        for project in (f"../dav/{repository.name}", f"/data/web/dav/{repository.name}"):
            answer = client.get("/git/", params={"p": project, "a": "log"})
            assert answer.status_code == 404
            assert repository.message not in answer.text


@pytest.mark.parametrize("path", ["/git/", "/git/?a=project_index", "/git/static/gitweb.css", "/git/x.git/log"])
def test_nothing_is_shown_without_a_login(server: Server, path: str) -> None:
    with server.http() as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="PodServe"'


def test_a_repository_is_not_shown_without_a_login(own: OwnPod, repository: Repository) -> None:
    with own.server.http() as client:
        for path in ("/git/", f"/git/{repository.name}/log", f"/git/{repository.name}/HEAD"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert repository.name not in answer.text


def test_a_wrong_password_is_refused(server: Server, alice: Account) -> None:
    with server.http(Account(alice.address, f"{alice.password}x")) as client:
        assert client.get("/git/").status_code == 401


def test_no_password_is_asked_for_over_plain_http(server: Server, alice: Account) -> None:
    for account in (None, alice):
        with server.http(account, port=80) as client:
            answer = client.get("/git/")
        assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{server.domain}/git/")
        assert "WWW-Authenticate" not in answer.headers


def test_the_address_without_its_slash_leads_to_the_list(server: Server, alice: Account) -> None:
    with server.http(alice) as client:
        answer = client.get("/git")
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{server.domain}/git/")


@pytest.mark.parametrize("path", ["/git/gitweb.cgi", "/git/gitweb.fcgi", "/git/index.cgi", "/git/static/../gitweb.cgi",
                                  "/git/static/gitweb.cgi", "/gitweb/", "/gitweb/gitweb.cgi", "/gitweb.cgi",
                                  "/cgi-bin/gitweb.cgi"])  # fmt: skip
def test_gitwebs_source_is_not_served(server: Server, alice: Account, path: str) -> None:
    with server.http(alice) as client:
        text = client.get(path).text
    assert "/usr/bin/perl" not in text
    assert "sub git_project_list" not in text


def _gitweb_processes(own: OwnPod) -> set[str]:
    """Return the ids of the processes that run GitWeb."""
    found = own.exec("apache", "sh", "-c", "grep -las [g]itweb.fcgi /proc/[0-9]*/cmdline", check=False)
    return {path.split("/")[2] for path in found.stdout.split()}


def test_one_process_answers_many_requests(own: OwnPod, alice: Account, repository: Repository) -> None:
    with own.server.http(alice) as client:
        assert client.get("/git/").status_code == 200
        first = _gitweb_processes(own)
        assert {client.get(f"/git/{repository.name}/log").status_code for _ in range(5)} == {200}
    assert first
    assert _gitweb_processes(own) == first
