"""Where a backup is written, and what is checked before a restore."""

import contextlib
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from podserve import doctor, volumes
from podserve.backup import keeping, reading, snapshot, writing
from podserve.backup.layout import Extent
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from tests.unit.helpers import FakePodman, pod_with


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """A pod whose snapshot is a folder with one file."""
    made = pod_with(tmp_path / "state")
    (tmp_path / "kept" / "mail").mkdir(parents=True)
    (tmp_path / "kept" / "mail" / "letter").write_text("Dear sir,")
    monkeypatch.setattr(volumes, "existing", set)
    monkeypatch.setattr(snapshot, "taken", lambda _: contextlib.nullcontext((Folder.at(tmp_path / "kept"), [])))
    (tmp_path / "state").mkdir()
    monkeypatch.setattr("podserve.pod.STATE", made.state)
    return made


def ignore(_: int) -> None:
    """Ignore progress."""


def back_up(pod: Pod, file: Path) -> Path:
    """Make a backup, and return its file."""
    keeping.backup(pod, str(file), ignore, ignore)
    return file


def test_a_backup_is_its_owners_alone_and_nothing_else_is_left(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    file = back_up(pod, tmp_path / "backups" / "one")
    assert file.stat().st_mode & 0o777 == 0o600
    assert reading.verify_archive(file, ignore)[0].settings["domain"] == pod.settings.domain
    assert list(file.parent.iterdir()) == [file]


def test_what_lies_where_a_backup_is_written_first_is_told_and_left(pod: Pod, tmp_path: Path) -> None:
    part = tmp_path / "one.part"
    part.write_text("of another backup")
    with pytest.raises(Problem, match=r"one\.part exists already"):
        back_up(pod, tmp_path / "one")
    assert part.read_text() == "of another backup"


def test_a_backup_is_not_written_through_a_link(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for target in ("precious", "nowhere"):
        (tmp_path / "one.part").unlink(missing_ok=True)
        (tmp_path / "one.part").symlink_to(tmp_path / target)
        with pytest.raises(Problem, match=r"one\.part exists already"):
            back_up(pod, tmp_path / "one")
        assert (tmp_path / "one.part").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_that_failed_is_told_until_one_succeeds(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keeping.failed(pod) == ""
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_archive", fail)
        with pytest.raises(Problem):
            back_up(pod, tmp_path / "one")
    assert keeping.failed(pod).endswith("failed, and made no archive: the disk is on fire")
    back_up(pod, tmp_path / "one")
    assert keeping.failed(pod) == ""


def test_a_backup_that_was_killed_is_told_and_one_under_way_is_not(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write_archive", killed)
    with pytest.raises(KeyboardInterrupt):
        back_up(pod, tmp_path / "one")
    assert keeping.failed(pod).endswith("it was killed, or interrupted, before its end")
    with (pod.state / f"{pod.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert keeping.failed(pod) == ""
    assert keeping.failed(pod)


def test_an_archive_that_does_not_fit_is_not_unpacked(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    keeping.require_room(folder, Extent(1, 4096, 1))
    for too_much in (Extent(1, 2**60, 1), Extent(1, 4096, 2**60)):
        with pytest.raises(Problem, match="the disk of"):
            keeping.require_room(folder, too_much)


def fail(*_: object) -> list[str]:
    """Fail with an I/O error, as a broken disk does."""
    raise OSError(5, "the disk is on fire")


def test_what_had_to_be_left_out_is_told_as_well(pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        snapshot, "taken", lambda _: contextlib.nullcontext((Folder.at(tmp_path / "kept"), [f"web/{'d/' * 9000}d"]))
    )
    told = keeping.backup(pod, str(tmp_path / "one"), ignore, ignore)
    assert [line[:90].count("web/d/d/") for line in told] == [1]
    assert "(18005 bytes) is longer than a path may be in a backup" in told[0]
    assert told[0] in keeping.failed(pod)
    assert reading.verify_archive(tmp_path / "one", ignore)


@pytest.mark.parametrize("spoilt", ["", "[]", "{", '{"at": 1}', '{"at": "\\u001b[2J", "why": "\\u0007"}'])
def test_what_was_kept_of_a_failure_is_never_obeyed_by_a_terminal(pod: Pod, spoilt: str) -> None:
    (pod.state / f"{pod.name}.backup").write_text(spoilt)
    assert keeping.failed(pod).isprintable()
    assert keeping.failed(pod)


HERE = "here the host is looked at, and images are built"


@pytest.fixture
def _nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: Pod) -> None:
        raise Problem(HERE)

    monkeypatch.setattr(doctor, "require", end)


@pytest.mark.usefixtures("_nothing_built")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: file.unlink(), "cannot be read: No such file"),
        (lambda file: file.write_text("Dear sir,"), "is not a complete backup of PodServe"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "Nothing was changed"),
    ],
    ids=["missing", "foreign", "cut off"],
)
def test_an_archive_that_is_no_good_is_refused_before_anything_is_built(
    pod: Pod, tmp_path: Path, fake_podman: FakePodman, spoil: Callable[[Path], object], told: str
) -> None:
    file = back_up(pod, tmp_path / "one")
    spoil(file)
    refused = fake_podman.invoke_here("restore", str(file))
    assert refused.code == 1
    assert told in " ".join(refused.stderr.split())


@pytest.mark.usefixtures("_nothing_built")
def test_one_of_another_domain_is_refused_before_anything_is_built(
    pod: Pod, tmp_path: Path, fake_podman: FakePodman
) -> None:
    file = back_up(pod, tmp_path / "one")
    assert "set domain" in fake_podman.invoke_here("restore", str(file), INVOKE_DOMAIN="example.com").stderr


@pytest.mark.usefixtures("_nothing_built")
def test_with_one_that_is_whole_it_goes_on(pod: Pod, tmp_path: Path, fake_podman: FakePodman) -> None:
    file = back_up(pod, tmp_path / "one")
    assert HERE in fake_podman.invoke_here("restore", str(file)).stderr


def test_settings_that_differ_from_the_archives_are_told(pod: Pod, tmp_path: Path) -> None:
    header, _ = keeping.verify_for(pod, back_up(pod, tmp_path / "one"), ignore)
    assert keeping.differences(pod, header) == []
    other = pod_with(mail_host="post.example.org", files_host=pod.settings.files_host, postmaster="ada")
    was = pod.settings
    assert keeping.differences(other, header) == [
        f"mail_host was {was.mail_host!r} when the archive was made, and is 'post.example.org' now",
        f"postmaster was {was.postmaster!r} when the archive was made, and is 'ada' now",
    ]
