"""`python -m tests.faults [--count PERCENT] [--seed N] [SECTION…]`: break a test pod, and count the losses."""

import argparse
import json
import secrets
import signal
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from podserve.accounts import ROUNDS
from podserve.commands import ROOT
from tests.faults import disk, files, fuzz, line, load, manners, recovery, roundtrip, storm
from tests.testbed.network import leave_the_network
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest, play_test_pod

SECTIONS: dict[str, Callable[[PodUnderTest, Scale], Iterator[Outcome]]] = {
    "storm": storm.run,
    "files": files.run,
    "recovery": recovery.run,
    "roundtrip": roundtrip.run,
    "manners": manners.run,
    "load": load.run,
    "line": line.run,
    "disk": disk.run,
    "fuzz": fuzz.run,
}
ARTEFACT = ROOT / "artefacts/faults.json"


def _row(outcome: Outcome) -> list[str]:
    figures = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in outcome.figures.items()
    )
    return [outcome.section, outcome.name, figures, outcome.fault or "held"]


def main() -> None:
    """Run the sections, show the table and save it as JSON; exit with 1 if a section found a fault."""
    parser = argparse.ArgumentParser(prog="nox -s faults --", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"{', '.join(SECTIONS)} (otherwise: all)")
    parser.add_argument("--count", type=float, default=100, metavar="PERCENT", help="of the full numbers (100)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), metavar="N", help="to repeat a run")
    given = parser.parse_args()
    if unknown := set(given.section) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}: expected some of {', '.join(SECTIONS)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console, scale = Console(width=None if sys.stdout.isatty() else 200), Scale(given.seed, given.count / 100)
    outcomes = []
    leave_the_network()
    with play_test_pod(cost=ROUNDS) as test_pod:
        for section, run in SECTIONS.items():
            if section in (given.section or SECTIONS):
                for outcome in run(test_pod, scale):
                    outcomes.append(outcome)
                    console.print(" · ".join(_row(outcome)), highlight=False)
    table = Table("section", "fault", "figures", "result", title=f"seed {scale.seed}, {given.count:g} %")
    for outcome in outcomes:
        table.add_row(*_row(outcome), style="red" if outcome.fault else "")
    console.print(table)
    ARTEFACT.parent.mkdir(exist_ok=True)
    ARTEFACT.write_text(
        json.dumps({"seed": scale.seed, "count": given.count, "rows": [vars(o) for o in outcomes]}, indent=1)
    )
    if any(outcome.fault for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
