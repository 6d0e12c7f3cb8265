"""SMTP: messages a second from port 25 to the mailbox."""

from collections.abc import Iterator

from bench import load
from bench.figures import Figure
from bench.running import in_turn
from bench.sides import Side
from tests.testbed.pod import PodUnderTest

SECTION = "smtp"


def measure(test_pod: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Deliver to the same account on both sides."""
    account = test_pod.new_account()

    def act(side: Side) -> float:
        return load.deliver(side, account.address)

    taken, beside = in_turn(pod.measured(act), native.measured(act))
    name = f"messages of 10 kB a second to the mailbox, {load.SENDERS} senders"
    yield Figure(SECTION, name, "/s", taken, native.name, beside)
