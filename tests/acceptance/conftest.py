"""Shared by the acceptance tests: a pod for each worker, or the server at --target."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from podserve.errors import INTERRUPTIONS
from tests.testbed import litter
from tests.testbed.distribution import Distribution, alone, in_order
from tests.testbed.network import leave_the_network
from tests.testbed.parent import end_with_parent
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server
from tests.testbed.vantage import Vantage, neighbour_of, stranger_to

OUTSIDE = "server"
"""The fixture of a test that is a client. It runs against --target unless it uses INSIDE, too."""
INSIDE = "test_pod"
"""The fixture that gives access to the pod's containers and volumes. --target leaves out the tests that use it."""
REMOVAL = 60.0
"""Seconds to wait at the end of a run until a worker has removed what its tests made."""
ADDRESS = pytest.StashKey[str]()
"""The IP address of --target."""
_removed: list[str] = []
"""What was removed from --target, for the end of the output."""
_own: list[PodUnderTest] = []
"""The pod under test, for the hook that shows its logs."""
_workers: list[WorkerController] = []
"""The workers of this run, in the process that controls them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("podserve", "a server that already runs")
    group.addoption(
        "--target", metavar="HOST", help="test the server at this name or address, by the tests that are its clients"
    )
    group.addoption("--user", metavar="NAME", help="an account there, as name@domain")
    group.addoption("--password-file", type=Path, metavar="F", help="the file whose first line is its password")
    group.addoption("--ca", metavar="FILE", help="the authority (PEM) to verify by; otherwise this host's")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--target") and not (config.getoption("--user") and config.getoption("--password-file")):
        raise pytest.UsageError("--target needs --user NAME and --password-file F: an account to log in with")
    if config.getoption("--target"):
        config.stash[ADDRESS] = _address_of(config.getoption("--target"))
    config.addinivalue_line("markers", "alone: changes the images, which all workers share, or times something short")
    if _is_worker(config):
        end_with_parent()
    for number in INTERRUPTIONS:  # also SIGINT: a shell script starts background jobs with SIGINT ignored
        signal.signal(number, _end)


def _address_of(target: str) -> str:
    """Return the first IP address of a name, or the address itself. Raises UsageError if the name has none."""
    try:
        found = socket.getaddrinfo(target, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise pytest.UsageError(f"--target {target} has no address ({error}): expected a host name, an IPv4 or an IPv6 "
                                "address") from error  # fmt: skip
    return str(found[0][4][0])


def _end(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, so that pytest removes what the tests made and ends. Ignore further signals."""
    for each in INTERRUPTIONS:
        signal.signal(each, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


def _is_worker(config: pytest.Config) -> bool:
    """Return whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Move a process that runs tests into its own network namespace: all ports are free there, and no route leads out.

    The process that controls workers runs no test. With --target, the tests need the host's network.
    """
    config = session.config
    if config.option.dist == "no" and not config.getoption("--target") and not config.option.collectonly:
        leave_the_network()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Distribution:
    return Distribution(config, log, _alone_file(config))


def pytest_configure_node(node: WorkerController) -> None:
    node.workerinput["alone"] = str(_alone_file(node.config))
    _workers.append(node)


def _alone_file(config: pytest.Config) -> Path:
    """Return the file in which workers list the tests that run alone, because the scheduler sees only tests' names."""
    folder: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # noqa: SLF001  # as xdist does
    return folder / "alone.json"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Wait until each worker has removed what its tests made: pytest-xdist would kill it after 10 s."""
    running = [worker for worker in _workers if not worker.channel.isclosed()]
    for worker in running:
        if exitstatus != pytest.ExitCode.OK:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.gateway._rinfo().pid, signal.SIGTERM)  # noqa: SLF001  # execnet has no public way
    for worker in running:
        with contextlib.suppress(OSError, EOFError, worker.channel.RemoteError):  # the worker crashed, or is too slow
            worker.channel.waitclose(REMOVAL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = list[pytest.Item]()
    if config.getoption("--target"):
        left_out = [item for item in items if not _is_client(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = in_order([item for item in items if item not in left_out])
    if _is_worker(config):
        Path(config.workerinput["alone"]).write_text(alone(items))  # type: ignore[attr-defined]  # set by pytest-xdist


def _is_client(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return OUTSIDE in fixtures and INSIDE not in fixtures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = terminalreporter.stats.get("deselected")
    if config.getoption("--target") and left_out:
        terminalreporter.write_line(
            f"left out: {len(left_out)} tests, which need a pod on this machine: its containers, tasks or accounts"
        )
    for line in _removed:
        terminalreporter.write_line(line)


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
    """The pod that this worker plays for its tests."""
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
    return Server(request.config.stash[ADDRESS], domain, request.config.getoption("--ca"))


@pytest.fixture(scope="session")
def alice(request: pytest.FixtureRequest, server: Server) -> Iterator[Account]:
    """An account that all tests of the worker share. A test finds its own message by a unique subject."""
    if not request.config.getoption("--target"):
        made: PodUnderTest = request.getfixturevalue(INSIDE)
        yield made.new_account("alice")
        return
    password = request.config.getoption("--password-file").read_text().splitlines()[0]
    account = Account(request.config.getoption("--user"), password)
    yield account
    _removed.append(str(litter.remove(server, account)))


@pytest.fixture(scope="session")
def bob(test_pod: PodUnderTest) -> Account:
    """Another account that all tests of the worker share."""
    return test_pod.new_account("bob")


@pytest.fixture
def new_account(test_pod: PodUnderTest) -> Account:
    """An account for one test, with an empty mailbox."""
    return test_pod.new_account()


@pytest.fixture(scope="session")
def neighbour(test_pod: PodUnderTest) -> Iterator[Vantage]:
    """Another container on the pod's own network."""
    with neighbour_of(test_pod.name) as place:
        yield place


@pytest.fixture(scope="session")
def outsider(test_pod: PodUnderTest) -> Iterator[Vantage]:
    """A client with an address that is not private, like a client on the internet."""
    with stranger_to(test_pod.name) as place:
        yield place


@pytest.fixture
def since() -> float:
    """The time at which the test began (s since the epoch)."""
    return time.time()
