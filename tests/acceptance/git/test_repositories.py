"""The tasks repos.*, and that these and users.add are safe if an attacker controls the files on the web volume."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from podserve.commands import Result, podman
from tests.acceptance.git.test_git import PUSH
from tests.testbed.git import Git, Repository, make
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token


def seen(test_pod: PodUnderTest, name: str, account: Account | None = None) -> int:
    """Return the HTTP status of a repository's page."""
    with test_pod.server.http(account) as client:
        return client.get(f"/git/{name}.git").status_code


def test_a_repository_that_is_added_is_private_empty_and_ready_for_the_first_push(
    test_pod: PodUnderTest, alice: Account, tmp_path: Path
) -> None:
    name, git = token(), Git(test_pod.server, alice)
    added = test_pod.invoke("repos.add", name)
    assert added.stdout == f"git clone https://{test_pod.server.domain}/git/{name}.git\n"
    assert (seen(test_pod, name), seen(test_pod, name, alice)) == (401, 200)
    git.run("clone", git.url(f"{name}.git"), str(tmp_path / "clone"))
    commit = git.commit(tmp_path / "clone", "First", {"file.txt": b"First\n"})
    git.run("-C", str(tmp_path / "clone"), "push", "--quiet", "origin", "HEAD")
    assert f"{commit}\trefs/heads/main" in git.run("ls-remote", git.url(f"{name}.git")).stdout


def checked_out(git: Git, name: str, folder: Path) -> str:
    """Clone a repository into a new folder, and return the branch that the clone checks out."""
    git.run("clone", "--quiet", git.url(f"{name}.git"), str(folder))
    return git.run("-C", str(folder), "symbolic-ref", "--short", "HEAD").stdout.strip()


@pytest.mark.parametrize(
    ("pushed", "expected"),
    [(["master"], "master"), (["trunk"], "trunk"), (["develop", "master", "v2"], "master"), (["dev", "main"], "main")],
)
def test_a_clone_and_gitweb_show_the_first_branch_that_was_pushed(
    test_pod: PodUnderTest, alice: Account, tmp_path: Path, pushed: list[str], expected: str
) -> None:
    name, git, work = token(), Git(test_pod.server, alice), tmp_path / "work"
    test_pod.add_repository(name)
    git.commit(work, "First", {"first.txt": b"First\n"})
    git.run("-C", str(work), "push", "--quiet", git.url(f"{name}.git"), "main:refs/tags/v1")
    git.run("-C", str(work), "push", "--quiet", git.url(f"{name}.git"), *(f"main:refs/heads/{each}" for each in pushed))
    assert checked_out(git, name, tmp_path / "first") == expected
    assert (tmp_path / "first" / "first.txt").read_text() == "First\n"
    with test_pod.server.http(alice) as client:
        pages = {page: client.get(f"/git/{name}.git{page}") for page in ("", "/tree", "/log", "/snapshot/HEAD.tar.gz")}
        assert {page: answer.status_code for page, answer in pages.items()} == dict.fromkeys(pages, 200)
        assert "first.txt" in pages["/tree"].text
    # A later branch of any name changes nothing.
    git.run("-C", str(work), "push", "--quiet", git.url(f"{name}.git"), "main:refs/heads/a", "main:refs/heads/main")
    assert checked_out(git, name, tmp_path / "second") == expected


def test_a_task_sets_the_branch_that_a_clone_checks_out(test_pod: PodUnderTest, alice: Account, tmp_path: Path) -> None:
    name, git, work = token(), Git(test_pod.server, alice), tmp_path / "work"
    test_pod.add_repository(name)
    git.commit(work, "First", {"first.txt": b"First\n"})
    git.run("-C", str(work), "push", "--quiet", git.url(f"{name}.git"), "main:master", "main:refs/heads/a/b")
    assert test_pod.invoke("repos.head", name, "a/b").stdout == f"{name}: a clone checks out a/b\n"
    assert checked_out(git, name, tmp_path / "clone") == "a/b"
    # Now the old branch is no longer the one that git protects from removal.
    git.run("-C", str(work), "push", "--quiet", "--delete", git.url(f"{name}.git"), "master")
    for branch in ("master", "--delete"):
        refused = test_pod.invoke("repos.head", name, f"--branch={branch}", check=False)
        assert refused.code == 1, branch
        assert f"there is no branch {branch!r} in {name}: expected one of a/b" in refused.stderr
    assert checked_out(git, name, tmp_path / "again") == "a/b"


def test_a_repository_without_a_branch_has_none_to_set(test_pod: PodUnderTest) -> None:
    name = token()
    test_pod.add_repository(name)
    refused = test_pod.invoke("repos.head", name, "main", check=False)
    assert refused.code == 1
    assert f"there is no branch in {name} yet: push one" in refused.stderr


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
@pytest.mark.parametrize("name", ["", "static", "login", "a.b"])
def test_a_repository_is_cloned_and_pushed_to_with_and_without_its_suffix(
    test_pod: PodUnderTest, alice: Account, tmp_path: Path, name: str, *, public: bool
) -> None:
    made, login = make(test_pod, tmp_path / "work", public=public), Git(test_pod.server, alice)
    if name:
        made.folder.rename(made.folder.with_name(f"{name}.git"))
    bare, reader = name or made.name.removesuffix(".git"), Git(test_pod.server, None if public else alice)
    try:
        for number, form in enumerate((f"{bare}.git", bare, f"{bare}/")):
            work = tmp_path / f"clone{number}"
            cloned = reader.run("clone", reader.url(form), str(work))
            assert "redirecting" not in cloned.stderr
            commit = login.commit(work, f"Commit {number}", {"file.txt": f"{number}\n".encode()})
            login.run("-C", str(work), "push", "--quiet", login.url(form), "main")
            assert f"{commit}\trefs/heads/main" in reader.run("ls-remote", reader.url(form)).stdout
    finally:
        shutil.rmtree(made.folder.with_name(f"{bare}.git"))


def test_a_stranger_learns_by_no_address_without_suffix_whether_a_private_repository_exists(
    test_pod: PodUnderTest, alice: Account, private: Repository, public: Repository
) -> None:
    there, missing, open_ = private.name.removesuffix(".git"), token(), public.name.removesuffix(".git")
    requests = [("GET", ""), ("GET", "/"), ("GET", "/info/refs"), ("GET", "/info/refs?service=git-upload-pack"),
                ("GET", "/info/refs?service=git-receive-pack"), ("POST", "/git-upload-pack"),
                ("POST", "/git-receive-pack"), ("HEAD", ""), ("POST", "")]  # fmt: skip

    def asked(client: httpx.Client, name: str) -> list[tuple[int, str, str]]:
        answers = [client.request(method, f"/git/{name}{path}") for method, path in requests]
        known = ("Date", "Content-Length", "Keep-Alive", "Connection")
        heads = [str(sorted(item for item in answer.headers.items() if item[0].title() not in known))
                 for answer in answers]  # fmt: skip
        return [(answer.status_code, answer.text.replace(name, "NAME"), head.replace(name, "NAME"))
                for answer, head in zip(answers, heads, strict=True)]  # fmt: skip

    with test_pod.server.http() as stranger, test_pod.server.http(alice) as login:
        assert asked(stranger, there) == asked(stranger, missing)
        assert [answer[0] for answer in asked(stranger, there)] == [301, 301, *[401] * 5, 301, 405]
        assert [answer[0] for answer in asked(login, missing)] == [301, 301, *[404] * 5, 301, 405]
        for client, name, status in ((login, there, 200), (stranger, open_, 200), (stranger, there, 401)):
            address = client.get(f"/git/{name}").headers["Location"]
            assert address == f"https://{test_pod.server.domain}/git/{name}.git"
            assert client.get(httpx.URL(address).path).status_code == status
        refused = stranger.post(f"/git/{open_}/git-receive-pack", content=b"0000", headers=PUSH)
        assert refused.status_code == 401


def test_a_repository_is_hidden_and_published_at_once_and_the_list_tells(
    test_pod: PodUnderTest, alice: Account
) -> None:
    name, git = token(), Git(test_pod.server)
    test_pod.invoke("repos.add", name, "--public", "--description", "Old\ncode")
    for task, status, tells in (("", 200, "everybody"), ("hide", 401, "accounts"), ("publish", 200, "everybody")):
        if task:
            test_pod.invoke(f"repos.{task}", name)
        assert (seen(test_pod, name), seen(test_pod, name, alice)) == (status, 200)
        assert git.run("ls-remote", git.url(f"{name}.git"), check=False).ok == (status == 200)
        (row,) = [line for line in test_pod.invoke("repos.list").stdout.splitlines() if line.startswith(f"{name} ")]
        assert row.split() == [name, tells, "Old", "code"]


def test_a_description_is_shown_as_it_was_given_and_nothing_else(test_pod: PodUnderTest) -> None:
    name, word = token(), token()
    description = f"""<script>{word}</script> "é" & 'q' [bold]\N{SNOWMAN}"""
    test_pod.invoke("repos.add", name, "--public", "--description", description)
    with test_pod.server.http() as client:
        pages = [client.get(path).text for path in (f"/git/{name}.git", "/git/?o=project", f"/git/{name}.git/rss")]
    for page in pages:
        assert f"&lt;script&gt;{word}" in page
        assert f"<script>{word}" not in page
    assert "\N{SNOWMAN}" in pages[0]
    assert "[bold]\N{SNOWMAN}" in test_pod.invoke("repos.list").stdout


def test_a_name_is_given_once(test_pod: PodUnderTest) -> None:
    name = token()
    test_pod.invoke("repos.add", name, "--description", "first")
    for again in (name, f"{name}.git"):
        refused = test_pod.invoke("repos.add", again, "--public", check=False)
        assert refused.code == 1
        assert f"there is a repository {again} already" in refused.stderr
    assert seen(test_pod, name) == 401
    assert "first" in test_pod.invoke("repos.list").stdout


@pytest.mark.parametrize("name", ["../dav/x", ".git", "a/b", "", "-x", "a" * 100])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_made(test_pod: PodUnderTest, name: str) -> None:
    before = {path for folder in ("git", "dav") for path in (test_pod.folder("web") / folder).iterdir()}
    refused = test_pod.invoke("repos.add", "--name", name, check=False)
    assert refused.code == 1
    assert "cannot be the name of a repository" in refused.stderr
    assert {path for folder in ("git", "dav") for path in (test_pod.folder("web") / folder).iterdir()} == before


def test_a_repository_is_removed_when_one_says_so_and_only_then(test_pod: PodUnderTest, alice: Account) -> None:
    name, other = token(), token()
    for each in (name, other):
        test_pod.invoke("repos.add", each)
    asked = test_pod.invoke("repos.remove", name, stdin=f"{name}\n", check=False)
    assert (asked.code, asked.stdout) == (1, "")
    assert "give --yes" in asked.stderr
    assert seen(test_pod, name, alice) == 200
    assert test_pod.invoke("repos.remove", name, "--yes").stdout == f"{name} is removed\n"
    assert (seen(test_pod, name, alice), seen(test_pod, other, alice)) == (404, 200)
    assert not (test_pod.folder("web") / "git" / f"{name}.git").exists()


@pytest.mark.parametrize("task", ["publish", "hide", "remove", "head"])
def test_what_is_not_there_is_neither_changed_nor_removed(test_pod: PodUnderTest, task: str) -> None:
    name = token()
    refused = test_pod.invoke(f"repos.{task}", name, *(["main"] if task == "head" else []), check=False)
    assert refused.code == 1
    assert f"there is no repository {name}" in refused.stderr
    assert "invoke repos.list" in refused.stderr
    assert not (test_pod.folder("web") / "git" / f"{name}.git").exists()


def as_www_data(test_pod: PodUnderTest, *argv: str) -> Result:
    """Run a program in apache as an attacker who controls the web server."""
    return podman("exec", "--user", "www-data", test_pod.container("apache"), *argv)


def test_what_the_web_server_put_in_the_place_of_a_description_is_neither_followed_nor_obeyed(
    test_pod: PodUnderTest,
) -> None:
    links = {"shadow": "/etc/shadow", "zero": "/dev/zero", "nowhere": "/no/such/file"}
    names = {what: f"{token()}-{what}" for what in (*links, "pipe", "colours")}
    for name in names.values():
        test_pod.add_repository(name)
    described = {what: f"/data/web/git/{name}.git/description" for what, name in names.items()}
    out = f"/data/web/git/{names['shadow']}-out.git"
    linked = [f"ln -s {links[what]} {described[what]}" for what in links]
    coloured = f"printf '\\033[31mred\\033]0;title\\007\\n' > {described['colours']}"
    script = [
        " ".join(["rm", *described.values()]),
        *linked,
        f"mkfifo {described['pipe']}",
        coloured,
        f"ln -s /etc {out}",
    ]
    as_www_data(test_pod, "sh", "-ec", "\n".join(script))
    try:
        listed = test_pod.invoke("repos.list")
        assert "root:" not in listed.stdout
        assert "\x1b" not in listed.stdout
        unwrapped = "".join(listed.stdout.split())  # the table wraps long descriptions
        assert "\\x1b[31mred" in unwrapped
        assert unwrapped.count("descriptionisnotaregularfile") >= 4
        assert "-out" not in listed.stdout
    finally:
        as_www_data(test_pod, "rm", out)
        for name in names.values():
            test_pod.invoke("repos.remove", name, "--yes")


SWAPPING = """
chdir "/data/web/home" or die;
my ($target, @names) = @ARGV;
my $end = time + 30;
while (time < $end && !-e "/tmp/swapped") {
    for (@names) { rmdir && symlink $target, $_ }
}
"""


def test_a_home_that_is_swapped_while_it_is_made_gives_no_file_of_the_host_away(
    test_pod: PodUnderTest, tmp_path: Path
) -> None:
    victim, names = tmp_path / "victim", [token() for _ in range(10)]
    victim.write_text("precious")
    before = victim.stat()
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(as_www_data, test_pod, "perl", "-e", SWAPPING, str(victim), *names)
        try:
            for name in names:
                added = test_pod.invoke("users.add", name, "--password-stdin", stdin=f"{token()}\n", check=False)
                assert "Traceback" not in added.stderr
        finally:
            as_www_data(test_pod, "touch", "/tmp/swapped")  # noqa: S108  # the container's
            swapping.result()
            as_www_data(test_pod, "rm", "-f", "/tmp/swapped", *(f"/data/web/home/{name}" for name in names))  # noqa: S108
    for name in names:
        test_pod.invoke("users.remove", name)
    after = victim.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_link_in_the_place_of_a_home_is_told_and_not_followed(test_pod: PodUnderTest, tmp_path: Path) -> None:
    name = token()
    as_www_data(test_pod, "ln", "-s", str(tmp_path / "nowhere"), f"/data/web/home/{name}")
    try:
        refused = test_pod.invoke("users.add", name, "--password-stdin", stdin=f"{token()}\n", check=False)
        assert refused.code == 1
        assert "Traceback" not in refused.stderr
        assert f"home/{name} is not a folder" in "".join(refused.stderr.splitlines())
        assert list(tmp_path.iterdir()) == []
    finally:
        as_www_data(test_pod, "rm", f"/data/web/home/{name}")
        test_pod.invoke("users.remove", name)
