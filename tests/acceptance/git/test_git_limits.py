"""The limits of git and GitWeb, the environment that they start with, and what they write to the log."""

import contextlib
import json
import os
import re
import socket
import ssl
import struct
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from pathlib import Path
from urllib.parse import quote

import pytest

from podserve.waiting import NotYet, wait_until
from tests.acceptance.git.test_git import MEGABYTE, PUSH, command, watched_memory
from tests.testbed.git import Git, Repository, make, serve
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, Account, token
from tests.testbed.vantage import Vantage

PAGE = 20
"""Seconds that a page of GitWeb may take ($page_time in gitweb.conf)."""
AT_ONCE = 24
"""The highest number of concurrent fetches and pushes (in docker/apache's git-http-backend)."""
LEVELS = 8
"""Levels of trees with 10 entries each, which are all the same tree: 100 million paths in 10 objects."""


def _grown(git: Git, work: Path, levels: int, width: int) -> str:
    """Make a commit with `levels` nested trees, each with `width` equal entries, in `work`, and return its hash."""

    def store(kind: str, content: bytes) -> str:
        (work / "object").write_bytes(content)
        return git.run("-C", str(work), "hash-object", "-w", "-t", kind, str(work / "object")).stdout.strip()

    mode, inner = b"100644", store("blob", b"content\n")
    for _ in range(levels):
        entries = b"".join(b"%s n%d\0" % (mode, number) + bytes.fromhex(inner) for number in range(width))
        mode, inner = b"40000", store("tree", entries)
    return git.run("-C", str(work), "commit-tree", "-p", "HEAD", "-m", "Grow", inner).stdout.strip()


@pytest.fixture(scope="module")
def bomb(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A public repository with 100 million paths, pushed by an account. No test changes it."""
    work, git = tmp_path_factory.mktemp("bomb") / "work", Git(test_pod.server, test_pod.new_account())
    made = make(test_pod, work, public=True)
    commit = _grown(git, work, LEVELS, 10)
    git.run("-C", str(work), "push", "--quiet", git.url(made.name), f"{commit}:refs/heads/main")
    return made.name


@pytest.fixture(scope="module")
def long_line(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A public repository with a file of one line of 60 MB. No test changes it."""
    work, name = tmp_path_factory.mktemp("long") / "work", f"{token()}.git"
    Git(test_pod.server).commit(work, "Long", {"file.py": b"a" * 60 * MEGABYTE})
    serve(work, test_pod.folder("web") / "git" / name, public=True)
    return name


@pytest.fixture(scope="module")
def large(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A public repository with a file of 30 MB that does not compress. No test changes it."""
    work, name = tmp_path_factory.mktemp("large") / "work", f"{token()}.git"
    Git(test_pod.server).commit(work, "Large", {"file.bin": os.urandom(30 * MEGABYTE)})
    serve(work, test_pod.folder("web") / "git" / name, public=True)
    return name


def _running(test_pod: PodUnderTest, *names: str) -> list[Path]:
    """Return the processes of these programs in Apache's container, as folders of this host's /proc."""
    found = []
    for process in test_pod.processes("apache"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            if (process / "comm").read_text().strip() in names:
                found.append(process)
    return found


def _none_runs(test_pod: PodUnderTest, timeout: float) -> None:
    """Wait until the programs that GitWeb started have ended. Raises Problem after `timeout` seconds."""

    def ended() -> None:
        if left := _running(test_pod, "git", "gzip", "highlight", "perl", "sh"):
            raise NotYet([(process / "cmdline").read_bytes() for process in left if process.exists()])

    wait_until(ended, timeout, "the programs that GitWeb started to end")


def _end_pages(test_pod: PodUnderTest) -> None:
    """End the programs of pages, each of which may take 20 s, and of the requests that still wait for a worker."""

    def none_is_left() -> None:
        if test_pod.exec("apache", "pkill", "-x", "git", check=False).ok:
            raise NotYet("git runs")

    wait_until(none_is_left, PAGE, "the pages to end")
    _none_runs(test_pod, 10)


@contextlib.contextmanager
def _connected(test_pod: PodUnderTest, text: str) -> Iterator[ssl.SSLSocket]:
    """Yield a TLS connection on which `text`, the beginning of a request, has been sent."""
    plain = socket.create_connection((test_pod.server.host, 443), timeout=PATIENCE)
    with test_pod.server.context().wrap_socket(plain, server_hostname=test_pod.server.domain) as connection:
        connection.sendall(text.encode())
        yield connection


HOLD = """
import json, os, socket, ssl, sys, time
from contextlib import ExitStack
os.nice(19)  # this client would have a machine of its own
source, host, domain, path, many, seconds, rate = json.loads(sys.argv[1])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
end = time.monotonic() + seconds
with ExitStack() as stack:
    def ask():
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(30)
        plain.bind((source, 0))
        plain.connect((host, 443))
        client = stack.enter_context(context.wrap_socket(plain, server_hostname=domain))
        client.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {domain}\\r\\n\\r\\n".encode())
        client.settimeout(0.01)
        return client
    clients = [ask() for _ in range(many)]
    while time.monotonic() < end:
        for number, client in enumerate(clients):
            try:
                over = not client.recv(rate)
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            except OSError:
                over = True
            if over:
                client.close()
                clients[number] = ask()
        time.sleep(0.05)
print(json.dumps(len(clients)))
"""
"""A client with many requests at once, each of which it reads slowly, and repeats when it has been answered."""
SOON = 2.0
"""Seconds within which others get a page, whatever one client does."""
SHORT, LONG, LONG_OF_ONE = 4, 24, 8
"""GitWeb's workers, and the long requests beside them, of all clients and of one (docker/apache's Workers.pm)."""
EMPTY = b"PACK" + struct.pack(">II", 2, 0)
EMPTY += sha1(EMPTY, usedforsecurity=False).digest()
"""A pack without objects."""
FORGED = "Proxy: http://192.0.2.1/\r\nLD-PRELOAD: /data/web/dav/x.so\r\nGIT-TRACE: /data/web/dav/x\r\nX-Made-Up: 1\r\n"
"""Headers of a client that a program could take for its own environment variables."""
GIT_READS = {
    *("PATH", "GIT_PROJECT_ROOT", "GIT_HTTP_EXPORT_ALL", "GIT_CONFIG_COUNT", "REQUEST_METHOD", "PATH_INFO"),
    *(f"GIT_CONFIG_{part}_{number}" for part in ("KEY", "VALUE") for number in (0, 1, 2)),
    *(
        "QUERY_STRING",
        "SERVER_PROTOCOL",
        "CONTENT_TYPE",
        "HTTP_CONTENT_ENCODING",
        "HTTP_GIT_PROTOCOL",
    ),
    *("REMOTE_USER", "REMOTE_ADDR"),
}


def _environment_of(test_pod: PodUnderTest, program: str, word: str = "") -> dict[str, str]:
    """Wait for a program with this word in its command line, and return the environment that it started with."""

    def read() -> dict[str, str]:
        for process in _running(test_pod, program):
            with contextlib.suppress(OSError):
                words = (process / "environ").read_bytes().decode().split("\0")[:-1]
                line = (process / "cmdline").read_bytes().decode()
                if words and word in line and "/usr/lib/podserve" not in line:  # the wrapper that starts git
                    return dict(word.split("=", 1) for word in words)
        raise NotYet(f"no {program} runs")

    return wait_until(read, 10, f"{program} to run")


@pytest.mark.parametrize("service", ["upload", "receive"])
def test_git_is_started_with_nothing_but_what_it_reads(
    test_pod: PodUnderTest, alice: Account, public: Repository, service: str
) -> None:
    login = f"{alice.address}:{alice.password}".encode()
    head = (
        f"POST /git/{public.name}/git-{service}-pack HTTP/1.1\r\nHost: {test_pod.server.domain}\r\n{FORGED}"
        f"Authorization: Basic {b64encode(login).decode()}\r\n"
        f"Content-Type: application/x-git-{service}-pack-request\r\nContent-Length: 100000\r\n\r\n"
    )
    with _connected(test_pod, head):
        seen = _environment_of(test_pod, "git-http-backen")  # the kernel cuts names to 15 characters
    _none_runs(test_pod, 10)
    assert set(seen) == GIT_READS
    assert (seen["PATH"], seen["REMOTE_USER"]) == ("/usr/bin:/bin", alice.address)


def test_no_variable_acts_on_what_starts_git(test_pod: PodUnderTest) -> None:
    trace = f"/data/web/dav/{token()}"
    made = test_pod.exec(
        *("apache", "setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", "env", "LD_PRELOAD=/none.so"),
        *( f"GIT_TRACE={trace}", "GIT_EXEC_PATH=/data/web/dav"),
        *("REQUEST_METHOD=GET", "PATH_INFO=/none.git/HEAD", "BASH_ENV=/data/web/dav/x", "PUSH_SIZE_LIMIT=1000000"),
        "/usr/lib/podserve/git-http-backend",
    )  # fmt: skip
    assert made.stdout.startswith("Status: 404 ")
    # A dynamically linked program would report that the object from LD_PRELOAD cannot be preloaded.
    assert "LD_PRELOAD" not in made.stderr
    assert not test_pod.exec("apache", "test", "-e", trace, check=False).ok


def test_what_gitweb_starts_gets_nothing_of_what_a_client_says(test_pod: PodUnderTest, bomb: str) -> None:
    head = f"GET /git/{bomb}/search?st=grep;s=nothing HTTP/1.1\r\nHost: {test_pod.server.domain}\r\n{FORGED}\r\n"
    with _connected(test_pod, head):
        seen = _environment_of(test_pod, "git", "nothing")
    assert not [name for name in seen if "PROXY" in name or "MADE" in name or "PRELOAD" in name or "TRACE" in name]
    assert {name for name in seen if name.startswith(("GIT_", "LD_", "PERL"))} == {
        "GIT_CONFIG_COUNT",
        *(f"GIT_CONFIG_{part}_{number}" for part in ("KEY", "VALUE") for number in (0, 1)),
    }
    assert seen["PATH"] == "/usr/bin:/bin"


@pytest.mark.parametrize("kind", ["grep", "commit", "author"])
def test_a_search_is_for_a_text_and_never_by_an_expression(test_pod: PodUnderTest, tmp_path: Path, kind: str) -> None:
    git = Git(test_pod.server, environment={"GIT_AUTHOR_NAME": "x{1,8000} y"})
    git.commit(tmp_path / "work", "Say x{1,8000} y", {"file": b"x{1,8000} y\n", "other": b"xxx y\n"})
    git.commit(tmp_path / "work", "Say xxx y", {"more": b"xxx\n"})
    name = f"{token()}.git"
    serve(tmp_path / "work", test_pod.folder("web") / "git" / name, public=True)
    with watched_memory(test_pod) as seen, test_pod.server.http() as client:
        for form in ("st={};s={}", "st={};sr=1;s={}", "sr=1;st={};s={};sr=on"):
            page = client.get(f"/git/{name}/search?{form.format(kind, quote('x{1,8000} y'))}")
            assert page.status_code == 200
            assert len(re.findall('<span class="match">', page.text)) == 1
        assert 'name="sr"' not in page.text
        projects = client.get("/git/?a=project_list;sr=1;s=.*")
    assert f'href="/git/{name}"' not in projects.text
    assert 0 < seen.peak < 144 * MEGABYTE


def test_the_history_is_not_looked_through_for_a_text(
    test_pod: PodUnderTest, alice: Account, public: Repository
) -> None:
    for account in (None, alice):
        with test_pod.server.http(account) as client:
            assert client.get(f"/git/{public.name}/search?st=pickaxe;s=Say").status_code == 403


@pytest.mark.parametrize("page", ["search?st=grep;s=nothing", "commitdiff/main", "commit/main", "patch/main"])
def test_a_page_that_would_take_hours_is_given_up_with_all_that_it_started(
    test_pod: PodUnderTest, bomb: str, page: str
) -> None:
    with watched_memory(test_pod) as seen, test_pod.server.http() as client:
        answer = client.get(f"/git/{bomb}/{page}", timeout=PAGE + 10)
        assert answer.elapsed.total_seconds() < PAGE + 5
        assert answer.status_code == 503 or page.startswith("patch") or "This page is incomplete" in answer.text
        assert seen.peak < 400 * MEGABYTE
        _none_runs(test_pod, 5)
        assert client.get(f"/git/{bomb}/log").status_code == 200


def test_what_a_client_who_has_gone_asked_for_is_ended(test_pod: PodUnderTest, long_line: str) -> None:
    head = f"GET /git/{long_line}/blob_plain/main:/file.py HTTP/1.1\r\nHost: {test_pod.server.domain}\r\n\r\n"
    with _connected(test_pod, head) as client:
        assert len(client.recv(1000)) > 0
        assert _environment_of(test_pod, "git")
    _none_runs(test_pod, 10)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("kind", "page", "rate"),
    [("large", "snapshot/HEAD.tar.gz", 2000), ("large", "blob_plain/HEAD:/file.bin", 1),
     ("bomb", "search?st=grep;s=nothing", 10000), ("bomb", "commitdiff/main", 1),
     ("long_line", "blame/main:/file.py", 10000)],
    ids=["slow readers of a snapshot", "slow readers of a file", "a search", "slow readers of a page", "a blame"],
)  # fmt: skip
def test_slow_readers_and_costly_pages_keep_others_from_no_page(  # noqa: PLR0913,PLR0917  # a repository of each kind
    test_pod: PodUnderTest, outsider: Vantage, public: Repository, request: pytest.FixtureRequest,
    kind: str, page: str, rate: int,
) -> None:  # fmt: skip
    repository: str = request.getfixturevalue(kind)
    attack = [outsider.address, test_pod.address, test_pod.server.domain, f"/git/{repository}/{page}", 19, 6, rate]

    def four_run() -> None:
        if (count := len(_running(test_pod, "git"))) < 4:
            raise NotYet(f"{count} programs")

    with watched_memory(test_pod) as seen, ThreadPoolExecutor(1) as pool:
        held = pool.submit(outsider.python, HOLD, json.dumps(attack))
        wait_until(four_run, 6, "programs for these requests")
        took, counts = [], []
        while not held.done():
            counts.append(len(_running(test_pod, "perl-fcgi")))
            for path in (f"/git/{public.name}", f"/git/{public.name}/log", "/git/"):
                with test_pod.server.http() as client:
                    begin = time.monotonic()
                    assert client.get(path).status_code == 200
                    took.append(time.monotonic() - begin)
        assert json.loads(held.result()) == 19
    print(f"{len(took)} pages, {max(took):.2f} s at most, {max(counts)} workers, {seen.peak / MEGABYTE:.0f} MB")
    assert max(took) < SOON
    assert max(counts) <= SHORT + LONG
    assert 0 < seen.peak < 1536 * MEGABYTE, "three quarters of the container's limit"
    _end_pages(test_pod)


@pytest.mark.parametrize("page", ["blob/main:/file.py", "blame/main:/file.py", "search?st=grep;s=aaaa",
                                  "commitdiff/main", "snapshot/main.tar.gz"])  # fmt: skip
def test_a_line_of_60_megabytes_is_read_in_little_memory(test_pod: PodUnderTest, long_line: str, page: str) -> None:
    with watched_memory(test_pod) as seen, test_pod.server.http() as client:
        # The page may be cut off at the memory limit. The next request must be answered.
        with contextlib.suppress(Exception):
            client.get(f"/git/{long_line}/{page}", timeout=PAGE + 10)
        assert client.get(f"/git/{long_line}/log").status_code == 200
    assert 0 < seen.peak < 400 * MEGABYTE


def test_a_large_file_is_sent_whole_in_little_memory(test_pod: PodUnderTest, long_line: str) -> None:
    with watched_memory(test_pod) as seen, test_pod.server.http() as client:
        file = client.get(f"/git/{long_line}/blob_plain/main:/file.py")
    assert file.content == b"a" * 60 * MEGABYTE
    assert 0 < seen.peak < 100 * MEGABYTE


def test_a_bomb_is_cloned_without_its_files_in_little_memory(test_pod: PodUnderTest, bomb: str, tmp_path: Path) -> None:
    git = Git(test_pod.server)
    with watched_memory(test_pod) as seen:
        git.run("clone", "--quiet", "--bare", git.url(bomb), str(tmp_path / "clone"))
    assert 0 < seen.peak < 144 * MEGABYTE


def test_a_tree_that_is_too_deep_is_refused(test_pod: PodUnderTest, alice: Account, private: Repository) -> None:
    git, work = Git(test_pod.server, alice), private.work
    for levels, taken in ((200, True), (300, False)):
        commit = _grown(git, work, levels, 1)
        pushed = git.run("-C", str(work), "push", git.url(private.name), f"{commit}:refs/heads/b{levels}", check=False)
        assert pushed.ok == taken, pushed
        assert private.tip(f"b{levels}") == (commit if taken else "")


def test_a_pack_that_says_it_has_four_billion_objects_takes_no_memory(
    test_pod: PodUnderTest, alice: Account, private: Repository
) -> None:
    with watched_memory(test_pod) as seen, test_pod.server.http(alice) as client:
        body = (
            command(private.commit, "1" * 40, "main") + b"PACK" + struct.pack(">II", 2, 0xFFFFFFFF) + b"\0" * MEGABYTE
        )
        answer = client.post(f"/git/{private.name}/git-receive-pack", content=body, headers=PUSH)
    assert answer.status_code == 200
    assert b"unpack ok" not in answer.content
    assert 0 < seen.peak < 300 * MEGABYTE
    assert private.tip() == private.commit


def test_a_small_body_that_unpacks_to_gigabytes_is_given_up(test_pod: PodUnderTest, public: Repository) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(packer.compress(b"0" * MEGABYTE) for _ in range(2000)) + packer.flush()
    headers = {"Content-Type": "application/x-git-upload-pack-request", "Content-Encoding": "gzip"}
    with watched_memory(test_pod) as seen, test_pod.server.http() as client:
        answer = client.post(f"/git/{public.name}/git-upload-pack", content=body, headers=headers)
    assert answer.status_code in {200, 400, 413, 500}
    assert seen.peak < 300 * MEGABYTE


def test_what_is_asked_for_in_a_fetch_is_small(test_pod: PodUnderTest, public: Repository) -> None:
    headers = {"Content-Type": "application/x-git-upload-pack-request"}
    with test_pod.server.http() as client:
        answer = client.post(f"/git/{public.name}/git-upload-pack", content=b"0" * 11 * MEGABYTE, headers=headers)
    assert answer.status_code == 413


def test_so_many_fetches_run_at_once_and_no_more(test_pod: PodUnderTest, public: Repository) -> None:
    path, kind = f"/git/{public.name}/git-upload-pack", {"Content-Type": "application/x-git-upload-pack-request"}
    head = f"POST {path} HTTP/1.1\r\nHost: {test_pod.server.domain}\r\nContent-Type: {kind['Content-Type']}\r\n"

    def all_run() -> None:
        # A wrapper that has a place becomes timeout(1). Wrappers without a place have the name of git's program, too.
        if (running := len(_running(test_pod, "timeout"))) < AT_ONCE:
            raise NotYet(f"{running} run")

    def answer(written: str) -> int:
        # Each on a new connection: Apache closes a connection if it answers before it has read the whole request.
        with test_pod.server.http() as client:
            return client.post(written, content=b"0000", headers=kind).status_code

    def taken() -> None:
        if (status := answer(path)) != 200:
            raise NotYet(f"status {status}")

    with contextlib.ExitStack() as held:
        for _ in range(AT_ONCE):
            held.enter_context(_connected(test_pod, f"{head}Content-Length: 1000\r\n\r\n"))
        wait_until(all_run, 15, f"{AT_ONCE} fetches to run")
        for written in (path, path.replace("/git-", "//git-"), path.replace("/git-", "/%67it-"), f"{path}?x"):
            assert answer(written) == 429
        with test_pod.server.http() as client:
            assert client.get(f"/git/{public.name}").status_code == 200
    wait_until(taken, 30, "a place for a fetch")


@pytest.mark.parametrize(("number", "taken"), [(2000, True), (2001, False), (20000, False)])
def test_a_push_of_many_branches_ends_soon_and_one_of_too_many_is_refused(
    test_pod: PodUnderTest, alice: Account, private: Repository, number: int, *, taken: bool
) -> None:
    # Without git's client: git 2.39 compares each branch with each other one, which takes minutes.
    names = [f"b{each}" for each in range(number)]
    first, *others = (f"{'0' * 40} {private.commit} refs/heads/{name}" for name in names)
    lines = [f"{first}\0report-status side-band-64k".encode(), *map(str.encode, others)]
    body = b"".join(b"%04x" % (len(line) + 4) + line for line in lines) + b"0000" + EMPTY
    with test_pod.server.http(alice) as client:
        answer = client.post(f"/git/{private.name}/git-receive-pack", content=body, headers=PUSH)
    assert answer.status_code == 200
    assert (b"ok refs/heads/b1" in answer.content) == taken
    assert (b"2000 at a time" in answer.content) != taken
    assert {private.tip(name) for name in (names[0], names[-1])} == {private.commit if taken else ""}


LINE_BREAKS = ("%0a", "%0d%0a", "%1b")


def _gitweb(test_pod: PodUnderTest) -> set[str]:
    return {str(process) for process in _running(test_pod, "perl-fcgi")}


@pytest.mark.parametrize("control", LINE_BREAKS)
def test_a_line_break_in_a_name_ends_no_process_and_forges_no_line(
    test_pod: PodUnderTest, alice: Account, public: Repository, since: float, control: str
) -> None:
    word = token()
    forms = [f"/git/?p={public.name};a={action};hb=main;h=main;{parameter}=file.txt{control}{word}{control}forged"
             for action in ("blob_plain", "blobdiff_plain", "snapshot")
             for parameter in ("f", "fp", "h", "hb", "hp", "hpb", "s", "st", "sf", "o", "opt", "pg", "ds")]  # fmt: skip
    forms += [f"/git/{public.name}/blob_plain/main:/file.txt{control}{word}", f"/git/{public.name}/{control}{word}/log"]
    forms += [f"/git/{public.name}/info/refs?service={control}{word}", f"/git/?a=project_list;s={control}{word}"]
    with test_pod.server.http() as stranger, test_pod.server.http(alice) as login:
        for client, expected in ((stranger, {400, 401, 403, 404}), (login, {400, 403, 404})):
            before = _gitweb(test_pod)
            assert {client.get(form).status_code for form in forms} <= expected
            assert _gitweb(test_pod) == before
        assert login.get(f"/git/{public.name}").status_code == 200
    assert not [line for line in test_pod.logs(since).splitlines() if line.startswith((word, "forged"))]


def test_what_git_says_of_an_error_is_in_the_log_with_the_client(
    test_pod: PodUnderTest, public: Repository, since: float
) -> None:
    word = token()
    with test_pod.server.http() as client:
        assert client.get(f"/git/?p={public.name};a=commit;h={word}").status_code == 404
    line = test_pod.wait_for_log("apache", f"fatal: bad revision '{word}'", since)
    assert re.match(r"\[.*\] \[proxy_fcgi:error\] .*\[(remote|client) ", line), line


def test_a_file_whose_name_breaks_the_line_forges_none(test_pod: PodUnderTest, tmp_path: Path, since: float) -> None:
    word, name, git = token(), f"{token()}.git", Git(test_pod.server)
    git.commit(tmp_path / "work", "Add", {f"a\n{word} forged\n": b"x = 1\n", "b\x1b[31m": b"x\n"})
    serve(tmp_path / "work", test_pod.folder("web") / "git" / name, public=True)
    blob = git.run("-C", str(tmp_path / "work"), "rev-parse", f"main:a\n{word} forged\n").stdout.strip()
    with test_pod.server.http() as client:
        for page in (
            "",
            "/tree/main",
            "/commit/main",
            "/commitdiff/main",
            "/search?st=grep;s=x+=",
            "/rss",
            "/snapshot/main.tar.gz",
        ):
            assert client.get(f"/git/{name}{page}").status_code == 200
        refused = client.get(f"/git/{name}/blob_plain/main:/a%0a{word}%20forged%0a")
        shown = client.get(f"/git/?p={name};a=blob_plain;h={blob}")
    assert refused.status_code == 401
    assert shown.text == "x = 1\n"
    assert not [line for line in test_pod.logs(since).splitlines() if line.startswith(word)]


@pytest.mark.parametrize("file", ['a"; filename="b.html', "a\\b", "\N{SNOWMAN} é", "100%", "a;b", "plain.bin"])
def test_a_file_is_saved_under_its_own_name(test_pod: PodUnderTest, tmp_path: Path, file: str) -> None:
    name = f"{token()}.git"
    Git(test_pod.server).commit(tmp_path / "work", "Add", {file: bytes(range(256))})
    serve(tmp_path / "work", test_pod.folder("web") / "git" / name, public=True)
    with test_pod.server.http() as client:
        answer = client.get(f"/git/{name}/blob_plain/main:/{quote(file)}")
    assert answer.content == bytes(range(256))
    said = answer.headers["Content-Disposition"]
    found = re.fullmatch(
        r"""(?:attachment|inline); filename="((?:[ !#-\[\]-~]|\\["\\])*)"(?:; filename\*=UTF-8''([A-Za-z0-9._%-]+))?""",
        said,
    )
    assert found, said
    plain, coded = found[1], found[2]
    if file.isascii():
        assert re.sub(r"\\(.)", r"\1", plain) == file
        assert coded is None
    else:
        assert coded == quote(file, safe="")
