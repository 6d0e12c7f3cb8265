"""What the acceptance tests share: the pod of their own, or the server that --target names."""

import fcntl
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

from podserve import pod
from podserve.errors import INTERRUPTIONS
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server
from tests.testbed.vantage import Vantage, neighbour_of, stranger_to

INSIDE = "test_pod"
"""The fixture of a test that needs the pod's inside, and so cannot be run against another's server."""
_own: list[PodUnderTest] = []
"""The pod under test, for the hook that shows its logs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("podserve", "a server that already runs")
    group.addoption(
        "--target", metavar="HOST", help="test the server at this name; tests that need its inside are left out"
    )
    group.addoption("--user", metavar="NAME", help="an account there, as name@domain")
    group.addoption("--password-file", type=Path, metavar="F", help="the file whose first line is its password")
    group.addoption("--ca", metavar="FILE", help="the authority (PEM) to verify by; otherwise this host's")
    halves = parser.getgroup("podserve-halves", "two runs side by side")
    halves.addoption("--half", type=int, choices=(1, 2), help="every other module, from the first or the second on")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--target") and not (config.getoption("--user") and config.getoption("--password-file")):
        raise pytest.UsageError("--target needs --user NAME and --password-file F: an account to log in with")
    config.addinivalue_line("markers", "alone: changes the images, which all runs here share, or times something short")
    for number in INTERRUPTIONS:  # also SIGINT, which a pipeline in the background ignores
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """Have pytest remove what the tests made, and end; who asks for it twice does not stop that."""
    for each in INTERRUPTIONS:
        signal.signal(each, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = list[pytest.Item]()
    if config.getoption("--target"):
        left_out = [item for item in items if INSIDE in getattr(item, "fixturenames", ())]
    elif half := config.getoption("--half"):
        others = set(list(dict.fromkeys(item.path for item in items))[2 - half :: 2])
        left_out = [item for item in items if item.path in others]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Let a test that is to be alone wait for those of the other run, and these for it."""
    if item.config.getoption("--target"):
        return (yield)
    pod.STATE.mkdir(exist_ok=True)
    with (pod.STATE / "tests-turn.lock").open("a") as turn, (pod.STATE / "tests-here.lock").open("a") as here:
        fcntl.flock(turn, fcntl.LOCK_EX)  # who waits for its turn is not overtaken
        fcntl.flock(here, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _own and item.path.is_relative_to(Path(__file__).parent):
        report.sections.append(("the containers' logs", _own[0].logs(since=call.start - 1)))
    return report


@pytest.fixture(scope="session")
def test_pod() -> Iterator[PodUnderTest]:
    """The pod that this run plays for itself."""
    with play_test_pod() as made:
        _own.append(made)
        yield made


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    """The server under test, as clients see it."""
    target = request.config.getoption("--target")
    if not target:
        made: PodUnderTest = request.getfixturevalue(INSIDE)
        return made.server
    _, _, domain = request.config.getoption("--user").partition("@")
    return Server(target, domain, request.config.getoption("--ca"))


@pytest.fixture(scope="session")
def alice(request: pytest.FixtureRequest) -> Account:
    """Somebody with an account; a test finds its own message in her mailbox by a subject of its own."""
    if not request.config.getoption("--target"):
        made: PodUnderTest = request.getfixturevalue(INSIDE)
        return made.new_account("alice")
    password = request.config.getoption("--password-file").read_text().splitlines()[0]
    return Account(request.config.getoption("--user"), password)


@pytest.fixture(scope="session")
def bob(test_pod: PodUnderTest) -> Account:
    """Somebody else with an account."""
    return test_pod.new_account("bob")


@pytest.fixture
def new_account(test_pod: PodUnderTest) -> Account:
    """An account of the test's own, its mailbox empty."""
    return test_pod.new_account()


@pytest.fixture(scope="session")
def neighbour(test_pod: PodUnderTest) -> Iterator[Vantage]:
    """Another container on the pod's own network."""
    with neighbour_of(test_pod.name) as place:
        yield place


@pytest.fixture(scope="session")
def outsider(test_pod: PodUnderTest) -> Iterator[Vantage]:
    """A client whose address is not private, as one from the internet."""
    with stranger_to(test_pod.name) as place:
        yield place


@pytest.fixture
def since() -> float:
    """The time at which the test began (s since the epoch)."""
    return time.time()
