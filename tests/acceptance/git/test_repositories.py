"""The tasks repos.*, and that these and users.add are safe if an attacker controls the files on the web volume."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podserve.commands import Result, podman
from tests.testbed.git import Git
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


@pytest.mark.parametrize("task", ["publish", "hide", "remove"])
def test_what_is_not_there_is_neither_changed_nor_removed(test_pod: PodUnderTest, task: str) -> None:
    name = token()
    refused = test_pod.invoke(f"repos.{task}", name, check=False)
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
