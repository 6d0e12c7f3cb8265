"""The state of a pod in a checkout: its lock, and the documents that were played."""

import errno
import fcntl
from pathlib import Path

import pytest

from podserve import state
from podserve.choices import CertificateSource, KeyType
from podserve.commands import ROOT
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.settings import SETTINGS
from tests.unit.helpers import pod_with

OTHER = {"pod": "other", "bind": "192.0.2.10", "domain": "example.org", "mail_host": "mx.example.org"}


def test_the_lock_of_another_users_pod_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    pod = pod_with(tmp_path)
    with state.locked(pod):
        pass
    monkeypatch.setattr(Path, "open", refuse)
    with (
        pytest.raises(Problem, match=rf"podserve-simple\.lock belongs to {tmp_path.owner()}.* run this task as"),
        state.locked(pod),
    ):
        pass


def test_a_pod_is_locked_for_as_long_as_a_task_changes_it(tmp_path: Path) -> None:
    pod, another = pod_with(tmp_path), pod_with(tmp_path, pod="another")
    assert not state.is_locked(pod)
    with state.locked(pod):
        assert state.is_locked(pod)
        assert not state.is_locked(another)
    assert not state.is_locked(pod)


def test_a_task_that_finds_the_pod_locked_says_so_and_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, flock = pod_with(tmp_path), fcntl.flock
    with (tmp_path / "podserve-simple.lock").open("a") as other:
        flock(other, fcntl.LOCK_EX)

        def release(file: object, operation: int) -> None:
            if operation == fcntl.LOCK_EX:
                flock(other, fcntl.LOCK_UN)  # when the task starts to wait
            flock(file, operation)  # type: ignore[arg-type]

        monkeypatch.setattr(fcntl, "flock", release)
        with state.locked(pod):
            assert caplog.messages == ["another task holds the lock of podserve-simple: waiting for it to end"]


def remembered(tmp_path: Path, **given: object) -> Pod:
    """Return a pod whose documents are stored as those of the last successful `up`."""
    made = pod_with(tmp_path, **given)
    made.manifests.write(state.applied_folder(made))
    return made


def test_what_was_applied_is_read_again(tmp_path: Path) -> None:
    made = remembered(tmp_path, **OTHER)
    assert state.applied(made) == made


def test_what_was_applied_has_the_settings_of_now_that_no_document_holds(tmp_path: Path) -> None:
    before = remembered(tmp_path)
    now = pod_with(tmp_path, domain="example.org", certificate_source="import", key_type="ec384")
    again = state.applied(now)
    assert again
    assert again.settings.domain == before.settings.domain
    assert again.settings.certificate_source is CertificateSource.IMPORT
    assert again.settings.key_type == (KeyType.EC384,)


def test_what_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    made = pod_with(tmp_path, **OTHER)
    for later in ("FILES_HOST", "PUSH_SIZE_LIMIT", "IMAP_SESSIONS"):
        del made.manifests.config["data"][later]
    made.manifests.write(state.applied_folder(made))
    again = state.applied(pod_with(tmp_path, **{**OTHER, "push_size_limit": "100000"}))
    assert again
    assert (again.manifests.pod, again.manifests.config) == (made.manifests.pod, made.manifests.config)
    assert again.settings.files_host == again.settings.domain
    assert again.settings.push_size_limit == 1073741824
    assert again.settings.imap_sessions == 50


@pytest.mark.parametrize("file", ["config.yaml", "podserve.yaml"])
@pytest.mark.parametrize(
    "content", ["", "apiVersion: v1\n", "metadata: {", "\0\0\0", "- 1\n", "data: {DOMAIN: nonsense}\n", None]
)
def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path, file: str, content: str | None) -> None:
    made = remembered(tmp_path)
    if content is None:
        (state.applied_folder(made) / file).unlink()
    else:
        (state.applied_folder(made) / file).write_text(content)
    assert state.applied(made) is None


def test_the_documents_hold_what_services_read_and_where_the_pod_is(tmp_path: Path) -> None:
    services = {name for name, declared in SETTINGS.items() if declared.services}
    assert set(pod_with(tmp_path).manifests.texts) == {*services, "pod", "bind"}


def test_no_module_but_the_tasks_takes_the_lock() -> None:
    users = [file.name for file in (ROOT / "podserve").rglob("*.py") if "state.locked(" in file.read_text()]
    assert users == []


def test_what_a_pod_goes_back_to_outlives_it_but_not_its_volumes(tmp_path: Path) -> None:
    pod = pod_with(tmp_path)
    for folder in (state.played_folder(pod), state.applied_folder(pod), state.previous_folder(pod)):
        pod.manifests.write(folder)
    state.forget_documents(pod, with_previous=False)
    assert (state.applied(pod), state.previous(pod)) == (None, pod)
    state.forget_documents(pod, with_previous=True)
    assert state.previous(pod) is None
    assert list(tmp_path.iterdir()) == []
