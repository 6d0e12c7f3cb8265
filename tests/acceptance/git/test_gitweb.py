"""GitWeb at /git/: an account reads all repositories. A stranger reads public ones, and cannot detect private ones."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from podserve.waiting import NotYet, wait_until
from tests.acceptance.web.test_http import ask_as_written
from tests.acceptance.web.test_webdav_shares import ESCAPES
from tests.testbed.git import Git, Repository, give, make, serve
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.vantage import first_process

ACTIONS = (
    *("blame", "blame_data", "blame_incremental", "blob", "blob_plain", "blobdiff", "blobdiff_plain", "commit"),
    *("commitdiff", "commitdiff_plain", "forks", "heads", "history", "log", "object", "patch", "patches", "remotes"),
    *("search", "search_help", "shortlog", "snapshot", "summary", "tag", "tags", "tree", "rss", "atom"),
)
"""All of GitWeb's actions on a repository."""


@pytest.fixture(scope="module")
def hidden(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A private repository that no test changes."""
    return make(test_pod, tmp_path_factory.mktemp("hidden") / "work")


@pytest.fixture(scope="module")
def shown(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A public repository that no test changes."""
    return make(test_pod, tmp_path_factory.mktemp("shown") / "work", public=True)


def _repeated(client: httpx.Client, path: str) -> list[httpx.Response]:
    """Return the answers to so many requests for one address that most of GitWeb's workers answer."""
    return [client.get(path) for _ in range(24)]


@contextmanager
def _without_objects(repository: Repository) -> Iterator[None]:
    """Hide the commits and files of a repository from git. Its branches and settings stay as they are."""
    objects = repository.folder / "objects"
    moved = {place: repository.work.parent / f"objects-{place.name}" for place in objects.iterdir()}
    for place, away in moved.items():
        shutil.move(place, away)
    try:
        yield
    finally:
        for place, away in moved.items():
            shutil.move(away, place)
        give(objects)


def test_the_list_shows_a_login_every_repository(
    test_pod: PodUnderTest, alice: Account, private: Repository, public: Repository
) -> None:
    with test_pod.server.http(alice) as client:
        page = client.get("/git/")
    assert page.status_code == 200
    assert {private.name, public.name} <= set(re.findall(r'href="/git/([^/"?]+)"', page.text))
    assert f"<title>{test_pod.server.domain} git</title>" in page.text


@pytest.mark.parametrize("path", ["/git/", "/git/?a=project_index", "/git/?a=opml", "/git/?o=project", "/git/?s=git"])
def test_the_list_shows_a_stranger_the_public_repositories_alone(
    test_pod: PodUnderTest, private: Repository, public: Repository, path: str
) -> None:
    with test_pod.server.http() as client:
        page = client.get(path)
    assert page.status_code == 200
    assert public.name in page.text
    assert private.name not in page.text


def test_many_pages_in_a_row_are_all_served(test_pod: PodUnderTest, public: Repository) -> None:
    with test_pod.server.http() as client:
        assert {client.get(f"/git/{public.name}/tree").status_code for _ in range(450)} == {200}


@pytest.mark.alone
def test_more_readers_at_once_than_processes_are_all_served_and_seldom_wait(
    test_pod: PodUnderTest, public: Repository
) -> None:
    def read(_: int) -> float:
        """Return the median time (s) of ten requests."""
        with test_pod.server.http() as client:
            pages = [client.get(f"/git/{public.name}") for _ in range(10)]
        assert {page.status_code for page in pages} == {200}
        return sorted(page.elapsed.total_seconds() for page in pages)[5]

    with ThreadPoolExecutor(16) as pool:
        typical = max(pool.map(read, range(16)))
    # With a queue that is polled once a second, such as mod_fcgid's, the readers wait longer.
    assert typical < 0.8


@pytest.mark.parametrize("branch", ["main", "feature/of/mine"])
def test_the_list_tells_at_once_when_something_was_pushed(
    test_pod: PodUnderTest, alice: Account, tmp_path: Path, branch: str
) -> None:
    old = Git(test_pod.server, environment={"GIT_COMMITTER_DATE": f"{int(time.time()) - 3600 * 24 * 1000} +0000"})
    old.commit(tmp_path / "work", "Old", {"file.txt": b"old"})
    name = f"{token()}.git"
    serve(tmp_path / "work", test_pod.folder("web") / "git" / name)
    git = Git(test_pod.server, alice)

    def changed(client: httpx.Client) -> set[str]:
        """Return the ages of the last change that GitWeb's workers show."""
        row = rf'href="/git/{name}">(?:(?!</tr>).)*<td class="age\d">([^<]*)</td>'
        return {re.findall(row, client.get("/git/").text, re.DOTALL)[0] for _ in range(8)}

    with test_pod.server.http(alice) as client:
        assert changed(client) == {"2 years ago"}
        git.commit(tmp_path / "work", "New", {"file.txt": b"new"})
        git.run("-C", str(tmp_path / "work"), "push", "--quiet", git.url(name), f"HEAD:refs/heads/{branch}")
        assert all(re.search(r"sec ago|right now", age) for age in changed(client))


def test_a_summary_tells_at_once_of_what_was_pushed(
    test_pod: PodUnderTest, alice: Account, private: Repository
) -> None:
    git = Git(test_pod.server, alice, environment={"GIT_COMMITTER_DATE": "978307200 +0000"})
    word, last_change = token(), r'id="metadata_lchange">.*Mon, 1 Jan 2001 00:00:00 \+0000'
    with test_pod.server.http(alice) as client:

        def pages() -> set[str]:
            """Return the summaries that GitWeb's workers show."""
            return {client.get(f"/git/{private.name}").text for _ in range(16)}

        assert not any(word in page or re.search(last_change, page) for page in pages())
        git.commit(private.work, f"Say {word}", {"file.txt": b"new"})
        git.run("-C", str(private.work), "push", "--quiet", git.url(private.name), "main", f"main:refs/tags/{word}1")
        assert all(page.count(word) >= 2 and re.search(last_change, page) for page in pages())


def test_a_commit_is_shown_with_its_message_and_what_it_changed(
    test_pod: PodUnderTest, alice: Account, private: Repository
) -> None:
    with test_pod.server.http(alice) as client:
        log = client.get(f"/git/{private.name}/log")
        commit = client.get(f"/git/{private.name}/commitdiff/{private.commit}")
        file = client.get(f"/git/{private.name}/blob_plain/main:/file.txt")
    assert private.commit in log.text
    assert private.message in log.text
    assert private.message in commit.text
    assert private.content in commit.text
    assert (file.status_code, file.text) == (200, private.content)


def test_pages_find_their_style_sheets_pictures_and_scripts(test_pod: PodUnderTest, public: Repository) -> None:
    with test_pod.server.http() as client:
        page = client.get(f"/git/{public.name}/log").text
        files = set(re.findall(r'(?:href|src)="(/(?:podserve|git/static)/[^"]+)"', page))
        answers = {path: client.get(path) for path in files}
    assert {path.rpartition(".")[2] for path in files} >= {"css", "js", "png"}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(files, 200)


def test_a_repository_that_is_not_there_is_not_found(
    test_pod: PodUnderTest, alice: Account, private: Repository
) -> None:
    with test_pod.server.http(alice) as client:
        for form in ("/git/?p={};a=log", "/git/{}", "/git/{}/log"):
            assert client.get(form.format(private.name)).status_code == 200
            assert client.get(form.format(f"{token()}.git")).status_code == 404


def test_a_folder_elsewhere_is_not_shown(test_pod: PodUnderTest, alice: Account, private: Repository) -> None:
    elsewhere = test_pod.folder("web") / "dav" / private.name
    private.folder.rename(elsewhere)
    with test_pod.server.http(alice) as client:
        for project in (f"../dav/{private.name}", f"/data/web/dav/{private.name}"):
            answer = client.get("/git/", params={"p": project, "a": "log"})
            assert answer.status_code == 404
            assert private.message not in answer.text


def test_what_lies_in_the_folder_and_is_no_repository_of_it_is_not_served(
    test_pod: PodUnderTest, alice: Account, public: Repository
) -> None:
    git, word = test_pod.folder("web") / "git", token()
    serve(public.work, test_pod.folder("web") / "dav" / f"{word}.git", public=True)
    (git / f"{word}link.git").symlink_to(f"../dav/{word}.git")
    serve(public.work, git / f"{word}bare", public=True)
    serve(public.work, git / f"{word}work" / ".git", public=True)
    (git / f"{word}empty.git").mkdir()
    give(git / f"{word}work")
    names = [f"{word}link.git", f"{word}bare", f"{word}work", f"{word}work/.git", f"{word}empty.git"]
    forms = ("/git/{}", "/git/{}/log", "/git/?p={};a=log", "/git/{}/info/refs?service=git-upload-pack")
    paths = [form.format(name) for form in forms for name in names]
    # A page's address without .git is redirected to the address with it, whatever is there.
    bare = [f"/git/{word}bare", f"/git/{word}work"]
    paths = [*(path for path in paths if path not in bare), *(f"{path}.git" for path in bare)]
    with test_pod.server.http(alice) as client:
        assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, 404)
        assert {path: client.get(path).status_code for path in bare} == dict.fromkeys(bare, 301)
        assert word not in client.get("/git/").text


ASKED = [
    *(
        "/git/{}",
        "/git/{}/",
        "/git//{}/log",
        "/git/{}//log",
        "/git/./{}/log",
        "/git/%2e/{}/log",
        "/git/x/%2e%2e/{}/log",
    ),
    *("/git/{}/info/refs", "/git/{}/info/refs?service=git-upload-pack", "/git/{}/info/refs?service=git-receive-pack"),
    *("/git/{}/HEAD", "/git/{}/config", "/git/{}/description", "/git/{}/git-daemon-export-ok", "/git/{}/packed-refs"),
    *("/git/{}/objects/info/packs", "/git/{}/refs/heads/main", "/git/{}/git-upload-pack", "/git/{}/hooks/"),
    *("/git/{}/main:/file.txt", "/git/{}/main", "/git/{}/main..main", "/git/{}/snapshot/main.tar.gz"),
    *(f"/git/{{}}/{action}" for action in ACTIONS),
    *(f"/git/{{}}/{action}/main:/file.txt" for action in ACTIONS),
    *(f"/git/?p={{}};a={action}" for action in ACTIONS),
    *(
        "/git/?p={}",
        "/git/?a=log;p={}",
        "/git/?a=log&p={}",
        "/git/;p={}",
        "/git/?p=/{}",
        "/git/?p=%2F{}",
        "/git/?p={}/",
    ),
    *("/git/?p=%2e/{}", "/git/?p=./{}", "/git/?p=x/../{}", "/git/?p=../git/{}", "/git/?p=..%2fgit%2f{}"),
    *("/git/?p=%2Fdata%2Fweb%2Fgit%2F{}", "/git/?p=//{}", "/git/?p={}%00", "/git/?p={}%2F%2F", "/git/?p={}%20"),
    *("/git/?p={}/objects", "/git/?p={}/refs/..", "/git/?p={};p={}", "/git/?p={};a=log;h=main;hb=main;f=file.txt"),
    *(
        "/git/?p={};a=blob_plain;hb=main;f=../config",
        "/git/?p={};a=blob_plain;f=/etc/passwd",
        "/git/?p={};a=snapshot;sf=tgz",
    ),
    *(
        "/git/?p={};a=log;h=--output=/tmp/x",
        "/git/?p={};a=search;s=Say;st=grep",
        "/git/?p={};o=age",
        "/git/?p={};s=Say",
    ),
    *(
        "/git/?pf={}",
        "/git/?pf={};a=project_index",
        "/git/?pf={};a=opml",
        "/git/?pf={};a=project_list",
        "/git/?pf={}/refs",
    ),
]
"""Requests for a repository to GitWeb, git's own server or Apache. A stranger must see nothing of a private one."""


VARYING = {"date", "connection", "content-length", "keep-alive", "upgrade"}
"""Headers that depend on the time or the connection, and the length of the body, which is compared itself."""


def comparable(answer: httpx.Response, name: str) -> tuple[int, list[tuple[str, str]], str]:
    """Return the status, headers and body of a response, without times, and with NAME for the repository's name."""
    headers = [(header, text.replace(name, "NAME")) for header, text in answer.headers.items() if header not in VARYING]
    # A list shows how long ago each repository changed. This text, and its length, may differ between two requests.
    body = re.sub(r"\d+ (sec|min)\w* ago| right now", "AGO", answer.text.replace(name, "NAME"))
    return answer.status_code, sorted(headers), body


def same_for_a_private_and_for_none(test_pod: PodUnderTest, hidden: Repository, form: str, method: str = "GET") -> int:
    """Check that a stranger gets the same response for a private repository and a missing one; return its status."""
    missing = f"{token()}.git"
    with test_pod.server.http() as client:
        private = client.request(method, form.format(*[hidden.name] * 2))
        none = client.request(method, form.format(*[missing] * 2))
    assert comparable(private, hidden.name) == comparable(none, missing)
    for secret in (hidden.message, hidden.content, hidden.commit):
        assert secret not in private.text
    return private.status_code


@pytest.mark.parametrize("form", ASKED)
@pytest.mark.usefixtures("shown")
def test_a_stranger_is_asked_to_log_in_for_a_private_repository_as_for_none(
    test_pod: PodUnderTest, hidden: Repository, form: str
) -> None:
    assert same_for_a_private_and_for_none(test_pod, hidden, form) == 401


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("form", ["/git/{}/log", "/git/{}/git-upload-pack", "/git/{}/git-receive-pack"])
def test_no_method_tells_a_stranger_a_private_repository_from_none(
    test_pod: PodUnderTest, hidden: Repository, form: str, method: str
) -> None:
    looked_at = form.endswith("/log") and method != "HEAD"
    assert same_for_a_private_and_for_none(test_pod, hidden, form, method) == (405 if looked_at else 401)


@pytest.mark.parametrize(
    "form",
    [
        *("/git/%2f{}/log", "/git/%2F{}", "/git/?s={}", "/git/?a=project_index;s={}", "/git?p={}", "/git/?by_tag={}"),
        *("/git/static/{}", "/git/static/../{}/log%00"),
    ],
)
@pytest.mark.usefixtures("shown")
def test_no_other_way_tells_a_stranger_a_private_repository_from_none(
    test_pod: PodUnderTest, hidden: Repository, form: str
) -> None:
    same_for_a_private_and_for_none(test_pod, hidden, form)


@pytest.mark.parametrize(
    "form",
    [
        *("/git/{shown}/?p={hidden}", "/git/{shown}/log?p={hidden};a=log", "/git/?p={shown};p={hidden}"),
        *(
            "/git/{shown}/%2e%2e/{hidden}/log",
            "/git/{shown}/?a=log&p=../git/{hidden}",
            "/git/{shown}/?p={shown}/../{hidden}",
        ),
        *("/git/{shown}/..%2f{hidden}/log", "/git/?p={shown};f=../{hidden}/config;a=blob_plain;hb=main"),
        *("/git/?p={shown};pf={hidden}", "/git/{shown}/blob_plain/main:/../../{hidden}/config"),
    ],
)
def test_a_public_repository_is_no_way_to_a_private_one(
    test_pod: PodUnderTest, hidden: Repository, shown: Repository, form: str
) -> None:
    assert same_for_a_private_and_for_none(test_pod, hidden, form.format(shown=shown.name, hidden="{}")) < 500


@pytest.mark.parametrize("query", ["", "?a=log", "?p={shown}"])
def test_gitweb_is_sent_nothing(test_pod: PodUnderTest, hidden: Repository, shown: Repository, query: str) -> None:
    missing, address = f"{token()}.git", f"/git/{query.format(shown=shown.name)}"
    with test_pod.server.http() as client:
        private, none, open_ = (client.post(address, data={"p": name}) for name in (hidden.name, missing, shown.name))
        large = client.request("GET", address, content=b"p" * 10_000_000)
    assert comparable(private, hidden.name) == comparable(none, missing)
    assert {answer.status_code for answer in (private, none, open_)} == {405}
    assert large.status_code == 413


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_who_sends_slowly_keeps_nobody_from_gitweb(test_pod: PodUnderTest, shown: Repository, method: str) -> None:
    head = f"{method} /git/ HTTP/1.1\r\nHost: {test_pod.server.domain}\r\nContent-Length: 1000000\r\n\r\np="
    with contextlib.ExitStack() as held, test_pod.server.http() as client:
        for _ in range(12):
            connection = socket.create_connection((test_pod.server.host, 443), timeout=10)
            sender = held.enter_context(
                test_pod.server.context().wrap_socket(connection, server_hostname=test_pod.server.domain)
            )
            sender.sendall(head.encode())
        page = client.get(f"/git/{shown.name}")
    assert page.status_code == 200
    assert page.elapsed.total_seconds() < 2


@pytest.mark.parametrize(
    "form",
    [
        *(
            "/git/{}",
            "/git/{}/log",
            "/git/{}/main:/file.txt",
            "/git/?p={}",
            "/git/?p={};a=tree",
            "/git/{}/rss",
            "/git/{}/atom",
        ),
        *("/git/{}/commit/main", "/git/{}/snapshot/main.tar.gz", "/git/{}/info/refs?service=git-upload-pack"),
        "/git/{}/blame/main:/file.txt",
    ],
)
def test_a_stranger_reads_a_public_repository_and_a_login_a_private_one(
    test_pod: PodUnderTest, alice: Account, hidden: Repository, shown: Repository, form: str
) -> None:
    for account, repository in ((None, shown), (alice, hidden), (alice, shown)):
        with test_pod.server.http(account) as client:
            assert client.get(form.format(repository.name)).status_code == 200


def test_a_repository_that_is_hidden_is_private_at_once_and_public_when_published(
    test_pod: PodUnderTest, public: Repository
) -> None:
    mark = public.folder / "git-daemon-export-ok"
    with test_pod.server.http() as client:
        for here, status in ((True, 200), (False, 401), (True, 200)):
            mark.touch() if here else mark.unlink()
            assert client.get(f"/git/{public.name}/log").status_code == status
            assert client.get(f"/git/?p={public.name}").status_code == status


def test_a_kept_page_is_private_at_once_when_its_repository_is(test_pod: PodUnderTest, public: Repository) -> None:
    # Apache itself reads no repository's name from the query, so GitWeb alone decides about these addresses.
    paths = [f"/git/?p={public.name};a=blob;f=file.txt;hb=main", f"/git/?p={public.name}"]
    with test_pod.server.http() as client:
        assert {page.status_code for path in paths for page in _repeated(client, path)} == {200}
        assert all(public.name in page.text for page in _repeated(client, "/git/"))
        (public.folder / "git-daemon-export-ok").unlink()
        pages = [page for path in paths for page in _repeated(client, path)]
        assert not any(public.name in page.text for page in _repeated(client, "/git/"))
    assert {page.status_code for page in pages} == {401}
    assert not any(secret in page.text for page in pages for secret in (public.content, public.message))


def test_a_page_is_kept_for_the_reader_who_has_read_it_and_for_nobody_else(
    test_pod: PodUnderTest, alice: Account, bob: Account, public: Repository
) -> None:
    path = f"/git/{public.name}/blob/main:/file.txt"
    with test_pod.server.http(alice) as reader, test_pod.server.http(bob) as other, test_pod.server.http() as stranger:
        assert all(public.content in page.text for page in _repeated(reader, path))
        with _without_objects(public):
            assert any(public.content in page.text for page in _repeated(reader, path))
            for client in (other, stranger):
                assert {page.status_code for page in _repeated(client, path)} == {404}


def test_kept_pages_show_each_change_at_once(test_pod: PodUnderTest, alice: Account, private: Repository) -> None:
    git, content, description = Git(test_pod.server, alice), token(), token()
    path = f"/git/{private.name}/blob/HEAD:/file.txt"
    with test_pod.server.http(alice) as client:
        assert all(private.content in page.text for page in _repeated(client, path))
        git.commit(private.work, "Change", {"file.txt": content.encode()})
        git.run("-C", str(private.work), "push", "--quiet", git.url(private.name), "main")
        assert all(content in page.text for page in _repeated(client, path))
        for page in (path, "/git/"):
            assert not any(description in answer.text for answer in _repeated(client, page))
        (private.folder / "description").write_text(description)
        for page in (path, "/git/"):
            assert all(description in answer.text for answer in _repeated(client, page))


def test_an_incomplete_page_is_not_kept(test_pod: PodUnderTest, public: Repository) -> None:
    path = f"/git/{public.name}"
    with test_pod.server.http() as client:
        with _without_objects(public):
            assert not any(public.message in page.text for page in _repeated(client, path))
        assert all(public.message in page.text for page in _repeated(client, path))


@pytest.mark.parametrize("asks", ["a=nonsense", "h={commit}", "hb=main;f=file.txt", "hb=main;f={none}", "pg=x", "s=x",
                                  "h=main", "a=log;h=main", "p=", "opt=--x", "f=..", "st=X"])  # fmt: skip
def test_an_error_shows_a_stranger_nothing_of_what_was_asked_for_before(
    test_pod: PodUnderTest, alice: Account, hidden: Repository, shown: Repository, asks: str
) -> None:
    path = f"/git/?{asks.format(commit=hidden.commit, none=token())}"
    with test_pod.server.http() as stranger, test_pod.server.http(alice) as login:
        assert login.get(f"/git/{shown.name}/blob/main:/file.txt").status_code == 200
        before = stranger.get(path)
        assert login.get(f"/git/{hidden.name}/blob/main:/file.txt").status_code == 200
        after = stranger.get(path)
    assert (after.status_code, after.text) == (before.status_code, before.text)
    assert hidden.name not in after.text


def test_a_wrong_password_is_refused_for_public_pages_too(server: Server, alice: Account) -> None:
    with server.http(Account(alice.address, f"{alice.password}x")) as client:
        assert client.get("/git/").status_code == 401
        assert client.get("/git/static/gitweb.css").status_code == 401


def test_no_password_is_asked_for_over_plain_http(server: Server, alice: Account) -> None:
    for account in (None, alice):
        with server.http(account, port=80) as client:
            answer = client.get("/git/login?x")
        assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{server.domain}/git/login?x")
        assert "WWW-Authenticate" not in answer.headers


def test_the_address_without_its_slash_leads_to_the_list(server: Server, alice: Account) -> None:
    with server.http(alice) as client:
        answer = client.get("/git")
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{server.domain}/git/")


def test_the_way_in_asks_for_a_login(server: Server) -> None:
    with server.http() as client:
        for path in ("/git/login", "/git/login?x.git/log"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (
                401,
                'Basic realm="PodServe", charset="UTF-8"',
            )


def log_in_link(page: httpx.Response) -> str:
    """Return the target of a page's link to log in."""
    (link,) = re.findall(r'<a href="(/git/login[^"]*)">log in</a>', page.text)
    return unescape(link)


@pytest.mark.parametrize(
    "rest",
    [
        *("", "{}", "{}/log", "?p={};a=log", "?p={}&a=log", "{}/blob/main:/file.txt?x=%22%3E", "?o=age"),
        *("{}/search?s=a%2Fb;st=commit", "?s=%3Cscript%3Ealert(1)%3C/script%3E"),
    ],
)
def test_the_way_in_leads_back_to_the_page_it_was_taken_from(
    test_pod: PodUnderTest, alice: Account, shown: Repository, rest: str
) -> None:
    path = f"/git/{rest.format(shown.name)}"
    with test_pod.server.http() as stranger, test_pod.server.http(alice) as login:
        page = stranger.get(path)
        answer = login.get(log_in_link(page))
        assert "/git/login" not in login.get(path).text
    assert page.status_code == 200
    assert "<script>alert(1)" not in page.text
    assert (answer.status_code, answer.headers["Location"]) == (303, f"https://{test_pod.server.domain}{path}")


@pytest.mark.parametrize(
    "query",
    [
        *(
            "//example.com",
            "https://example.com/",
            "/%5c%5cexample.com",
            r"\\example.com",
            "@example.com",
            "..//example.com/",
        ),
        *("%0d%0aX-Evil:%201", "%0aX-Evil: 1", ".example.com/", "%2f%2fexample.com", ":80/", "?//example.com"),
    ],
)
def test_the_way_in_never_leads_to_another_host(server: Server, alice: Account, query: str) -> None:
    with server.http(alice) as client:
        answer = client.get(f"/git/login?{query}")
    if answer.status_code == 400:
        return
    location = answer.headers["Location"]
    assert answer.status_code == 303
    assert location.startswith(f"https://{server.domain}/git/")
    assert urlsplit(location).netloc == server.domain
    assert "X-Evil" not in answer.headers


@pytest.mark.parametrize("path", ["/git/gitweb.cgi", "/git/gitweb.fcgi", "/git/index.cgi", "/git/static/../gitweb.cgi",
                                  "/git/static/gitweb.cgi", "/gitweb/", "/gitweb/gitweb.cgi", "/gitweb.cgi",
                                  "/cgi-bin/gitweb.cgi", "/git-http-backend", "/git/git-http-backend"])  # fmt: skip
def test_gitwebs_source_is_not_served(server: Server, alice: Account, path: str) -> None:
    with server.http(alice) as client:
        text = client.get(path).text
    assert "/usr/bin/perl" not in text
    assert "sub git_project_list" not in text


@contextmanager
def no_repositories(test_pod: PodUnderTest) -> Iterator[None]:
    """Move all repositories away during the body."""
    git, aside = test_pod.folder("web") / "git", test_pod.folder("web") / token()
    git.rename(aside)
    try:
        git.mkdir()
        yield
    finally:
        git.rmdir()
        aside.rename(git)


def test_without_any_repository_a_login_reads_how_to_add_one_and_a_stranger_is_asked_for_one(
    test_pod: PodUnderTest, alice: Account
) -> None:
    with no_repositories(test_pod), test_pod.server.http(alice) as login, test_pod.server.http() as stranger:
        page, refused = login.get("/git/"), stranger.get("/git/")
    assert page.status_code == 200
    assert "invoke repos.add" in page.text
    assert refused.status_code == 401


class Markup(HTMLParser):
    """The parts of a page that a browser interprets: the names of elements and attributes, scripts and style sheets."""

    def __init__(self, page: str) -> None:
        """Parse a page."""
        super().__init__()
        self.acts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the names of an element and its attributes."""
        self.acts += [tag, *(name for name, _ in attrs)]

    def handle_data(self, data: str) -> None:
        """Keep the text of a script or a style sheet."""
        if self.cdata_elem:
            self.acts.append(data)


@pytest.fixture
def hostile(test_pod: PodUnderTest, tmp_path: Path) -> tuple[str, str]:
    """The name of a public repository with markup in all names and texts, and the word that identifies this markup."""
    word, work, folder = token(), tmp_path / "hostile", test_pod.folder("web") / "git" / f"{token()}.git"
    evil = f"""'"><{word} on{word}="1"><script>{word}<"""
    git = Git(
        test_pod.server, environment={"GIT_AUTHOR_NAME": f'"><script>{word}', "GIT_AUTHOR_EMAIL": f'"{word}"><{word}'}
    )
    line = f"{evil}\n".encode()
    git.commit(work, "First", {"file.txt": b"First\n", evil.replace("/", ""): b"First\n", "page.py": b"First\n"})
    git.commit(work, f"{evil}\n\n]]>{evil}", {"file.txt": line, evil: line, "page.py": line})
    for kind in ("branch", "tag"):
        git.run("-C", str(work), kind, f"""'"><{word}on{word}="1"><script>{word}""")
    git.run("-C", str(work), "tag", "-a", "-m", evil, "told")
    git.run("-C", str(work), "tag", "old", "main~1")
    serve(work, folder, public=True)
    (folder / "description").write_text(evil)
    return folder.name, word


def test_what_was_pushed_never_becomes_markup(test_pod: PodUnderTest, hostile: tuple[str, str]) -> None:
    name, word = hostile
    pages = ["", "/log", "/shortlog", "/commit/main", "/commitdiff/main", "/tree/main", "/blob/main:/file.txt", "/tags"]
    pages += ["/blob/main:/page.py", "/blame/main:/file.txt", "/history/main:/file.txt", "/heads", "/tag/told"]
    pages += [
        "/blobdiff/old..main:/file.txt",
        f"/search?s={word};st=commit",
        f"/search?s={word};st=grep",
        "/rss",
        "/atom",
    ]
    with test_pod.server.http() as client:
        for path in ["", *(f"{name}{page}" for page in pages)]:
            answer = client.get(f"/git/{path}")
            assert answer.status_code == 200, path
            assert word in answer.text, path
            assert not [act for act in Markup(answer.text).acts if word in act], path


PLAIN, SVG = "text/plain; charset=utf-8", "image/svg+xml"
FILES = {
    "x.html": ("<script>alert(1)</script>", PLAIN),
    "x.xhtml": ('<html xmlns="http://www.w3.org/1999/xhtml"/>', PLAIN),
    "x.xml": ('<?xml-stylesheet href="x.xsl"?><a/>', PLAIN),
    "x.js": ("alert(1)", PLAIN),
    "x.py": ("'é'", PLAIN),
    "x": ("<!DOCTYPE html><script>alert(1)</script>", PLAIN),
    "x.svg": ('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', SVG),
}


def test_a_file_of_a_repository_does_not_act_as_the_one_who_reads_it(
    test_pod: PodUnderTest, alice: Account, tmp_path: Path
) -> None:
    name, work = f"{token()}.git", tmp_path / "work"
    Git(test_pod.server).commit(work, "Add", {file: content.encode() for file, (content, _) in FILES.items()})
    serve(work, test_pod.folder("web") / "git" / name)
    with test_pod.server.http(alice) as client:
        page = client.get(f"/git/{name}/log").headers["Content-Security-Policy"].split("; ")
        assert "sandbox allow-scripts allow-forms allow-downloads" in page
        for file, (content, kind) in FILES.items():
            for path in (f"{name}/blob_plain/main:/{file}", f"{name}/main:/{file}", f"?p={name};a=blob_plain;f={file}"):
                answer = client.get(f"/git/{path}", headers={"Accept": "text/html"})
                assert (answer.status_code, answer.text) == (200, content), path
                assert answer.headers["Content-Type"].startswith(kind), path
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "sandbox" in answer.headers["Content-Security-Policy"].split("; ")
                assert kind == PLAIN or answer.headers["Content-Disposition"].startswith("attachment")


def test_a_link_and_a_submodule_are_shown_and_not_followed(test_pod: PodUnderTest, tmp_path: Path) -> None:
    git, work, name = Git(test_pod.server), tmp_path / "work", f"{token()}.git"
    git.commit(work, "First", {"file.txt": b"First\n"})
    (work / "link").symlink_to("/etc/passwd")
    (work / "up").symlink_to("../../../etc")
    git.run("-C", str(work), "add", "--all")
    git.run("-C", str(work), "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    git.run("-C", str(work), "commit", "-q", "-m", "Link")
    serve(work, test_pod.folder("web") / "git" / name, public=True)
    with test_pod.server.http() as client:
        tree = client.get(f"/git/{name}/tree/main").text
        link = client.get(f"/git/{name}/blob_plain/main:/link")
        beyond = [client.get(f"/git/{name}/{way}/main:/up/passwd") for way in ("blob", "blob_plain", "history")]
    assert "m---------" in tree
    assert "module" in tree
    assert "lrwxrwxrwx" in tree
    assert (link.status_code, link.text) == (200, "/etc/passwd")
    assert not [answer for answer in beyond if "root:" in answer.text]


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("begin", ["/git/", "/git/static/", "/git/{}/"])
def test_no_path_leads_out_in_any_encoding(
    test_pod: PodUnderTest, alice: Account, shown: Repository, begin: str, escape: str
) -> None:
    # The status is not checked, because GitWeb may answer with a page of its own.
    name, secret = token(), token()
    (test_pod.folder("web") / "acme" / name).write_text(secret)
    for times, target, mark in ((1, f"acme/{name}", secret), (2, f"acme/{name}", secret), (8, "etc/passwd", "root:")):
        for account in (None, alice):
            answer = ask_as_written(test_pod.server, begin.format(shown.name) + escape * times + target, account)
            assert mark not in answer.read().decode(errors="replace")


def test_a_python_file_is_highlighted_and_each_line_blamed_on_its_commit(
    test_pod: PodUnderTest, tmp_path: Path
) -> None:
    git, work, name = Git(test_pod.server), tmp_path / "work", f"{token()}.git"
    first = git.commit(work, "First", {"file.py": b"def answer():\n    return 41\n"})
    second = git.commit(work, "Second", {"file.py": b"def answer():\n    return 42\n"})
    serve(work, test_pod.folder("web") / "git" / name, public=True)
    with test_pod.server.http() as client:
        blob = client.get(f"/git/{name}/blob/main:/file.py").text
        blame = client.get(f"/git/{name}/blame/main:/file.py").text
    assert '<span class="hl kwa">def</span>' in blob
    assert '<span class="hl num">42</span>' in blob
    assert re.findall(r'<td class="sha1"[^>]*><a href="[^"]*/commit/(\w+)\?', blame) == [first, second]


def test_an_option_is_not_taken_for_a_commit(test_pod: PodUnderTest, public: Repository) -> None:
    target = f"/tmp/{token()}"  # noqa: S108  # in the container
    with test_pod.server.http() as client:
        for action in ("log", "commit", "tree", "blob", "search;s=Say", "patch", "snapshot;sf=tgz", "blame;f=file.txt"):
            for parameter in ("h", "hb", "hp", "hpb"):
                answer = client.get(f"/git/?p={public.name};a={action};{parameter}=--output={target}")
                assert answer.status_code < 500
    assert not test_pod.exec("apache", "test", "-e", target, check=False).ok


def test_an_option_is_not_taken_from_what_is_searched_for(test_pod: PodUnderTest, tmp_path: Path) -> None:
    work, name, root = tmp_path / "work", f"{token()}.git", "root:x:0:0:root:/root:/bin/bash"
    Git(test_pod.server).commit(work, "First", {"users": f"{root}\n-f/etc/passwd\n".encode()})
    assert root in test_pod.exec("apache", "cat", "/etc/passwd").stdout
    serve(work, test_pod.folder("web") / "git" / name, public=True)
    with test_pod.server.http() as client:
        page = client.get(f"/git/{name}/search?st=grep;s=-f/etc/passwd")
    assert page.status_code == 200
    assert '-<span class="match">f/etc/passwd</span>' in page.text
    assert root not in page.text


def _gitweb_processes(test_pod: PodUnderTest) -> set[str]:
    """Return GitWeb's workers, as folders of this host's /proc."""
    found = set()
    for process in test_pod.processes("apache"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            if (process / "comm").read_text() == "perl-fcgi\n":
                found.add(str(process))
    return found


def test_one_process_answers_many_requests_errors_among_them(
    test_pod: PodUnderTest, alice: Account, public: Repository
) -> None:
    with test_pod.server.http(alice) as client, test_pod.server.http() as stranger:
        assert client.get("/git/").status_code == 200
        first = _gitweb_processes(test_pod)
        assert {client.get(f"/git/{public.name}/log").status_code for _ in range(5)} == {200}
        assert {client.get("/git/?a=nonsense").status_code for _ in range(5)} == {400}
        assert {stranger.get(f"/git/?p={token()}").status_code for _ in range(5)} == {401}
    assert first
    assert _gitweb_processes(test_pod) <= first


@pytest.mark.parametrize(
    "command",
    ["pkill -KILL perl-fcgi-pm", "pkill -TERM perl-fcgi-pm", "pkill -TERM perl-fcgi", "pkill -USR1 -o apache2"],
)
def test_nobody_is_turned_away_while_gitwebs_processes_are_replaced(
    test_pod: PodUnderTest, public: Repository, command: str
) -> None:
    def read(number: int) -> int:
        if number % 40 == 20:
            test_pod.exec("apache", *command.split(), check=False)  # the next manager may not run yet
        with test_pod.server.http() as client:
            return client.get(f"/git/{public.name}").status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(read, range(120))) == {200}

    _wait_for_all(test_pod)


@pytest.mark.parametrize("victim", ["perl-fcgi", "perl-fcgi-pm"])
def test_a_request_that_begins_while_gitweb_is_ended_is_answered(
    test_pod: PodUnderTest, public: Repository, victim: str
) -> None:
    def accepted() -> None:
        """Raise NotYet until a worker has the connection, which is one socket more than the other workers have."""
        counts = [sum(link.readlink().name.startswith("socket:") for link in (Path(process) / "fd").iterdir())
                  for process in _gitweb_processes(test_pod)]  # fmt: skip
        if max(counts) == min(counts):
            raise NotYet(str(counts))

    _wait_for_all(test_pod)
    apache = first_process(test_pod.container("apache"))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(f"/proc/{apache}/root/run/apache2/gitweb")
        wait_until(accepted, 1.5, "a process to accept the connection (after 2 s without a request it is closed)")
        test_pod.exec("apache", "pkill", "-TERM", "-x", victim)
        client.sendall(_request(f"/{public.name}"))
        with client.makefile("rb") as answer:
            assert b"Status: 200 OK" in answer.read()
    _wait_for_all(test_pod)


def _request(path: str) -> bytes:
    """Return the FastCGI request that Apache makes for GET /git`path`.

    https://fastcgi-archives.github.io/FastCGI_Specification.html
    """
    given = {"REQUEST_METHOD": "GET", "REQUEST_URI": f"/git{path}", "SCRIPT_NAME": "/git", "PATH_INFO": path}

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content

    words = b"".join(bytes([len(name), len(word)]) + name.encode() + word.encode() for name, word in given.items())
    begin, parameters, stdin, responder = 1, 4, 5, struct.pack("!HB5x", 1, 0)
    return record(begin, responder) + record(parameters, words) + record(parameters, b"") + record(stdin, b"")


def _wait_for_all(test_pod: PodUnderTest) -> None:
    """Wait until GitWeb has all its workers (/etc/s6/gitweb/run)."""
    expected = 4

    def be_all() -> None:
        with test_pod.server.http() as client:
            assert client.get("/git/").status_code == 200
        if len(_gitweb_processes(test_pod)) != expected:
            raise NotYet(f"{len(_gitweb_processes(test_pod))} processes")

    wait_until(be_all, 10, f"{expected} processes again: those without a parent end at their next request")


@pytest.mark.usefixtures("public")
def test_gitwebs_manager_can_be_ended_while_it_starts(test_pod: PodUnderTest) -> None:
    def seen(process: Path) -> tuple[str, bool]:
        """Return a process's command line, and whether it handles SIGTERM."""
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            status = (process / "status").read_text()
            caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
            return (process / "cmdline").read_text(), bool(caught & 1 << (signal.SIGTERM - 1))
        return "", False

    def ended_one() -> bool:
        """End a manager during its start, which takes 0.1 s. Kill one that has started, so that s6 starts another."""
        for process in test_pod.processes("apache"):
            command, listens = seen(process)
            if command.startswith("perl-fcgi-pm"):
                os.kill(int(process.name), signal.SIGKILL)
            if "gitweb.cgi" in command and listens:
                os.kill(int(process.name), signal.SIGTERM)
                wait_until(partial(gone, process), 5, "the manager to end")
                return True
        return False

    def gone(process: Path) -> None:
        if process.exists():
            raise NotYet("it lives on")

    begin, times = time.monotonic(), 0
    while times < 5:
        times += ended_one()
        assert time.monotonic() < begin + 30, f"{times} managers were seen while they started: expected 5"
    _wait_for_all(test_pod)


@pytest.mark.parametrize(
    "script",
    ["require CGI::Fast; kill TERM => $$; sleep 5", "fork or kill(TERM => $$), sleep 5; wait; exit $? >> 8"],
    ids=["that starts", "that was just forked"],
)
def test_gitwebs_processes_end_at_once_before_they_listen(test_pod: PodUnderTest, script: str) -> None:
    assert test_pod.exec("apache", "timeout", "4", "perl", "-MWorkers=1", "-e", script, check=False).code == 143
