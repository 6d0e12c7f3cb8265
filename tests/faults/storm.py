"""Mail during kills: every message with a 250 is in the mailbox when the queue is empty."""

from collections.abc import Iterator

from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import token
from tests.testbed.storm import send
from tests.testbed.victims import Container, Storm

MESSAGES, SENDERS = 3000, 10


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Send MESSAGES from SENDERS clients during kills of mail's processes and container."""
    storm = Storm(Container.of(test_pod, "mail"), scale.random("storm"))
    people, names = [test_pod.new_account() for _ in range(3)], [token() for _ in range(scale.count(MESSAGES))]
    yield send(test_pod, people, [names[number::SENDERS] for number in range(SENDERS)], storm.raging())
    yield storm.outcome("storm")
