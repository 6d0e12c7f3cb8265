"""Git's own client at GitWeb's URLs: clone, fetch and push, also concurrent, large and interrupted ones."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from podserve.commands import podman, run
from podserve.waiting import NotYet, wait_until
from tests.testbed.git import Git, Repository, give
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token

MEGABYTE = 1024 * 1024
PUSHED = 200 * MEGABYTE
MEMORY = 144 * MEGABYTE
"""Bytes that all processes of the apache container may use together: less than the largest file that is pushed."""


def test_what_is_read_is_cloned_at_the_address_that_the_page_shows(
    test_pod: PodUnderTest, public: Repository, tmp_path: Path
) -> None:
    with test_pod.server.http() as client:
        page = client.get(f"/git/{public.name}").text
    (address,) = re.findall(r'<tr class="metadata_url"><td>URL</td><td><a href="([^"]+)">\1</a></td>', page)
    assert address == f"https://{test_pod.server.domain}/git/{public.name}"
    Git(test_pod.server).run("clone", "--quiet", address, str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "file.txt").read_text() == public.content


def test_the_certificate_is_verified(test_pod: PodUnderTest, public: Repository, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("")
    trusting, wary = (
        Git(test_pod.server),
        Git(test_pod.server, environment={"GIT_SSL_CAINFO": str(tmp_path / "none.pem")}),
    )
    assert public.commit in trusting.run("ls-remote", trusting.url(public.name)).stdout
    refused = wary.run("ls-remote", wary.url(public.name), check=False)
    assert not refused.ok
    assert "certificate" in refused.stderr


@pytest.mark.parametrize(("version", "spoken"), [("2", True), ("0", False)])
def test_protocol_2_is_spoken_with_who_speaks_it(
    test_pod: PodUnderTest, public: Repository, version: str, *, spoken: bool
) -> None:
    git = Git(test_pod.server, environment={"GIT_TRACE_PACKET": "1"})
    seen = git.run("-c", f"protocol.version={version}", "ls-remote", git.url(public.name))
    assert public.commit in seen.stdout
    assert ("git< version 2" in seen.stderr) == spoken


def test_a_login_clones_pushes_and_fetches(
    test_pod: PodUnderTest, alice: Account, private: Repository, tmp_path: Path
) -> None:
    git, one, other = Git(test_pod.server, alice), tmp_path / "one", tmp_path / "other"
    for clone in (one, other):
        git.run("clone", "--quiet", git.url(private.name), str(clone))
    commit = git.commit(one, "More", {"more.txt": b"more"})
    git.run("-C", str(one), "push", "--quiet", "origin", "main", "main:refs/heads/branch", "main:refs/tags/v1")
    assert {private.tip(ref) for ref in ("main", "branch", "v1")} == {commit}
    git.run("-C", str(other), "pull", "--quiet", "--ff-only")
    assert (other / "more.txt").read_text() == "more"
    git.run("-C", str(one), "push", "--quiet", "--delete", "origin", "branch")
    assert private.tip("branch") == ""


def test_git_speaks_http_2_where_nothing_is_set(
    test_pod: PodUnderTest, alice: Account, private: Repository, tmp_path: Path
) -> None:
    git = Git(test_pod.server, alice, {"GIT_CURL_VERBOSE": "1"}, options=())
    one, other = tmp_path / "one", tmp_path / "other"
    cloned = [git.run("clone", git.url(private.name), str(clone)) for clone in (one, other)]
    commit = git.commit(one, "More", {"more.txt": b"more"})
    pushed = git.run("-C", str(one), "push", "origin", "main")
    fetched = git.run("-C", str(other), "fetch", "origin")
    for done in (*cloned, pushed, fetched):
        assert "Recv header: HTTP/2 200" in done.stderr
        assert "Recv header: HTTP/1" not in done.stderr
    assert private.tip() == commit
    assert git.run("-C", str(other), "rev-parse", "origin/main").stdout.strip() == commit


def test_a_stranger_is_asked_for_a_password_to_clone_what_is_private_as_what_is_not_there(
    test_pod: PodUnderTest, private: Repository
) -> None:
    git, missing = Git(test_pod.server), f"{token()}.git"
    refused, none = (git.run("ls-remote", git.url(name), check=False) for name in (private.name, missing))
    assert not refused.ok
    assert "could not read Username" in refused.stderr
    assert (refused.code, refused.stderr.replace(private.name, missing)) == (none.code, none.stderr)


def test_a_stranger_is_asked_for_a_password_to_push_to_what_is_public(
    test_pod: PodUnderTest, public: Repository
) -> None:
    git = Git(test_pod.server)
    git.commit(public.work, "More", {})
    pushed = git.run("-C", str(public.work), "push", git.url(public.name), "main", check=False)
    assert not pushed.ok
    assert "could not read Username" in pushed.stderr
    assert public.tip() == public.commit


PUSH = {"Content-Type": "application/x-git-receive-pack-request"}


def command(old: str, new: str, branch: str) -> bytes:
    """Return the beginning of a push: the command that moves a branch from one commit to another. A pack follows."""
    line = f"{old} {new} refs/heads/{branch}\0report-status delete-refs\n".encode()
    return b"%04x" % (len(line) + 4) + line + b"0000"


def test_a_stranger_pushes_nothing_by_any_request(test_pod: PodUnderTest, public: Repository) -> None:
    with test_pod.server.http() as client:
        for name in (f"/git/{public.name}", f"/git//{public.name}", f"/git/%2e/{public.name}"):
            removal = command(public.commit, "0" * 40, "main")
            refused = client.post(f"{name}/git-receive-pack", content=removal, headers=PUSH)
            assert refused.status_code == 401
            for service in ("git-receive-pack", "git%2Dreceive-pack", "git-receive%2Dpack"):
                assert client.get(f"{name}/info/refs?service={service}").status_code in {401, 403}
    assert public.tip() == public.commit


@pytest.mark.parametrize("http2", [False, True])
def test_who_logs_in_pushes_by_the_very_request_that_a_stranger_may_not_make(
    test_pod: PodUnderTest, alice: Account, public: Repository, *, http2: bool
) -> None:
    git = Git(test_pod.server)
    commit = git.commit(public.work, "Large", {"large": os.urandom(20 * MEGABYTE)})
    argv = git.argv("-C", str(public.work), "pack-objects", "--stdout", "--revs", "-q")
    pack = subprocess.run(argv, input=b"main\n", capture_output=True, check=True).stdout
    with test_pod.server.http(alice, http2=http2) as client:
        body = command(public.commit, commit, "main") + pack
        answer = client.post(f"/git/{public.name}/git-receive-pack", content=body, headers=PUSH)
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    assert b"unpack ok" in answer.content
    assert public.tip() == commit


def test_a_damaged_pack_is_refused_in_gits_own_words(
    test_pod: PodUnderTest, alice: Account, private: Repository
) -> None:
    three_objects = b"PACK" + bytes([0, 0, 0, 2, 0, 0, 0, 3])
    body = command(private.commit, "1" * 40, "main") + three_objects + os.urandom(5 * MEGABYTE)
    with test_pod.server.http(alice) as client:
        answer = client.post(f"/git/{private.name}/git-receive-pack", content=body, headers=PUSH)
    assert answer.status_code == 200
    assert b"unpack index-pack abnormal exit" in answer.content
    assert private.tip() == private.commit


def test_a_wrong_password_is_refused(
    test_pod: PodUnderTest, alice: Account, private: Repository, public: Repository
) -> None:
    git = Git(test_pod.server, Account(alice.address, f"{alice.password}x"))
    for name in (private.name, public.name):
        refused = git.run("-C", str(private.work), "push", git.url(name), "main:refs/heads/other", check=False)
        assert not refused.ok
        assert "Authentication failed" in refused.stderr
    assert private.tip("other") == public.tip("other") == ""


@pytest.mark.parametrize(
    "file", ["config", "HEAD", "packed-refs", "objects/info/packs", "info/exclude", "refs/heads/main"]
)
def test_a_repositorys_own_files_are_not_served(
    test_pod: PodUnderTest, alice: Account, public: Repository, file: str
) -> None:
    git = ["git", "-c", "safe.directory=*", "-C", str(public.folder)]
    for words in (["repack", "-adq"], ["pack-refs", "--all"], ["update-server-info"]):
        run([*git, *words])
    (public.folder / "refs" / "heads" / "main").write_text(f"{public.commit}\n")
    give(public.folder)
    inside = ("[core]", "ref: refs/", "# pack-refs", "# git ls-files", f"{public.commit}\n", "P pack-")
    assert (public.folder / file).read_text().startswith(inside)
    for account in (None, alice):
        with test_pod.server.http(account) as client:
            answer = client.get(f"/git/{public.name}/{file}")
        assert not answer.text.startswith(inside)


def test_a_shallow_clone_has_the_last_commit_alone(
    test_pod: PodUnderTest, alice: Account, public: Repository, tmp_path: Path
) -> None:
    git = Git(test_pod.server, alice)
    for number in (2, 3):
        git.commit(public.work, f"Commit {number}", {"file.txt": str(number).encode()})
    git.run("-C", str(public.work), "push", "--quiet", git.url(public.name), "main")
    for name, options, commits in (("shallow", ["--depth", "1"], "1"), ("whole", [], "3")):
        git.run("clone", "--quiet", *options, Git(test_pod.server).url(public.name), str(tmp_path / name))
        assert (tmp_path / name / "file.txt").read_text() == "3"
        assert git.run("-C", str(tmp_path / name), "rev-list", "--count", "HEAD").stdout.strip() == commits


ODD_PEOPLE = {
    "badDate": "Ada <a@example.org> <a@example.org> 1305038239 -0700",
    "badDateOverflow": "Ada <a@example.org> 18446744073709551617 +0000",
    "badEmail": "Ada <a@example.org 1305038239 -0700",
    "badName": "a@example.org> <none@none> 1274222288 -0230",
    "badTimezone": "Ada <a@example.org> 1312735823 +051800",
    "missingEmail": "Ada 1305038239 -0700",
    "missingNameBeforeEmail": "<a@example.org> 1155990057 +0000",
    "missingSpaceBeforeDate": "Ada <a@example.org>",
    "missingSpaceBeforeEmail": "Ada<a@example.org> 1305038239 -0700",
    "zeroPaddedDate": "Ada <a@example.org> 01305038239 -0700",
}
"""Authors that other programs and old versions of git wrote, by the name of git's complaint (git-fsck(1))."""


def stored(git: Git, work: Path, kind: str, content: bytes) -> str:
    """Store an object in a work tree's repository as it is, and return its hash."""
    (work / "object").write_bytes(content)
    words = ("hash-object", "-w", "--literally", "-t", kind, str(work / "object"))
    return git.run("-C", str(work), *words).stdout.strip()


def odd_commit(git: Git, work: Path, tree: str, parent: str, person: str) -> str:
    """Store a commit by a person as it is, and return its hash."""
    text = f"tree {tree}\nparent {parent}\nauthor {person}\ncommitter {person}\n\nOld\n"
    return stored(git, work, "commit", text.encode())


def hash_of(git: Git, work: Path, name: str) -> bytes:
    """Return the hash of the object with this name (20 bytes)."""
    return bytes.fromhex(git.run("-C", str(work), "rev-parse", name).stdout)


def refused_by_fsck(git: Git, work: Path, commit: str) -> set[str]:
    """Return the complaints of git's strict check about a commit and its tree."""
    checked = git.run("-C", str(work), "fsck", "--strict", commit, check=False)
    return set(re.findall(r"^(?:error|warning) in \w+ \w+: (\w+):", checked.stderr, re.MULTILINE))


def test_history_with_the_small_faults_of_old_programs_is_pushed_cloned_and_shown(
    test_pod: PodUnderTest, alice: Account, private: Repository, tmp_path: Path
) -> None:
    git, work = Git(test_pod.server, alice), private.work
    tree = git.run("-C", str(work), "rev-parse", "HEAD^{tree}").stdout.strip()
    commits = {}
    for fault, person in ODD_PEOPLE.items():
        commits[fault] = odd_commit(git, work, tree, private.commit, person)
    padded = stored(git, work, "tree", b"040000 folder\0" + bytes.fromhex(tree))
    commits["zeroPaddedFilemode"] = git.run("-C", str(work), "commit-tree", "-m", "Old", padded).stdout.strip()
    seen = {fault: refused_by_fsck(git, work, commit) for fault, commit in commits.items()}
    assert all(fault in seen[fault] for fault in commits), seen
    branches = [f"{commit}:refs/heads/{fault}" for fault, commit in commits.items()]
    git.run("-C", str(work), "push", "--quiet", git.url(private.name), *branches)
    tag = stored(git, work, "tag", f"object {tree}\ntype tree\ntag v0\ntagger Ada <a@example.org>\n\nOld\n".encode())
    git.run("-C", str(work), "push", "--quiet", git.url(private.name), f"{tag}:refs/tags/v0", f"{tag}:refs/tags/v1")
    git.run("clone", "--quiet", "--mirror", git.url(private.name), str(tmp_path / "clone"))
    with test_pod.server.http(alice) as client:
        for fault, commit in commits.items():
            assert git.run("-C", str(tmp_path / "clone"), "rev-parse", fault).stdout.strip() == commit
            for page in ("log", "shortlog", "commit", "commitdiff", "tree", "rss", "atom"):
                answer = client.get(f"/git/{private.name}/{page}/{fault}")
                assert answer.status_code == 200, (page, fault)
                assert answer.text.rstrip().endswith(("</html>", "</rss>", "</feed>")), (page, fault)
        assert {client.get(f"/git/{private.name}{page}").status_code for page in ("", "/heads", "/tags")} == {200}
        assert client.get("/git/").status_code == 200


SUBMODULE = '[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n'
UPDATED = SUBMODULE.format(name="m", path="m", url="https://e.org") + "\tupdate = !./command\n"


@pytest.mark.parametrize(
    ("fault", "entries"),
    [
        ("hasDotgit", [("40000", ".git", "tree"), ("100644", "file.txt", "blob")]),
        ("hasDotgit", [("40000", ".GIT", "tree"), ("100644", "file.txt", "blob")]),
        ("hasDotgit", [("40000", "git~1", "tree")]),
        ("hasDotdot", [("40000", "..", "tree")]),
        ("hasDot", [("40000", ".", "tree")]),
        ("fullPathname", [("100644", "a/b", "blob")]),
        ("duplicateEntries", [("100644", "file.txt", "blob"), ("100644", "file.txt", "blob")]),
        ("treeNotSorted", [("100644", "z", "blob"), ("100644", "a", "blob")]),
        ("gitmodulesSymlink", [("120000", ".gitmodules", "blob")]),
        ("gitmodulesUrl", [("100644", ".gitmodules", SUBMODULE.format(name="m", path="m", url="-u./command"))]),
        ("gitmodulesPath", [("100644", ".gitmodules", SUBMODULE.format(name="m", path="-m", url="https://e.org"))]),
        ("gitmodulesName", [("100644", ".gitmodules", SUBMODULE.format(name="../m", path="m", url="https://e.org"))]),
        ("gitmodulesUpdate", [("100644", ".gitmodules", UPDATED)]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(repr(name) for _, name, _ in value),
)
def test_an_object_that_would_harm_a_client_is_refused(
    test_pod: PodUnderTest, alice: Account, private: Repository, fault: str, entries: list[tuple[str, str, str]]
) -> None:
    git, work = Git(test_pod.server, alice), private.work
    known = {"tree": hash_of(git, work, "HEAD^{tree}"), "blob": hash_of(git, work, "HEAD:file.txt")}
    content = b""
    for mode, name, target in entries:
        to = known.get(target) or bytes.fromhex(stored(git, work, "blob", target.encode()))
        content += f"{mode} {name}\0".encode() + to
    tree = stored(git, work, "tree", content)
    commit = odd_commit(git, work, tree, private.commit, ODD_PEOPLE["badTimezone"])
    refused = git.run("-C", str(work), "push", git.url(private.name), f"{commit}:refs/heads/main", check=False)
    assert not refused.ok
    assert f"{fault}:" in refused.stderr
    assert private.tip() == private.commit


HOOKS = ("pre-receive", "update", "proc-receive", "post-receive", "post-update", "reference-transaction",
         "pre-auto-gc", "push-to-checkout")  # fmt: skip


def test_a_repository_runs_nothing_whatever_hooks_and_settings_lie_in_it(
    test_pod: PodUnderTest, alice: Account, private: Repository, tmp_path: Path
) -> None:
    hooks, ran, git = private.folder / "hooks", test_pod.folder("web") / "dav" / token(), Git(test_pod.server, alice)
    hooks.mkdir(exist_ok=True)
    for name in (*HOOKS, "command"):
        (hooks / name).write_text(f'#!/bin/sh\necho "$0" >> /data/web/dav/{ran.name}\n')
        (hooks / name).chmod(0o755)
    inside = f"/data/web/git/{private.name}/hooks"
    git.run("config", "--file", str(private.folder / "config"), "core.hooksPath", inside)
    for setting in ("core.fsmonitor", "core.sshCommand", "diff.external", "diff.x.command", "core.pager",
                    "uploadpack.packObjectsHook", "core.alternateRefsCommand", "gpg.program"):  # fmt: skip
        git.run("config", "--file", str(private.folder / "config"), setting, f"{inside}/command")
    (private.folder / "info").mkdir(exist_ok=True)
    (private.folder / "info" / "attributes").write_text("* diff=x\n")

    second = git.commit(private.work, "Second", {"file.txt": b"Second\n", ".gitattributes": b"* diff=x\n"})
    git.run("-C", str(private.work), "push", "--quiet", git.url(private.name), "main")
    git.run("clone", "--quiet", git.url(private.name), str(tmp_path / "clone"))
    with test_pod.server.http(alice) as client:
        for page in ("commit/main", "commitdiff/main", f"blobdiff/{private.commit}..{second}:/file.txt", "patch/main",
                     "blob/main:/file.txt", "search?s=Second;st=grep", "history/main:/file.txt"):  # fmt: skip
            assert client.get(f"/git/{private.name}/{page}").status_code == 200
    assert private.tip() == second
    assert not ran.exists(), ran.read_text()
    test_pod.exec("apache", "setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", f"{inside}/command")
    assert ran.exists(), "the hook would have run"


def _memory(test_pod: PodUnderTest) -> int:
    """Return the memory (bytes) of the apache container without mapped files, which the kernel could reclaim."""
    total = 0
    for process in test_pod.processes("apache"):
        try:
            shared_out = (process / "smaps_rollup").read_text()
        except OSError:
            continue  # the process has ended meanwhile
        total += 1024 * sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB$", shared_out, re.MULTILINE)))
    return total


@contextmanager
def watched_memory(test_pod: PodUnderTest) -> Iterator[SimpleNamespace]:
    """Yield an object with `peak`, the most memory (bytes) that the apache container has used during the body."""
    seen, done = SimpleNamespace(peak=0), threading.Event()

    def watch() -> None:
        seen.peak = _memory(test_pod)
        while not done.wait(0.05):
            seen.peak = max(seen.peak, _memory(test_pod))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def test_a_pack_of_200_megabytes_is_pushed_and_cloned_in_little_memory(
    test_pod: PodUnderTest, alice: Account, private: Repository, tmp_path: Path
) -> None:
    git = Git(test_pod.server, alice)
    parts = {
        "large": os.urandom(PUSHED * 3 // 4),
        **{f"part{number}": os.urandom(PUSHED // 40) for number in range(10)},
    }
    commit = git.commit(private.work, "Large", parts)
    with watched_memory(test_pod) as seen:
        git.run("-C", str(private.work), "push", "--quiet", git.url(private.name), "main")
        git.run("clone", "--quiet", git.url(private.name), str(tmp_path / "clone"))
    assert private.tip() == commit
    assert all((tmp_path / "clone" / name).read_bytes() == content for name, content in parts.items())
    assert 0 < seen.peak < MEMORY


def test_twenty_clones_at_once_are_all_whole_in_little_memory(
    test_pod: PodUnderTest, alice: Account, public: Repository, tmp_path: Path
) -> None:
    git = Git(test_pod.server, alice)
    commit = git.commit(public.work, "Many", {f"file{number}": os.urandom(4096) for number in range(500)})
    git.run("-C", str(public.work), "push", "--quiet", git.url(public.name), "main")

    def clone(number: int) -> str:
        target = str(tmp_path / f"clone{number}")
        git.run("clone", "--quiet", Git(test_pod.server).url(public.name), target)
        assert git.run("-C", target, "status", "--porcelain").stdout == ""
        return git.run("-C", target, "rev-parse", "HEAD").stdout.strip()

    with watched_memory(test_pod) as seen, ThreadPoolExecutor(20) as pool:
        assert list(pool.map(clone, range(20))) == [commit] * 20
    assert 0 < seen.peak < MEMORY


def test_no_fetch_fails_while_others_log_in(test_pod: PodUnderTest, alice: Account, public: Repository) -> None:
    def ask(path: str) -> set[int]:
        with test_pod.server.http(alice) as client:
            return {client.get(path).status_code for _ in range(100)}

    paths = [f"/git/{public.name}/info/refs?service=git-upload-pack", "/webdav/"] * 8
    with ThreadPoolExecutor(len(paths)) as pool:
        assert set().union(*pool.map(ask, paths)) == {200}


def test_a_push_that_is_killed_half_way_leaves_the_repository_sound(
    test_pod: PodUnderTest, alice: Account, private: Repository
) -> None:
    git = Git(test_pod.server, alice)
    commit = git.commit(private.work, "Large", {"large": os.urandom(100 * MEGABYTE)})
    objects = private.folder / "objects"

    def half_way() -> None:
        if sum(pack.stat().st_size for pack in objects.glob("*incoming*/**/tmp_pack*")) < 10 * MEGABYTE:
            raise NotYet("less than 10 MB have come in")

    argv = git.argv("-C", str(private.work), "push", git.url(private.name), "main")
    with subprocess.Popen(argv, env=git.env, start_new_session=True, stderr=subprocess.DEVNULL) as push:
        wait_until(half_way, 30, "a push to be half-way")
        os.killpg(push.pid, signal.SIGKILL)
    assert push.returncode == -signal.SIGKILL
    assert private.tip() == private.commit
    path = f"/data/web/git/{private.name}"
    checked = podman(
        "exec", "--user", "www-data", test_pod.container("apache"), "git", "-C", path, "fsck", "--full", "--strict"
    )
    assert "error" not in checked.stdout + checked.stderr

    git.run("-C", str(private.work), "push", "--quiet", git.url(private.name), "main")
    assert private.tip() == commit
