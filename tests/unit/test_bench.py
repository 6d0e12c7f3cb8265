"""The bench's own parts that need no pod: medians, goals, the table, the JSON, the plot."""

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from bench import git, report
from bench.figures import Figure, Goal, at_least
from bench.running import ROUNDS, in_turn
from podserve.errors import Problem

QUICK = Figure("dns", "queries", "/s", [90, 100, 200, 95, 99], "native", [100, 100, 100, 100, 100], at_least(0.9))
LARGE = Figure("images", "bytes", "MB", [360.0], goal=Goal("median", 350))
BARE = Figure("memory", "PSS of dns", "MB", [10.0, 30.0, 20.0])
ON = {"processor": "P", "cores": 2, "memory_gb": 8, "system": "D", "kernel": "6", "podman": "5", "commit": "c",
      "load_before": 0.1}  # fmt: skip


def test_the_median_is_the_middle_run_and_no_stray_one_moves_it() -> None:
    assert QUICK.median == 99
    assert Figure("", "", "s", [1, 1, 1, 1, 1000]).median == 1


def test_a_ratio_is_that_of_runs_of_the_same_round() -> None:
    # In the second round both sides were ten times as fast: this is the machine, not a difference between them.
    assert Figure("", "", "s", [10, 1, 9], "native", [20, 2, 10]).ratio == 0.5
    assert Figure("", "", "s", [5, 7, 20], "floor", [1, 2, 19]).beyond == 4


def test_a_figure_without_an_alternative_has_no_ratio() -> None:
    assert (BARE.ratio, BARE.beyond, BARE.reached) == (None, None, None)
    with pytest.raises(ValueError, match="needs an alternative"):
        _ = Figure("", "queries", "/s", [1], goal=at_least(0.9)).reached


@pytest.mark.parametrize(
    ("goal", "runs", "beside", "reached"),
    [
        (Goal("median", 2), [2.0], [], True),
        (Goal("median", 2), [2.1], [], False),
        (Goal("ratio", 2.5), [5.0], [2.0], True),
        (Goal("ratio", 2.5), [5.1], [2.0], False),
        (at_least(0.9), [9.0], [10.0], True),
        (at_least(0.9), [8.9], [10.0], False),
        (Goal("beyond", 1), [3.0], [2.0], True),
        (Goal("beyond", 1), [3.1], [2.0], False),
    ],
)
def test_a_goal_is_reached_or_missed(goal: Goal, runs: list[float], beside: list[float], *, reached: bool) -> None:
    assert Figure("", "x", "s", runs, "other", beside, goal).reached is reached


def test_measures_take_turns_and_none_is_always_first() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    first, second = in_turn(lambda: measure("a"), lambda: measure("b"))
    assert order == ["a", "b", "b", "a"] * (ROUNDS // 2) + ["a", "b"]
    assert (first[0], second[0], first[1], second[1]) == (1, 2, 4, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_table_shows_what_is_reached_and_what_is_missed() -> None:
    console = Console(file=io.StringIO(), width=200)
    report.table([QUICK, LARGE, BARE], console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    lines = {name: next(line for line in shown.splitlines() if name in line) for name in ("queries", "bytes", "PSS")}
    assert "99.0 /s" in lines["queries"]
    assert "90.0 – 200" in lines["queries"]
    assert "≥ 0.9 ×" in lines["queries"]
    assert "reached" in lines["queries"]
    assert "missed" in lines["bytes"]
    assert "missed" not in lines["PSS"]


BESIDE_BARE = Figure("peers:site", "4 kB", "/s", [80, 80], "nginx", [100, 100], at_least(0.95),
                     Figure("peers:site", "4 kB", "/s", [80, 80], "apache", [85, 85], at_least(0.9)),
                     {"caddy": [50, 50]})  # fmt: skip


def test_a_goal_beside_a_second_alternative_is_enough() -> None:
    assert BESIDE_BARE.reached
    assert BESIDE_BARE.instead is not None
    assert not replace(BESIDE_BARE, instead=replace(BESIDE_BARE.instead, goal=None)).reached
    text = report.markdown([BESIDE_BARE], ON)
    assert "| 100 (nginx) | 0.8 × | ≥ 0.95 × | 85.0 (apache) | 0.941 × | ≥ 0.9 × | 50.0 (caddy) | reached |" in text
    assert BESIDE_BARE.document()["others"]["caddy"] == [50, 50]


def test_the_table_of_figures_with_one_and_with_two_alternatives_is_even() -> None:
    lines = report.markdown([BESIDE_BARE, Figure("peers:site", "x", "s", [1, 1])], ON).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_json_has_each_run_and_what_follows_from_them() -> None:
    read = json.loads(json.dumps(report.document([QUICK, BARE], ON)))
    assert read["machine"] == ON
    quick, bare = read["figures"]
    assert quick["runs"] == list(QUICK.runs)
    assert (quick["median"], quick["ratio"], quick["goal"], quick["reached"]) == (99, 0.99, "≥ 0.9 ×", True)
    assert (bare["beside"], bare["ratio"], bare["goal"], bare["reached"]) == ([], None, "", None)


def test_the_plot_is_an_svg_that_fetches_nothing_and_has_each_figure_with_a_goal(tmp_path: Path) -> None:
    report.plot([QUICK, LARGE, BARE], tmp_path / "bench.svg")
    text = (tmp_path / "bench.svg").read_text()
    # The test wrote this file itself.
    root = ET.fromstring(text)  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = "".join(root.itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "dns: queries" in words
    assert "images: bytes" in words
    assert "PSS" not in words
    # The only URL is the XML namespace of SVG.
    assert text.count("http") == 1


def test_a_run_is_written_between_its_two_lines_and_nothing_else_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "figures.md"
    file.write_text("Before.\nBEGIN\nold\nEND\nAfter.\n")
    report.write(report.markdown([QUICK, LARGE], ON), file, "BEGIN", "END")
    text = file.read_text()
    assert text.startswith("Before.\nBEGIN\nP, 2 cores")
    assert text.endswith("END\nAfter.\n")
    assert "old" not in text
    assert "| queries | 99.0 /s | 90.0 – 200 | 100 (native) | 0.99 × | ≥ 0.9 × | reached |" in text
    assert "**missed**" in text


def test_a_document_without_the_two_lines_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "figures.md"
    file.write_text("Nothing.\n")
    with pytest.raises(ValueError, match="no lines 'BEGIN' and 'END'"):
        report.write("x\n", file, "BEGIN", "END")
    assert file.read_text() == "Nothing.\n"


def test_plain_cgi_is_made_of_the_configuration_that_is_served() -> None:
    persistent = git.CONFIGURATION.read_text()
    plain = git.plain_cgi(persistent)
    assert "fcgi:" in persistent
    assert "fcgi:" not in plain
    assert "SetHandler cgi-script" in plain
    with pytest.raises(Problem, match=r"update _PERSISTENT"):
        git.plain_cgi(plain)
