"""The tasks repos.*: a repository is added, shown to strangers, hidden from them, and removed."""

from pathlib import Path

import pytest

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
