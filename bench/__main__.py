"""`python -m bench [--record] [SECTION…]`: measure all sections, or the named ones, and show the figures."""

import argparse
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping

from rich.console import Console

from bench import (
    dns,
    encrypted,
    filtering,
    git,
    growth,
    https,
    images,
    imap,
    logins,
    memory,
    peers,
    play,
    report,
    smtp,
    webdav,
)
from bench.figures import Figure
from bench.sides import native_twin, pod_of
from podserve.accounts import ROUNDS
from podserve.commands import ROOT
from podserve.errors import Problem
from tests.testbed.network import leave_the_network
from tests.testbed.pod import PodUnderTest, play_test_pod

OUTSIDE = {"build": images.build, "images": images.measure}
"""The sections that need no pod."""
FIRST = {"filter": filtering.measure}
"""The sections that play pods of their own while no other runs: PSS counts memory that two pods map by half."""
ALONE = {"play": play.measure, "memory": memory.measure, "encrypted": encrypted.measure}
"""The sections that need a pod and no native twin, for the same reason."""
COMPARED = {"dns": dns.measure, "https": https.measure, "smtp": smtp.measure, "imap": imap.measure,
            "webdav": webdav.measure, "logins": logins.measure, "git": git.measure}  # fmt: skip
"""The sections that compare the pod with its native twin."""
GROWTH = {"growth": growth.measure}
DEFAULT = [*OUTSIDE, *FIRST, *ALONE, *COMPARED, *GROWTH]
PEERS = {f"peers:{job}": job for job in peers.ALL}
"""The jobs of the section `peers`. It takes as long as all others together, so it is no default section."""
SECTIONS = [*DEFAULT, "peers", *PEERS]
ARTEFACTS, DOCUMENT, PLOT = ROOT / "artefacts", ROOT / "docs/figures.md", ROOT / "docs/figures.svg"
BEGIN, END = "<!-- begin: nox -s bench -- --record -->", "<!-- end -->"
PEERS_PLOT = ROOT / "docs/peers.svg"
PEERS_BEGIN, PEERS_END = "<!-- begin: nox -s bench -- --record peers -->", "<!-- end of peers -->"


def _without_pod(chosen: Collection[str], sections: Mapping[str, Callable[[], Iterator[Figure]]]) -> Iterator[Figure]:
    for section, measured in sections.items():
        if section in chosen:
            yield from measured()


def _figures(chosen: Collection[str]) -> Iterator[Figure]:
    """Yield the figures of the chosen sections, in the order of SECTIONS."""
    yield from _without_pod(chosen, OUTSIDE)
    if set(chosen) <= set(OUTSIDE):
        return
    jobs = [job for name, job in PEERS.items() if {name, "peers"} & set(chosen)]
    peers.build(jobs)
    leave_the_network()
    yield from _without_pod(chosen, FIRST)
    if set(chosen) <= {*OUTSIDE, *FIRST}:
        return
    with play_test_pod(cost=ROUNDS) as test_pod:
        for section, measured_alone in ALONE.items():
            if section in chosen:
                yield from measured_alone(test_pod)
        if set(chosen) & set(COMPARED):
            yield from _compared(chosen, test_pod)
        for section, grown in GROWTH.items():
            if section in chosen:
                yield from grown(test_pod)
        if jobs:
            yield from peers.measure(test_pod, jobs)


def _compared(chosen: Collection[str], test_pod: PodUnderTest) -> Iterator[Figure]:
    with native_twin(test_pod) as native:
        for section, measured in COMPARED.items():
            if section in chosen:
                yield from measured(test_pod, pod_of(test_pod), native)


def main() -> None:
    """Measure the chosen sections, show the figures and save them. Exits with a message if a section raised Problem."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"{', '.join(SECTIONS)} (default: {', '.join(DEFAULT)})")
    parser.add_argument("--record", action="store_true", help=f"write the run into {DOCUMENT.relative_to(ROOT)}")
    given = parser.parse_args()
    if unknown := set(given.section) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}: expected some of {', '.join(SECTIONS)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Without a terminal the output goes to a log: make it as wide as the table.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    on, figures, failed = report.machine(), [], ""
    try:
        for figure in _figures(given.section or DEFAULT):
            figures.append(figure)
            console.print(" · ".join([figure.section, *report.row(figure)]), highlight=False)
    except Problem as problem:
        # The figures measured so far may have taken minutes: show them, too.
        failed = str(problem)
    console.print()
    report.table(figures, console)
    report.save(figures, on, ARTEFACTS)
    console.print("\nartefacts/bench.json, artefacts/bench.svg", highlight=False)
    if failed:
        raise SystemExit(failed)
    if given.record:
        beside = [figure for figure in figures if figure.section in PEERS]
        others = [figure for figure in figures if figure.section not in PEERS]
        for some, begin, end, plot in ((others, BEGIN, END, PLOT), (beside, PEERS_BEGIN, PEERS_END, PEERS_PLOT)):
            if some:
                picture = f"![Each figure as a share of its goal]({plot.name})\n\n"
                report.write(picture + report.markdown(some, on), DOCUMENT, begin, end)
                report.plot(some, plot)


if __name__ == "__main__":
    main()
