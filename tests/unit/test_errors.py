"""An error that a user can fix is one line without a traceback. A fault of PodServe keeps its traceback."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import Config

from podserve import commands, errors, host, invocation
from podserve.errors import Interrupted, Problem
from tests.unit.helpers import FakePodman

WRONG = [
    ("open.yaml", "domain: [example.org\npod: x\n", "line 2 is not valid YAML: expected ',' or ']'"),
    ("colons.yaml", "a: b: c\n", "line 1 is not valid YAML: mapping values are not allowed here"),
    ("tab.yml", "domain:\n\texample.org\n", "line 2 is not valid YAML: found character '\\t'"),
    ("list.yaml", "- domain\n", "is not a list of settings (domain: example.org)"),
    ("text.yaml", "example.org\n", "is not a list of settings (domain: example.org)"),
    ("nested.yaml", "domain:\n  name: example.org\n", "is not a list of settings (domain: example.org)"),
    ("group.yaml", "run: yes\n", "is not a list of settings (domain: example.org)"),
    ("binary.yaml", "\udcff\udcfe", "is not a list of settings (domain: example.org)"),
    ("open.json", '{"domain": ', "is not a list of settings (domain: example.org)"),
    ("settings.toml", 'domain = "example.org"\n', "Config files of type 'toml'"),
]


@pytest.fixture
def _hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the exception hook of the tasks; restore Python's own at the end."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    invocation.explain_errors()


def read(file: Path) -> None:
    """Read a configuration file as Invoke does for -f. Pass an error to the exception hook, as the interpreter does."""
    config = Config(defaults={"domain": "example.org", "run": {}}, runtime_path=file, lazy=True)
    try:
        config.load_runtime()
    except Exception as error:  # noqa: BLE001  # shows an error as the interpreter does at exit
        sys.excepthook(type(error), error, error.__traceback__)


@pytest.mark.usefixtures("_hook")
@pytest.mark.parametrize(("name", "content", "told"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_configuration_file_that_cannot_be_read_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, told: str
) -> None:
    file = tmp_path / name
    file.write_text(content, errors="surrogateescape")
    read(file)
    said = capsys.readouterr().err
    assert said.startswith("podserve: ")
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("_hook")
@pytest.mark.parametrize("content", ["", "# domain: example.org\n", "domain: example.org\n"])
def test_a_configuration_file_that_can_be_read_is_not_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    read(file)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_hook")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_a_line(capsys: pytest.CaptureFixture[str], number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/passwd.new")
    sys.excepthook(type(error), error, None)
    said = capsys.readouterr().err
    assert said.startswith("podserve: ")
    assert "'/data/passwd.new'. Make room (df -h, podman system prune), then run the same command again" in said
    assert said.count("\n") == 1


@pytest.fixture
def _terminal() -> Iterator[None]:
    """Handle INTERRUPTIONS by default: a shell starts background jobs with SIGINT ignored, and nohup ignores SIGHUP."""
    before = [signal.signal(number, signal.SIG_DFL) for number in errors.INTERRUPTIONS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(errors.INTERRUPTIONS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_task_that_is_told_to_end_says_so(
    fake_podman: FakePodman, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(commands, "GRACE", 0.2)
    # Its input ends when the task waits for Podman. Only then send the signal.
    script = f"#!/bin/sh\ncat > /dev/null\nkill -{number.value} $PPID\nexec sleep 60\n"
    (fake_podman.folder / "podman").write_text(script)
    ended = fake_podman.invoke_here("doctor")
    told = "podserve: interrupted. Run the same command again to continue\n"
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", told)


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize("number", errors.INTERRUPTIONS)
def test_an_interruption_that_was_held_while_a_task_began_is_heard(
    fake_podman: FakePodman, number: signal.Signals
) -> None:
    # host.enter starts a user's task again with these signals blocked, because Python takes time to start.
    again = f"kill -{number.value} $$; exec {sys.executable} -m invoke doctor"
    ended = fake_podman.run("env", f"--block-signal={number.value}", "bash", "-c", again)
    told = "podserve: interrupted. Run the same command again to continue\n"
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", told)


def test_what_goes_on_after_a_problem_ends_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> None:
        raise error

    monkeypatch.setattr(host, "run", lambda *_, **__: fail(Problem("no answer within 4 s")))
    assert host.looked_up("example.org") == set()
    monkeypatch.setattr(host, "run", lambda *_, **__: fail(Interrupted()))
    with pytest.raises(Interrupted):
        host.looked_up("example.org")


@pytest.mark.usefixtures("_hook")
@pytest.mark.parametrize(
    "error", [ValueError("a mistake"), FileNotFoundError(2, "No such file", "passwd"), KeyError(1)]
)
def test_a_mistake_of_ours_keeps_its_traceback(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    try:
        raise error
    except type(error) as raised:
        sys.excepthook(type(raised), raised, raised.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert type(error).__name__ in said


def test_a_problem_ends_a_task_with_1_and_its_words(fake_podman: FakePodman) -> None:
    ended = fake_podman.invoke("logs", "--service", "web")
    told = "podserve: there is no service 'web': expected one of apache, mail, dns\n"
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", told)


@pytest.mark.usefixtures("_hook")
def test_a_problem_and_an_interruption_are_printed_without_the_error_that_caused_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for raised, told in [(Problem("port 53 is taken"), "port 53 is taken"), (Interrupted(), "interrupted. Run the")]:
        try:
            raise raised from OSError(98, "Address already in use")
        except (Problem, Interrupted) as error:
            sys.excepthook(type(error), error, error.__traceback__)
        said = capsys.readouterr().err
        assert said.startswith(f"podserve: {told}")
        assert said.count("\n") == 1


@pytest.mark.parametrize(("name", "content", "told"), [WRONG[0], WRONG[-1]], ids=["no YAML", "no known suffix"])
def test_a_task_with_a_wrong_file_ends_in_a_line_and_touches_nothing(
    fake_podman: FakePodman, tmp_path: Path, name: str, content: str, told: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    ended = fake_podman.invoke_here("-f", str(file), "up")
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert told in ended.stderr
    assert fake_podman.calls == []


def test_a_file_given_with_f_counts_for_more_than_the_environment(fake_podman: FakePodman, tmp_path: Path) -> None:
    # https://docs.pyinvoke.org/en/stable/concepts/configuration.html#the-configuration-hierarchy
    file = tmp_path / "settings.yaml"
    file.write_text("pod: of-the-file\n")
    told = "podserve: there is no volume {}-accounts yet: invoke up makes it\n"
    for words, pod in [((), "of-the-environment"), (("-f", str(file)), "of-the-file")]:
        ended = fake_podman.invoke_here(*words, "users.list", INVOKE_POD="of-the-environment")
        assert ended.stderr == told.format(pod)


def test_a_task_with_a_file_that_is_missing_ends_in_a_line_and_touches_nothing(fake_podman: FakePodman) -> None:
    ended = fake_podman.invoke_here("-f", "/nowhere/settings.yaml", "up")
    expected = "podserve: /nowhere/settings.yaml does not exist: expected a file of settings, such as invoke.yaml\n"
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", expected)
    assert fake_podman.calls == []
