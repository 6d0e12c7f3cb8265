"""The figures as a table on the terminal, as JSON, and as a plot (SVG)."""

import io
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

from bench.figures import Figure
from podserve.commands import podman, run

VERDICTS = {True: "[green]reached[/]", False: "[red]missed[/]", None: "–"}


def number(value: float) -> str:
    """Return a number as text with three significant digits."""
    if value == 0:
        return "0"
    places = max(0, 2 - len(f"{abs(value):.0f}") + (1 if abs(value) >= 1 else 0))
    return f"{value:,.{places}f}" if abs(value) >= 1 else f"{value:.3g}"


def _spread(runs: Sequence[float]) -> str:
    return f"{number(min(runs))} – {number(max(runs))}" if len(runs) > 1 else ""


def machine() -> dict[str, Any]:
    """Return the machine and the commit of the run. Keys: processor, cores, memory_gb, system and others."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    described = run(["git", "describe", "--always", "--dirty"], check=False)
    os_release = platform.freedesktop_os_release()
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": os_release.get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "podman": podman("version", "--format", "{{.Client.Version}}").stdout.strip(),
        "load_before": round(os.getloadavg()[0], 1),
        "commit": described.stdout.strip(),
    }


def row(figure: Figure) -> list[str]:
    """Return the cells of a figure: name, median, spread, alternative, ratio or difference, goal.

    A figure with a second alternative has four more: that alternative, the ratio to it, the goal, and the medians of
    further alternatives.
    """
    beside = ""
    if figure.beside:
        one = Figure("", "", "", figure.beside)
        beside = f"{number(one.median)} ({figure.alternative})"
    compared = "" if figure.ratio is None else f"{number(figure.ratio)} ×"
    if figure.goal and figure.goal.of == "beyond" and figure.beyond is not None:
        compared = f"{figure.beyond:+.2f} {figure.unit}"
    cells = [figure.name, f"{number(figure.median)} {figure.unit}", _spread(figure.runs), beside, compared,
             figure.goal.words(figure.unit) if figure.goal else ""]  # fmt: skip
    if not figure.instead:
        return cells
    others = [f"{number(Figure('', '', '', runs).median)} ({name})" for name, runs in figure.others.items()]
    return [*cells, *row(figure.instead)[3:], ", ".join(others)]


def _headings(figures: Sequence[Figure]) -> list[str]:
    if any(figure.instead for figure in figures):
        return ["Figure", "PodServe", "Spread", "Best peer", "Ratio", "Goal",
                "Bare", "Ratio", "Goal", "Other peers", "Result"]  # fmt: skip
    return ["Figure", "Median", "Spread", "Alternative", "Compared", "Goal", "Result"]


def _filled(figure: Figure, headings: Sequence[str]) -> list[str]:
    """Return the cells of a figure, as many as there are headings without the last one."""
    cells = row(figure)
    return cells + [""] * (len(headings) - 1 - len(cells))


def table(figures: Sequence[Figure], console: Console) -> None:
    """Print the figures as one table, with a heading for each section."""
    headings = _headings(figures)
    shown = Table(*headings, box=None, pad_edge=False, header_style="bold")
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            shown.add_row(f"[bold]{section}[/]")
        shown.add_row(*_filled(figure, headings), VERDICTS[figure.reached])
    console.print(shown)


def document(figures: Sequence[Figure], on: dict[str, Any]) -> dict[str, Any]:
    """Return the run for JSON."""
    return {"machine": on, "figures": [figure.document() for figure in figures]}


def markdown(figures: Sequence[Figure], on: dict[str, Any]) -> str:
    """Return the run as Markdown: the generated part of docs/figures.md."""
    where = "{processor}, {cores} cores, {memory_gb} GB; {system}, Linux {kernel}, Podman {podman}; commit {commit}"
    words = [where.format(**on) + f"; load {on['load_before']} before the run.", ""]
    section, headings = "", list[str]()
    for figure in figures:
        if figure.section != section:
            section = figure.section
            headings = _headings([one for one in figures if one.section == section])
            words += ["", f"### {section}", "", f"| {' | '.join(headings)} |", "| --- " * len(headings) + "|"]
        verdict = {True: "reached", False: "**missed**", None: ""}[figure.reached]
        words.append(f"| {' | '.join(_filled(figure, headings))} | {verdict} |")
    return "\n".join(words) + "\n"


def write(text: str, file: Path, begin: str, end: str) -> None:
    """Write a text into a file, between the lines `begin` and `end`. Raises ValueError if the file lacks them."""
    before, found, rest = file.read_text().partition(begin + "\n")
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{file} has no lines {begin!r} and {end!r}")
    file.write_text(f"{before}{begin}\n{text}{end}{after}")


# Rich's own format (rich._export_format) without the title bar and without the font that a browser would fetch.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px monospace; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<rect fill="#ffffff" width="100%" height="100%"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # noqa: E501
_LONGEST_BAR = 2.0


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Draw each figure that has a goal as a bar. Half the width is exactly the goal.

    Of two alternatives, the bar shows the one that is nearer to its goal.
    """
    console = Console(file=io.StringIO(), record=True, width=130, force_terminal=True, color_system="truecolor")
    drawn = Table("Figure", "Share of the goal; half the width is 100 %", "", "", box=None, pad_edge=False)
    for figure in figures:
        counting = max(filter(None, (figure, figure.instead)), key=lambda one: _share(one) or 0)
        share = _share(counting)
        if share is None or figure.goal is None:
            continue
        colour = "#2e7d32" if share >= 1 else "#c62828"
        bar = Bar(_LONGEST_BAR, 0, min(share, _LONGEST_BAR), width=44, color=colour, bgcolor="#eeeeee")
        _, median, _, _, compared, goal, *_ = row(counting)
        said = median if figure.goal.of == "median" else compared
        drawn.add_row(Text(f"{figure.section}: {figure.name}", overflow="ellipsis", no_wrap=True), bar, said, goal)
    console.print(drawn, "")  # Rich cuts off the lower edge of the last line
    file.write_text(console.export_svg(title="", code_format=_SVG, unique_id="bench", theme=DEFAULT_TERMINAL_THEME))


def _share(figure: Figure) -> float | None:
    """Return a figure as a share of its goal: 1 is exactly the goal, larger is better; None without a goal."""
    goal, value = figure.goal, figure.judged
    if goal is None or value is None:
        return None
    if goal.least:
        return value / goal.limit
    return goal.limit / value if value > 0 else float("inf")


def save(figures: Sequence[Figure], on: dict[str, Any], folder: Path) -> None:
    """Write bench.json and bench.svg into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(document(figures, on), indent=2) + "\n")
    plot(figures, folder / "bench.svg")
