"""What the tasks about mail show on a terminal."""

from collections.abc import Collection, Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from podserve.errors import printable
from podserve.verdict import Story


def story(told: Story, console: Console) -> None:
    """Show what was decided about a message, by which rules, and what became of it."""
    for judgement in told.judgements:
        said = f"{judgement.time} {judgement.client}: {judgement.action}, score {judgement.score:g}"
        console.print(escape(printable(said)), highlight=False, soft_wrap=True)
        table = Table("score", "rule", "", box=None, pad_edge=False, header_style="bold")
        for rule in judgement.rules:
            table.add_row(f"{rule.score:+.2f}", rule.name, escape(printable(rule.details)))
        console.print(table)
    if not told.judgements:
        console.print("the filter did not judge this message", highlight=False)
    for event in told.events:
        console.print(escape(printable(event)), highlight=False, soft_wrap=True)


def aliases(there: Mapping[str, Iterable[str]], domains: Collection[str], console: Console) -> None:
    """Show each alias with its targets, a line each; those of other domains than these are not in use."""
    for alias, targets in there.items():
        used = alias.partition("@")[2] in domains
        other = "" if used else f" is not in use: this pod serves {' '.join(domains)}"
        said = f"{alias}: {', '.join(targets)}{other}"
        console.print(printable(said), markup=False, highlight=False, soft_wrap=True)
