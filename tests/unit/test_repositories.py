"""Repositories: valid names, what the tasks read from the volume, and the commands that they run."""

import os
from pathlib import Path

import pytest

from podserve.errors import Problem
from podserve.repositories import PUBLIC_MARK, name_of
from tests.unit.helpers import FakePodman

APACHE = "exec -i --user www-data podserve-simple-apache"


def make(podman: FakePodman, name: str, description: str | None = None, *, public: bool = False) -> Path:
    """Make a folder on the volume that looks like a repository to the tasks."""
    folder = podman.folder / "git" / f"{name}.git"
    folder.mkdir(parents=True)
    if description is not None:
        (folder / "description").write_text(description)
    if public:
        (folder / PUBLIC_MARK).touch()
    return folder


def done(podman: FakePodman) -> list[str]:
    """Return the commands that were run in the apache container."""
    return [call.removeprefix(f"{APACHE} ") for call in podman.calls if call.startswith("exec")]


@pytest.mark.parametrize("name", ["a", "7", "Project", "my-project_2", "a.b", "x.y.z", "a" * 63])
def test_a_repository_may_be_named(name: str) -> None:
    assert name_of(name) == name_of(f"{name}.git") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".git", ".", "..", "../x", "a/b", "/a", "a..b", "-x", "--public", "_a", ".a", "a" * 64, "a" * 100),
        *("a b", "a\n", "a\0", "a%2fb", "a\\b", "a?b", "a;b", "a'b", 'a"b', "$(a)", "é", "a\N{FULLWIDTH SOLIDUS}b"),
    ],
)
def test_a_repository_may_not_be_named(name: str) -> None:
    with pytest.raises(Problem, match="cannot be the name of a repository: expected letters, digits, dots, hyphens"):
        name_of(name)


def test_a_repository_is_added_as_the_user_that_serves_it_and_is_private(fake_podman: FakePodman) -> None:
    added = fake_podman.invoke_here("repos.add", "project", "--description", "A  tool\nof ours")
    assert (added.code, added.stderr) == (0, "")
    assert added.stdout == "git clone https://lab.sethlakowske.com/git/project.git\n"
    path = "/data/web/git/project.git"
    assert done(fake_podman) == [
        f"git init --quiet --bare --initial-branch=main --template= {path}",
        f"tee {path}/description",
    ]


def test_a_repository_that_is_there_is_not_added_again(fake_podman: FakePodman) -> None:
    make(fake_podman, "project")
    ended = fake_podman.invoke_here("repos.add", "project.git", "--public")
    assert (ended.code, ended.stdout, done(fake_podman)) == (1, "", [])
    assert ended.stderr.startswith("podserve: there is a repository project.git already.")


def test_repositories_are_listed_by_name_with_what_they_say(fake_podman: FakePodman) -> None:
    make(fake_podman, "b", "Second\n", public=True)
    make(fake_podman, "a")
    (fake_podman.folder / "git" / "notes").mkdir()
    listed = fake_podman.invoke_here("repos.list").stdout.splitlines()
    assert [line.split() for line in listed] == [
        ["Repository", "Seen", "by", "Description"],
        ["a", "accounts"],
        ["b", "everybody", "Second"],
    ]


def test_an_empty_list_says_how_to_add_one(fake_podman: FakePodman) -> None:
    assert fake_podman.invoke_here("repos.list").stdout == "no repositories. Add one: invoke repos.add NAME\n"


@pytest.mark.parametrize(
    ("task", "command", "said"),
    [
        (("publish",), f"touch /data/web/git/project.git/{PUBLIC_MARK}", "project is public"),
        (("hide",), f"rm -f /data/web/git/project.git/{PUBLIC_MARK}", "project is private"),
        (("remove", "--yes"), "rm -r -f /data/web/git/project.git", "project is removed"),
    ],
)
def test_a_repository_is_changed_and_no_other(
    fake_podman: FakePodman, task: tuple[str, ...], command: str, said: str
) -> None:
    make(fake_podman, "project")
    verb, *options = task
    ended = fake_podman.invoke_here(f"repos.{verb}", "project", *options)
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"{said}\n", "")
    assert done(fake_podman) == [command]


@pytest.mark.parametrize("task", ["publish", "hide", "remove", "head"])
@pytest.mark.parametrize("name", ["other", "../git/project", "project.git/.."])
def test_what_is_no_repository_is_not_changed(fake_podman: FakePodman, task: str, name: str) -> None:
    make(fake_podman, "project")
    ended = fake_podman.invoke_here(f"repos.{task}", name, *(["main"] if task == "head" else []))
    assert (ended.code, ended.stdout, done(fake_podman)) == (1, "", [])
    assert ended.stderr.startswith("podserve: ")


def test_a_repository_is_not_removed_without_a_terminal_to_ask(fake_podman: FakePodman) -> None:
    make(fake_podman, "project")
    ended = fake_podman.invoke_here("repos.remove", "project", stdin="project\n")
    assert (ended.code, ended.stdout, done(fake_podman)) == (1, "", [])
    assert ended.stderr == "podserve: there is no terminal for the question: give --yes to skip it\n"


def test_what_the_web_server_wrote_is_read_through_no_link_and_shown_as_text(fake_podman: FakePodman) -> None:
    for name, where in {"shadow": "/etc/shadow", "nowhere": "/no/such/file", "zero": "/dev/zero"}.items():
        (make(fake_podman, name) / "description").symlink_to(where)
    os.mkfifo(make(fake_podman, "pipe") / "description")
    make(fake_podman, "colours", "\x1b[31mred\x1b]0;title\x07\n")
    make(fake_podman, "long", "long" * 10**6)
    make(fake_podman, "\x1b[2J")
    (fake_podman.folder / "git" / "out.git").symlink_to("/etc")
    listed = fake_podman.invoke_here("repos.list")
    assert (listed.code, listed.stderr) == (0, "")
    assert "root:" not in listed.stdout
    assert listed.stdout.count("not a regular") == 4
    assert "\x1b" not in listed.stdout
    assert "\\x1b[31mred" in listed.stdout
    assert len(listed.stdout) < 5000
    assert "out" not in listed.stdout.split()
