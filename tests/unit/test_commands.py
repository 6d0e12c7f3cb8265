"""Running other programs: their output is kept, and failures are reported."""

import contextlib
import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podserve import commands
from podserve.commands import Result, lines, run
from podserve.errors import Problem
from tests.unit.helpers import FakePodman

FAILING = ("sh", "-c", "echo said; echo complained >&2; exit 3")


def test_what_a_command_prints_is_returned_apart() -> None:
    assert run(["sh", "-c", "echo said; echo complained >&2"]).__dict__ == {
        "argv": ("sh", "-c", "echo said; echo complained >&2"),
        "code": 0,
        "stdout": "said\n",
        "stderr": "complained\n",
    }


def test_a_command_reads_what_it_is_given() -> None:
    assert run(["cat"], stdin="über\n").stdout == "über\n"


def test_a_command_reads_nothing_of_this_terminal() -> None:
    assert run(["cat"]).stdout == ""


def test_words_reach_a_command_as_they_are() -> None:
    words = ["$HOME", "a b", "*", "'", "; false"]
    assert run(["printf", r"%s\n", *words]).stdout.splitlines() == words


def test_bytes_that_are_no_text_do_not_end_it() -> None:
    assert run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_the_environment_can_be_given() -> None:
    assert run(["/usr/bin/env"], env={"ONLY": "this"}).stdout == "ONLY=this\n"


def test_a_command_that_fails_is_told_with_all_it_said() -> None:
    with pytest.raises(Problem) as failed:
        run(FAILING)
    told = f"this command failed:\n$ {' '.join(FAILING)}\nsaid\ncomplained\n[exit 3]"
    assert failed.value.text == told


def test_a_command_is_logged_with_its_exit_code_and_without_what_it_reads(caplog: pytest.LogCaptureFixture) -> None:
    run(["sh", "-c", "cat >&2", "two words"], stdin="a secret", env={"PASSWORD": "another secret", **os.environ})
    ((name, level, said),) = caplog.record_tuples
    assert (name, level) == ("podserve.commands", logging.DEBUG)
    assert re.fullmatch(r"sh -c 'cat >&2' 'two words': exit code 0 after \d+\.\d\d s", said)


def test_a_command_that_fails_is_logged_with_the_end_of_what_it_complained_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(["sh", "-c", "echo said; seq 100 >&2; printf '\\033[2Jno' >&2; exit 3"], check=False)
    (said,) = caplog.messages
    assert "exit code 3 after" in said
    assert said.splitlines()[1:] == [f"  {number}" for number in range(72, 101)] + [r"  \x1b[2Jno"]


def test_a_command_that_is_shown_as_it_goes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert list(lines(["echo", "said"])) == ["said"]
    assert [said.partition(" after ")[0] for said in caplog.messages] == ["echo said: exit code 0"]


def test_a_command_may_fail_where_that_is_an_answer() -> None:
    result = run(FAILING, check=False)
    assert (result.ok, result.code, result.stdout) == (False, 3, "said\n")


def test_a_result_reads_like_a_terminal() -> None:
    assert str(Result(("ls", "/x"), 2, "", "ls: no\n")) == "$ ls /x\nls: no\n[exit 2]"


def test_of_much_that_was_printed_the_end_is_shown() -> None:
    said = "".join(f"{number}\n" for number in range(100_000))
    assert str(Result(("cp",), 1, said, "no\n")).splitlines() == [
        "$ cp",
        *map(str, range(99_971, 100_000)),
        "no",
        "[exit 1]",
    ]


@pytest.mark.parametrize("check", [True, False])
def test_a_program_that_is_missing_is_told_with_what_installs_it(check: bool) -> None:  # noqa: FBT001  # parametrized
    with pytest.raises(Problem, match=r"no-such-program is not installed: run \./bootstrap"):
        run(["no-such-program", "--now"], check=check)


def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(Problem, match="no answer within 0 s from: sleep 30"):
        run(["sleep", "30"], timeout=0.05)


def test_each_line_comes_with_standard_error_in_order() -> None:
    assert list(lines(["sh", "-c", "echo one; echo two >&2; printf three"])) == ["one", "two", "three"]


def test_a_command_that_goes_on_after_its_last_line_is_not_ended(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    coming = lines(["sh", "-c", 'echo one; exec >&- 2>&-; read -r word <"$0"', str(pipe)])
    assert next(coming) == "one"
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, coming)
        with contextlib.suppress(TimeoutError):
            rest.result(0.3)
        pipe.write_text("word\n")
        assert rest.result(10) == []


def test_lines_come_while_the_command_runs(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    coming = lines(["sh", "-c", 'echo one; cat "$0"', str(pipe)])
    assert next(coming) == "one"
    pipe.write_text("two\n")
    assert list(coming) == ["two"]


def test_after_its_last_line_a_command_that_failed_is_told() -> None:
    said: list[str] = []
    with pytest.raises(Problem, match="ended with exit code 3"):
        said.extend(lines(FAILING))
    assert said == ["said", "complained"]


def test_a_task_becomes_a_program_with_its_words_and_its_exit_code(fake_podman: FakePodman) -> None:
    script = "from podserve.commands import become; become('podman', 'pod', 'inspect', 'a b'); print('went on')"
    became = fake_podman.run(sys.executable, "-c", script)
    assert (became.code, became.stdout) == (125, "")
    assert fake_podman.calls == ["pod inspect a b"]


def test_podman_that_cannot_run_a_container_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "docker" / "engine.sh"
    engine.parent.mkdir()
    engine.write_text("#!/bin/sh\necho 'engine: catatonit is missing' >&2\nexit 1\n")
    engine.chmod(0o755)
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    commands.environment.cache_clear()
    try:
        with pytest.raises(Problem, match="engine: catatonit is missing"):
            commands.podman("version")
    finally:
        commands.environment.cache_clear()


def test_no_other_module_runs_programs() -> None:
    using = [
        file.name for file in Path(commands.__file__).parent.glob("*.py") if subprocess.__name__ in file.read_text()
    ]
    assert using == ["commands.py"]
