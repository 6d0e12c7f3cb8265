"""What the tasks about DNS show on a terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from podserve.errors import printable
from podserve.values import TTL
from podserve.zone.checking import Report
from podserve.zone.record import Record

_MARKS = {
    "right": "[green]right[/]",
    "missing": "[red]missing[/]",
    "different": "[red]different[/]",
    "unanswered": "[red]no answer[/]",
    "unused": "not used",
}


def _line(text: str, console: Console) -> None:
    """Print a line in one piece, however wide the terminal is: a person copies it."""
    console.print(text, highlight=False, soft_wrap=True)


def records_needed(found: Iterable[Record], console: Console) -> None:
    """Show records as the form of a DNS provider takes them, each with its reason."""
    zone = ""
    for record in found:
        if record.zone != zone:
            zone = record.zone
            _line(f"[bold]{zone}[/] (TTL {TTL}; a name is entered without {zone}, and @ is {zone} itself)", console)
        _line(f"  {record.relative:24} {record.kind:5} {escape(record.value)}", console)
        _line(f"  {'':24} {'':5} [dim]{escape(record.reason)}[/]", console)


def checked(seen: Report, console: Console) -> None:
    """Show the state of each record; if it is wrong, what was expected and found, and what to type."""
    for verdict in seen.verdicts:
        record = verdict.record
        _line(f"{_MARKS[verdict.state]} {record.name} {record.kind} {escape(record.value)}", console)
        if verdict.state == "different":
            _line(f"  expected: {escape(record.value)}", console)
            for data in verdict.found:
                _line(f"  found:    {escape(printable(data))}", console)
        if verdict.advice and not seen.silent:
            _line(f"  {escape(printable(verdict.advice))}", console)
    wrong, number = len(seen.wrong), len(seen.verdicts)
    if seen.silent:
        said = escape(printable(seen.silent))
        _line(f"[red]✗[/] {said}. To ask another resolver: invoke dns.check --resolver ADDRESS", console)
    elif wrong:
        said = f"{wrong} of {number} records are wrong. Resolvers may answer the old data until its TTL has passed"
        _line(f"[red]✗[/] {said}", console)
    else:
        _line(f"[green]✓[/] all {number} records are right, at {seen.resolvers}", console)
