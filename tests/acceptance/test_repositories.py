"""The tasks repos.*: a repository is added, shown to strangers, hidden from them, and removed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podserve.commands import Result, podman
from tests.acceptance.git import Git
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import Account, token


def seen(own: OwnPod, name: str, account: Account | None = None) -> int:
    """Return the status with which GitWeb answers for a repository."""
    with own.server.http(account) as client:
        return client.get(f"/git/{name}.git").status_code


def test_a_repository_that_is_added_is_private_empty_and_ready_for_the_first_push(
    own: OwnPod, alice: Account, tmp_path: Path
) -> None:
    name, git = token(), Git(own.server, alice)
    added = own.invoke("repos.add", name)
    assert added.stdout == f"git clone https://{own.server.domain}/git/{name}.git\n"
    assert (seen(own, name), seen(own, name, alice)) == (401, 200)
    git.run("clone", git.url(f"{name}.git"), str(tmp_path / "clone"))
    commit = git.commit(tmp_path / "clone", "First", {"file.txt": b"First\n"})
    git.run("-C", str(tmp_path / "clone"), "push", "--quiet", "origin", "HEAD")
    assert f"{commit}\trefs/heads/main" in git.run("ls-remote", git.url(f"{name}.git")).stdout


def test_a_repository_is_hidden_and_published_at_once_and_the_list_tells(own: OwnPod, alice: Account) -> None:
    name, git = token(), Git(own.server)
    own.invoke("repos.add", name, "--public", "--description", "Old\ncode")
    for task, status, tells in (("", 200, "everybody"), ("hide", 401, "accounts"), ("publish", 200, "everybody")):
        if task:
            own.invoke(f"repos.{task}", name)
        assert (seen(own, name), seen(own, name, alice)) == (status, 200)
        assert git.run("ls-remote", git.url(f"{name}.git"), check=False).ok == (status == 200)
        (row,) = [line for line in own.invoke("repos.list").stdout.splitlines() if line.startswith(f"{name} ")]
        assert row.split() == [name, tells, "Old", "code"]


def test_a_description_is_shown_as_it_was_given_and_nothing_else(own: OwnPod) -> None:
    name, word = token(), token()
    description = f"""<script>{word}</script> "é" & 'q' [bold]\N{SNOWMAN}"""
    own.invoke("repos.add", name, "--public", "--description", description)
    with own.server.http() as client:
        pages = [client.get(path).text for path in (f"/git/{name}.git", "/git/?o=project", f"/git/{name}.git/rss")]
    for page in pages:
        assert f"&lt;script&gt;{word}" in page
        assert f"<script>{word}" not in page
    assert "\N{SNOWMAN}" in pages[0]
    assert "[bold]\N{SNOWMAN}" in own.invoke("repos.list").stdout


def test_a_name_is_given_once(own: OwnPod) -> None:
    name = token()
    own.invoke("repos.add", name, "--description", "first")
    for again in (name, f"{name}.git"):
        refused = own.invoke("repos.add", again, "--public", check=False)
        assert refused.code == 1
        assert f"there is a repository {again} already" in refused.stderr
    assert seen(own, name) == 401
    assert "first" in own.invoke("repos.list").stdout


@pytest.mark.parametrize("name", ["../dav/x", ".git", "a/b", "", "-x", "a" * 100])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_made(own: OwnPod, name: str) -> None:
    before = {path for folder in ("git", "dav") for path in (own.folder("web") / folder).iterdir()}
    refused = own.invoke("repos.add", "--name", name, check=False)
    assert refused.code == 1
    assert "is no name for a repository" in refused.stderr
    assert {path for folder in ("git", "dav") for path in (own.folder("web") / folder).iterdir()} == before


def test_a_repository_is_removed_when_one_says_so_and_only_then(own: OwnPod, alice: Account) -> None:
    name, other = token(), token()
    for each in (name, other):
        own.invoke("repos.add", each)
    asked = own.invoke("repos.remove", name, stdin=f"{name}\n", check=False)
    assert (asked.code, asked.stdout) == (1, "")
    assert "give --yes" in asked.stderr
    assert seen(own, name, alice) == 200
    assert own.invoke("repos.remove", name, "--yes").stdout == f"{name} is removed\n"
    assert (seen(own, name, alice), seen(own, other, alice)) == (404, 200)
    assert not (own.folder("web") / "git" / f"{name}.git").exists()


@pytest.mark.parametrize("task", ["publish", "hide", "remove"])
def test_what_is_not_there_is_neither_changed_nor_removed(own: OwnPod, task: str) -> None:
    name = token()
    refused = own.invoke(f"repos.{task}", name, check=False)
    assert refused.code == 1
    assert f"there is no repository {name}" in refused.stderr
    assert "invoke repos.list" in refused.stderr
    assert not (own.folder("web") / "git" / f"{name}.git").exists()


def as_www_data(own: OwnPod, *argv: str) -> Result:
    """Run a program as somebody who has broken into the web server."""
    return podman("exec", "--user", "www-data", own.container("apache"), *argv)


def test_what_the_web_server_put_in_the_place_of_a_description_is_neither_followed_nor_obeyed(own: OwnPod) -> None:
    links = {"shadow": "/etc/shadow", "zero": "/dev/zero", "nowhere": "/no/such/file"}
    names = {what: f"{token()}-{what}" for what in (*links, "pipe", "colours")}
    for name in names.values():
        own.invoke("repos.add", name)
    described = {what: f"/data/web/git/{name}.git/description" for what, name in names.items()}
    for what, path in described.items():
        as_www_data(own, "rm", path)
        if what in links:
            as_www_data(own, "ln", "-s", links[what], path)
    as_www_data(own, "mkfifo", described["pipe"])
    as_www_data(own, "sh", "-c", "printf '\\033[31mred\\033]0;title\\007\\n' > \"$1\"", "sh", described["colours"])
    as_www_data(own, "ln", "-s", "/etc", f"/data/web/git/{names['shadow']}-out.git")
    try:
        listed = own.invoke("repos.list")
        assert "root:" not in listed.stdout
        assert "\x1b" not in listed.stdout
        assert "\\x1b[31mred" in "".join(listed.stdout.split())
        assert listed.stdout.count("description is not read") >= 4
        assert "-out" not in listed.stdout
    finally:
        as_www_data(own, "rm", f"/data/web/git/{names['shadow']}-out.git")
        for name in names.values():
            own.invoke("repos.remove", name, "--yes")


SWAPPING = """
chdir "/data/web/home" or die;
my ($target, @names) = @ARGV;
my $end = time + 30;
while (time < $end && !-e "/tmp/swapped") {
    for (@names) { rmdir && symlink $target, $_ }
}
"""


def test_a_home_that_is_swapped_while_it_is_made_gives_no_file_of_the_host_away(own: OwnPod, tmp_path: Path) -> None:
    victim, names = tmp_path / "victim", [token() for _ in range(10)]
    victim.write_text("precious")
    before = victim.stat()
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(as_www_data, own, "perl", "-e", SWAPPING, str(victim), *names)
        try:
            for name in names:
                added = own.invoke("users.add", name, "--password-stdin", stdin=f"{token()}\n", check=False)
                assert "Traceback" not in added.stderr
        finally:
            as_www_data(own, "touch", "/tmp/swapped")  # noqa: S108  # the container's
            swapping.result()
            as_www_data(own, "rm", "-f", "/tmp/swapped", *(f"/data/web/home/{name}" for name in names))  # noqa: S108
    for name in names:
        own.invoke("users.remove", name)
    after = victim.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_link_in_the_place_of_a_home_is_told_and_not_followed(own: OwnPod, tmp_path: Path) -> None:
    name = token()
    as_www_data(own, "ln", "-s", str(tmp_path / "nowhere"), f"/data/web/home/{name}")
    try:
        refused = own.invoke("users.add", name, "--password-stdin", stdin=f"{token()}\n", check=False)
        assert refused.code == 1
        assert "Traceback" not in refused.stderr
        assert f"home/{name} is no folder" in "".join(refused.stderr.splitlines())
        assert list(tmp_path.iterdir()) == []
    finally:
        as_www_data(own, "rm", f"/data/web/home/{name}")
        own.invoke("users.remove", name)
