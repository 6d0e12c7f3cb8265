"""Schedule the acceptance tests on pytest-xdist's workers: by module, the longest first; some tests run alone.

`python -m tests.testbed.distribution FILE…` rewrites DURATIONS from the JUnit files of a complete run.
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
"""The measured seconds of each module. They decide only the order of the tests, and which worker runs them."""
ALONE = ""
"""The key of all tests with the mark `alone`, in place of a module's path. No other test may run beside them."""
WORTH = 20.0
"""A second worker helps with a module if the remaining tests take at least this many seconds.

Fewer seconds are not worth another start of the module's fixtures.
"""


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def alone(items: Sequence[pytest.Item]) -> str:
    """Return the node ids of the tests with the mark `alone`, as a JSON list for `Distribution`."""
    return json.dumps([item.nodeid for item in items if _is_alone(item)])


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order in which they are sent to workers: the longest module first, `alone` last.

    A module without a measured duration comes first.
    """
    durations: dict[str, float] = json.loads(DURATIONS.read_text())

    def place(item: pytest.Item) -> tuple[bool, float, str]:
        module = item.nodeid.partition("::")[0]
        return _is_alone(item), -durations.get(module, sys.maxsize), module

    return sorted(items, key=place)


class Distribution:
    """The scheduler of pytest-xdist for one run. A worker that has finished a module gets the longest waiting one.

    Each worker has at most two tests, so an interrupted run ends soon. Tests with the mark `alone` come last, when all
    workers but one have ended. xdist.scheduler.protocol.Scheduling documents when each method is called.
    """

    def __init__(self, config: pytest.Config, log: Producer, alone: Path) -> None:
        """Take the file to which each worker writes the result of `alone`."""
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
        """Whether each worker has reported the tests that it collected."""
        return len(self._collections) >= self.numnodes

    @property
    def has_pending(self) -> bool:
        """Whether a test has not finished."""
        return bool(self._waiting) or any(self._given.values())

    @property
    def tests_finished(self) -> bool:
        """Whether no test is waiting and each worker has at most one. Then pytest-xdist shuts the workers down."""
        return self.collection_is_completed and not self._waiting and all(len(g) < 2 for g in self._given.values())

    def add_node(self, node: WorkerController) -> None:
        """Register a worker that has started."""
        self._given[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Record the tests that a worker has collected."""
        self._collections[node] = list(collection)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        """Remove a finished test from its worker, and send the worker the next one."""
        self._given[node].remove(item_index)
        self._feed(node)

    def mark_test_pending(self, item: str) -> None:
        """Raise NotImplementedError: no test runs twice."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        """Raise NotImplementedError: a worker keeps the tests that it received."""
        raise NotImplementedError

    def remove_node(self, node: WorkerController) -> str | None:
        """Remove a worker that has ended; return the test in which it crashed. Others run its remaining tests."""
        given = self._given.pop(node)
        self._module.pop(node, None)
        tests = self.collection or []
        for index in given[1:]:
            self._waiting.setdefault(self._module_of(tests[index]), deque()).appendleft(index)
        if self.collection is not None:  # otherwise no test has been sent yet
            for other in self.nodes:
                self._feed(other)
        return tests[given[0]] if given else None

    def schedule(self) -> None:
        """Send each worker its first tests. Called again when a new worker replaces a crashed one.

        If the workers collected different tests, report this as a failure and send none.
        """
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
        """Send a worker tests until it has two, or shut it down if none is left for it.

        A worker starts a test only when it knows the next one, or that none follows.
        """
        while not node.shutting_down and len(self._given[node]) < 2:
            module = self._next(node)
            if module == ALONE and len(self.nodes) > 1:
                if all(other.shutting_down for other in self.nodes if other is not node):
                    return  # it continues when the others have cleaned up and ended
                module = None
            if module is None:
                node.shutdown()
                return
            index = self._take(node, module)
            self._given[node].append(index)
            node.send_runtest_some([index])

    def _next(self, node: WorkerController) -> str | None:
        """Return the module of a worker's next test (or ALONE); None if no test is left for the worker."""
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
        """Return an estimate of the seconds that a module's waiting tests take."""
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
    """Return the seconds of each module's tests from JUnit files. The keys are the paths of the modules."""
    seconds: Counter[str] = Counter()
    for file in files:
        for case in ET.parse(file).getroot().iter("testcase"):  # noqa: S314  # written by pytest
            seconds[f"{case.attrib['classname'].replace('.', '/')}.py"] += float(case.attrib["time"])  # type: ignore[assignment]
    return {module: round(taken, 1) for module, taken in sorted(seconds.items())}


if __name__ == "__main__":
    DURATIONS.write_text(json.dumps(measured([Path(word) for word in sys.argv[1:]]), indent=1) + "\n")
