"""How acceptance is shared out among pytest-xdist's workers: by module, the longest first; some tests run alone.

`python -m tests.testbed.distribution FILE…` writes DURATIONS anew from JUnit files of a complete run.
"""

import json
import sys
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from xdist.remote import Producer
from xdist.report import report_collection_diff
from xdist.workermanage import WorkerController, parse_tx_spec_config

DURATIONS = Path(__file__).parents[1] / "acceptance" / "durations.json"
"""Seconds that each module took, as measured: they decide only the order of the modules."""
ALONE = ""
"""The name, in the place of a module's, of what all tests are counted with that no other may run beside."""
WORTH = 20.0
"""Seconds of one module's tests for which a second worker starts the module's fixtures again."""


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def alone(items: Sequence[pytest.Item]) -> str:
    """Return the tests that no other may run beside, as JSON, which is for `Distribution`."""
    return json.dumps([item.nodeid for item in items if _is_alone(item)])


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return tests in the order in which they are given out: the longest module first, those that run alone last.

    A module that was never measured comes first.
    """
    durations: dict[str, float] = json.loads(DURATIONS.read_text())

    def place(item: pytest.Item) -> tuple[bool, float, str]:
        module = item.nodeid.partition("::")[0]
        return _is_alone(item), -durations.get(module, sys.maxsize), module

    return sorted(items, key=place)


class Distribution:
    """pytest-xdist's scheduler of a run. A worker that is done with a module gets the longest that waits.

    Each worker has two tests at most, so that a run that is to end ends soon. Tests that run alone come last: all
    workers but one have ended by then. (See xdist.scheduler.protocol.Scheduling for what the methods are called for.)
    """

    def __init__(self, config: pytest.Config, log: Producer, alone: Path) -> None:
        """Take the file to which each worker writes what `alone` returns."""
        self.config = config
        self._alone_file = alone
        self._alone: set[str] = set()
        self.log = log
        self.numnodes = len(parse_tx_spec_config(config))
        self.collection: list[str] | None = None
        self._collections: dict[WorkerController, list[str]] = {}
        self._given: dict[WorkerController, list[int]] = {}
        self._module: dict[WorkerController, str] = {}
        self._waiting: dict[str, deque[int]] = {}
        self._durations: dict[str, float] = json.loads(DURATIONS.read_text())
        self._tests: Counter[str] = Counter()

    @property
    def nodes(self) -> list[WorkerController]:
        """The workers that have not ended."""
        return list(self._given)

    @property
    def collection_is_completed(self) -> bool:
        """Whether each worker has said which tests there are."""
        return len(self._collections) >= self.numnodes

    @property
    def has_pending(self) -> bool:
        """Whether a test has not ended."""
        return bool(self._waiting) or any(self._given.values())

    @property
    def tests_finished(self) -> bool:
        """Whether no worker needs anything but to be told that no test follows its last."""
        return self.collection_is_completed and not self._waiting and all(len(g) < 2 for g in self._given.values())

    def add_node(self, node: WorkerController) -> None:
        """Count a worker that has started."""
        self._given[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Keep which tests a worker has found."""
        self._collections[node] = list(collection)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        """Give a worker that has ended a test the next one."""
        self._given[node].remove(item_index)
        self._feed(node)

    def mark_test_pending(self, item: str) -> None:
        """Refuse to run a test twice."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        """Refuse to take back a test that was given."""
        raise NotImplementedError

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a worker that has ended; return the test in which it crashed, and let others run what it had left."""
        given = self._given.pop(node)
        self._module.pop(node, None)
        tests = self.collection or []
        for index in given[1:]:
            self._waiting.setdefault(self._module_of(tests[index]), deque()).appendleft(index)
        if self.collection is not None:  # before that nobody knows which tests follow
            for other in self.nodes:
                self._feed(other)
        return tests[given[0]] if given else None

    def schedule(self) -> None:
        """Give each worker its first tests; again when a worker has come in the place of one that crashed."""
        assert self.collection_is_completed
        if self.collection is None:
            first, *others = self._collections
            for other in others:
                expected, found = self._collections[first], self._collections[other]
                if expected != found:
                    differs = report_collection_diff(expected, found, first.gateway.id, other.gateway.id)
                    failed = pytest.CollectReport(other.gateway.id, "failed", differs, [])
                    self.config.hook.pytest_collectreport(report=failed)
                    return
            self.collection = self._collections[first]
            self._alone = set(json.loads(self._alone_file.read_text()))
            for index, nodeid in enumerate(self.collection):
                self._waiting.setdefault(self._module_of(nodeid), deque()).append(index)
            self._tests.update({module: len(tests) for module, tests in self._waiting.items()})
        for node in self.nodes:
            self._feed(node)

    def _feed(self, node: WorkerController) -> None:
        """Let a worker have two tests: it begins one when it knows which comes after, or that none does."""
        while not node.shutting_down and len(self._given[node]) < 2:
            module = self._next(node)
            if module == ALONE and len(self.nodes) > 1:
                if all(other.shutting_down for other in self.nodes if other is not node):
                    return  # it goes on when the others have ended, and removed what they made
                module = None
            if module is None:
                node.shutdown()
                return
            index = self._take(node, module)
            self._given[node].append(index)
            node.send_runtest_some([index])

    def _next(self, node: WorkerController) -> str | None:
        """Return the module that a worker's next test is of; None where no test is left for it."""
        if (mine := self._module.get(node)) in self._waiting:
            return mine
        begun = set(self._module.values())
        for module in self._waiting:  # the longest first
            if module not in begun and module != ALONE:
                return module
        longest = max((module for module in self._waiting if module != ALONE), key=self._left, default=None)
        if longest and self._left(longest) >= WORTH:
            return longest
        return ALONE if ALONE in self._waiting else None

    def _module_of(self, nodeid: str) -> str:
        return ALONE if nodeid in self._alone else nodeid.partition("::")[0]

    def _left(self, module: str) -> float:
        """Return about how many seconds the tests of a module take that nobody has begun."""
        return self._durations.get(module, 0.0) * len(self._waiting[module]) / self._tests[module]

    def _take(self, node: WorkerController, module: str) -> int:
        tests = self._waiting[module]
        helps = any(at == module for other, at in self._module.items() if other is not node)
        index = tests.pop() if helps else tests.popleft()
        if not tests:
            del self._waiting[module]
        self._module[node] = module
        return index


def measured(files: Sequence[Path]) -> dict[str, float]:
    """Return the seconds that each module's tests took, by its path, as JUnit files say."""
    seconds: Counter[str] = Counter()
    for file in files:
        for case in ET.parse(file).getroot().iter("testcase"):  # noqa: S314  # pytest's own
            seconds[f"{case.attrib['classname'].replace('.', '/')}.py"] += float(case.attrib["time"])  # type: ignore[assignment]
    return {module: round(taken, 1) for module, taken in sorted(seconds.items())}


if __name__ == "__main__":
    DURATIONS.write_text(json.dumps(measured([Path(word) for word in sys.argv[1:]]), indent=1) + "\n")
