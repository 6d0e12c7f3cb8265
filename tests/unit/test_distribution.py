"""The scheduler of the acceptance tests: which worker runs which test, and when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.testbed import distribution
from tests.testbed.distribution import Distribution, measured

LONG = [f"tests/acceptance/test_long.py::test_{number}" for number in range(8)]
SHORT = [f"tests/acceptance/test_short.py::test_{number}" for number in range(2)]
QUIET = ["tests/acceptance/test_short.py::test_quiet"]


@dataclass(eq=False)
class Worker:
    """A fake worker: the tests that it received and has not run, and whether it was told that no other follows."""

    name: str
    given: list[int] = field(default_factory=list)
    shutting_down: bool = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Receive tests."""
        self.given += indices

    def shutdown(self) -> None:
        """Record that no other test follows."""
        self.shutting_down = True

    @property
    def can_begin(self) -> bool:
        """Whether the worker can start its first test: it knows the next one, or that none follows."""
        return len(self.given) > 1 or bool(self.given and self.shutting_down)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that lists the tests that run alone. The durations are replaced, too."""
    durations = tmp_path / "durations.json"
    durations.write_text(json.dumps({"tests/acceptance/test_long.py": 80.0, "tests/acceptance/test_short.py": 1.0}))
    monkeypatch.setattr(distribution, "DURATIONS", durations)
    file = tmp_path / "alone.json"
    file.write_text(json.dumps(QUIET))
    return file


def joined(alone: Path, workers: Sequence[Worker]) -> Distribution:
    """Return a scheduler with these workers, before any collection."""
    options = {"tx": ["popen"] * len(workers)}
    config = SimpleNamespace(getvalue=options.get, getoption=options.get, option=SimpleNamespace(**options))
    made = Distribution(config, None, alone)  # type: ignore[arg-type]  # Distribution reads no other options
    for worker in workers:
        made.add_node(worker)
    return made


def scheduler(alone: Path, workers: Sequence[Worker], tests: Sequence[str]) -> Distribution:
    """Return a scheduler that has sent these workers their first tests."""
    made = joined(alone, workers)
    for worker in workers:
        made.add_node_collection(worker, tests)
    assert made.collection_is_completed
    made.schedule()
    return made


def run(made: Distribution, workers: Sequence[Worker], tests: Sequence[str]) -> list[tuple[str, str]]:
    """Let each worker run a test in turn until all have ended; return the pairs of worker and test."""
    ran, there = [], list(workers)
    while there:
        for worker in list(there):
            if worker.can_begin:
                ran.append((worker.name, tests[worker.given[0]]))
                made.mark_test_complete(worker, worker.given.pop(0))
            elif worker.shutting_down:
                there.remove(worker)
                assert made.remove_node(worker) is None
        assert there == [] or any(worker.can_begin or worker.shutting_down for worker in there)
    return ran


def test_each_test_is_run_once_and_what_runs_alone_is_last_on_the_worker_that_is_left(alone: Path) -> None:
    tests, workers = [*LONG, *SHORT, *QUIET], [Worker("one"), Worker("two")]
    made = scheduler(alone, workers, tests)
    ran = run(made, workers, tests)
    assert sorted(test for _, test in ran) == sorted(tests)
    assert ran[-1][1] == QUIET[0]
    assert made.tests_finished
    assert not made.has_pending


def test_a_test_that_runs_alone_waits_until_the_others_have_ended(alone: Path) -> None:
    tests, workers = [*SHORT, *QUIET], [Worker("one"), Worker("two")]
    made = scheduler(alone, workers, tests)
    one, two = workers
    assert two.shutting_down, "it gets nothing more"
    assert (one.given, made.tests_finished) == ([0, 1], False)
    made.mark_test_complete(one, one.given.pop(0))
    assert not one.can_begin
    made.remove_node(two)
    assert one.given == [1, 2]


def test_the_longest_module_begins_first_and_a_free_worker_helps_with_it(alone: Path) -> None:
    tests, workers = [*LONG, *SHORT], [Worker("one"), Worker("two")]
    ran = run(scheduler(alone, workers, tests), workers, tests)
    assert ran[0] == ("one", LONG[0])
    assert ran[1] == ("two", SHORT[0])
    assert {name for name, test in ran if test in LONG} == {"one", "two"}


def test_one_worker_runs_all_in_order(alone: Path) -> None:
    tests, worker = [*LONG, *SHORT, *QUIET], Worker("one")
    assert [test for _, test in run(scheduler(alone, [worker], tests), [worker], tests)] == tests


def test_what_a_worker_that_crashed_had_left_is_run_by_another(alone: Path) -> None:
    tests, workers = [*LONG], [Worker("one"), Worker("two")]
    made = scheduler(alone, workers, tests)
    one, two = workers
    assert made.remove_node(one) == LONG[0]
    ran = run(made, [two], tests)
    assert sorted(test for _, test in ran) == LONG[1:]


def test_durations_are_read_from_a_junit_file(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    cases = "".join(f'<testcase classname="tests.acceptance.test_long" name="{n}" time="{n}.04"/>' for n in (1, 2))
    file.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert measured([file]) == {"tests/acceptance/test_long.py": 3.1}


def test_a_worker_that_is_lost_before_the_tests_are_known_ends_no_other(alone: Path) -> None:
    lost, other = Worker("lost"), Worker("other")
    joined(alone, [lost, other]).remove_node(lost)
    assert not other.shutting_down
