"""The outage of a service after a kill of one of its processes or its container; the others must keep running."""

from collections.abc import Iterator

from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.recovery import FIRSTS, KINDS, Scene, kill_in_a_row, kill_kind

KILLS, IN_A_ROW = 5, 100
"""Kills of each kind of process, and kills of each container."""


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Kill each kind of process KILLS times, and each container IN_A_ROW times, each time as soon as it is back."""
    scene = Scene.of(test_pod)
    for kind in KINDS:
        yield kill_kind(scene, kind, scale.count(KILLS), scale.random(f"recovery {kind.name}"))
    for service, program, exchange in FIRSTS:
        yield kill_in_a_row(scene, service, program, exchange, scale.count(IN_A_ROW))
