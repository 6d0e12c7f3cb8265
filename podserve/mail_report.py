"""What the tasks about mail show on a terminal."""

from collections.abc import Collection, Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from podserve.errors import printable
from podserve.mail_queue import Queue
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


def queue(there: Queue, console: Console) -> None:
    """Show each message of the queue in a line, and below it its recipients with the reasons for which they wait."""
    for message in there.messages:
        said = f"{message.identity} {message.queue} {message.arrived:%Y-%m-%d %H:%M} UTC, {message.size} bytes"
        console.print(escape(printable(f"{said}, from <{message.sender}>")), highlight=False, soft_wrap=True)
        for recipient, reason in message.recipients.items():
            console.print(
                escape(printable(f"  to {recipient}: {reason or 'not tried yet'}")), highlight=False, soft_wrap=True
            )
    if not there.messages:
        console.print("the mail queue is empty")
