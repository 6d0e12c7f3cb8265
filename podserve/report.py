"""What tasks show on a terminal. No other module of podserve imports rich."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from podserve.certificates.keypair import Certificate, soonest
from podserve.certificates.renewal import Renewal
from podserve.endpoints import ENDPOINTS, Answer
from podserve.errors import Problem, printable
from podserve.findings import Finding
from podserve.host import NO_HEALTH_CHECKS
from podserve.images import UP_TO_DATE, Show
from podserve.lifecycle import Started
from podserve.locks import Lock
from podserve.people import Person, line
from podserve.pod import Pod
from podserve.repositories import Repository
from podserve.status import Status
from podserve.values import both_forms

_STEP = re.compile(r"STEP (\d+)/(\d+): (.*)")


def standard_output() -> Console:
    """Return the console for the results of a task."""
    return Console()


def standard_error() -> Console:
    """Return the console for progress and warnings."""
    return Console(stderr=True)


def readable(size: int) -> str:
    """Return a number of bytes as a person reads it, such as `1.2 MB`."""
    return decimal(size)


def _table(*columns: str, title: str = "") -> Table:
    table = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table


@contextmanager
def bytes_read(what: str, console: Console) -> Iterator[tuple[Callable[[int], object], Callable[[int], object]]]:
    """Yield two functions: one takes the bytes read since its last call, the other the total of bytes."""
    columns = TextColumn(what), BarColumn(24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        yield partial(progress.advance, bar), lambda total: progress.update(bar, total=total)


@contextmanager
def building(console: Console) -> Iterator[Show]:
    """Yield a function that shows a line of docker/build.sh: as it is, or on a terminal as progress of its image.

    On a terminal the last 30 lines are shown as they are when building fails.
    """
    plain = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield plain
        return
    last, bars = deque[str](maxlen=30), dict[str, TaskID]()
    columns = SpinnerColumn(), TextColumn("{task.fields[image]:<7}"), BarColumn(24), TimeElapsedColumn()
    try:
        with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:

            def show(line: str) -> None:
                last.append(line)
                if line != UP_TO_DATE:
                    _advance(progress, bars, line)

            yield show
    except Problem:
        for line in last:
            plain(line)
        raise


def _advance(progress: Progress, bars: dict[str, TaskID], line: str) -> None:
    """Show a line of docker/build.sh (`IMAGE: what it does`) in the bar of its image."""
    image, _, text = line.partition(": ")
    if image not in bars:
        bars[image] = progress.add_task("", image=image, total=None)
    if step := _STEP.search(text):
        progress.update(bars[image], completed=int(step[1]) - 1, total=int(step[2]), description=step[3][:60])
    elif text.startswith("Successfully tagged") or (image == "debian" and text.startswith("sha256:")):
        progress.update(bars[image], completed=1, total=1, description="done")
    else:
        progress.update(bars[image], description=text[:60])


def started(outcome: Started, console: Console) -> None:
    """Show what `up` did, the services with their addresses, and how to log in."""
    pod, settings = outcome.pod, outcome.pod.settings
    done = "is up" if outcome.played else "is already up: nothing was changed"
    console.print(f"[green]✓[/] {pod.name} {done}\n")
    table = _table("Service", "Address", "For", "State")
    for port in pod.ports.values():
        where = f"{settings.bind}:{port.number}/{port.protocol.lower()}"
        table.add_row(port.name, where, ENDPOINTS[port.name].label, "[green]answers[/]")
    console.print(table)
    console.print()
    if (domain := both_forms(settings.domain)) != settings.domain:
        console.print(f"Domain    {domain}: logins end in @{settings.domain}", highlight=False)
    console.print(f"Site      https://{settings.domain}/", highlight=False)
    console.print(f"Files     https://{settings.domain}/webdav/", highlight=False)
    console.print(f"Git       https://{settings.domain}/git/", highlight=False)
    sending = " and ".join(str(port.number) for port in pod.ports.values() if port.name.startswith("submission"))
    console.print(f"Mail      {settings.mail_host}: IMAP 993, submission {sending}", highlight=False)
    if outcome.password:
        address = settings.postmaster_address
        login = f"[bold]{address}[/] with the password [bold]{outcome.password}[/]"
        console.print(f"\nLog in as {login}", highlight=False)
        console.print(f"This password is shown only once. To change it: invoke users.passwd {address}", highlight=False)
    else:
        console.print("\nLog in with your whole address. Accounts: invoke users.list, users.add NAME")
    warn(outcome.warnings, console)


def status(pod: Pod, seen: Status, console: Console) -> None:
    """Show containers, endpoints, certificate, queue and volumes, and the problems."""
    containers = _table("Container", "State", "Health", "Restarts")
    for c in seen.containers:
        health = "[green]healthy[/]" if c.healthy else "[red]fails[/]"
        containers.add_row(c.name, c.state if c.state == "running" else f"[red]{c.state}[/]", health, str(c.restarts))
    console.print(containers, "")

    tried = _table("Endpoint", "Address", "State", "ms")
    for answer in seen.endpoints:
        port = pod.ports[answer.port]
        state = "[green]answers[/]" if answer.ok else f"[red]{escape(answer.error)}[/]"
        where = f"{pod.settings.bind}:{port.number}/{port.protocol.lower()}"
        tried.add_row(answer.port, where, state, f"{answer.seconds * 1000:.0f}")
    console.print(tried, "")

    used = _table("Volume", "Used", "Claim", "Free")
    for use in seen.volumes:
        used.add_row(use.name, decimal(use.used), decimal(use.size), decimal(use.free))
    console.print(used, "")

    for title, text in seen.facts.items():
        console.print(f"{title:12} {escape(printable(text))}", highlight=False)
    if not seen.health_checks_run:
        console.print(f"Health       checks {NO_HEALTH_CHECKS}", highlight=False)
    if seen.other_accounts:
        others = escape(printable(", ".join(seen.other_accounts)))
        console.print(f"[yellow]Accounts[/]     of other domains cannot log in: {others}", highlight=False)
    for problem in seen.problems:
        console.print(f"[red]✗[/] {escape(printable(problem))}", highlight=False)
    if not seen.problems:
        console.print(f"[green]✓[/] {seen.pod} is well")


def diagnosis(found: list[Finding], console: Console) -> None:
    """Show a line for each finding, with the command that solves it under a problem."""
    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[red]problem[/]"}
    for finding in found:
        console.print(
            f"{marks[finding.state]} {finding.check}: {escape(finding.said)}", highlight=False, soft_wrap=True
        )
        if finding.fix:
            console.print(f"  to solve it: {escape(finding.fix)}", highlight=False, soft_wrap=True)


def certificates(there: Sequence[Certificate], answers: list[Answer], console: Console) -> None:
    """Show what each certificate of the volume says, and whether each port serves one of them."""
    for one in there:
        ends = f"{one.ends:%Y-%m-%d %H:%M} UTC, {one.days_left} days left"
        said = {"Key": one.key, "Source": one.origin, "Names": ", ".join(one.names), "Issuer": one.issuer,
                "Ends": ends, "Serial": one.serial, "SHA-256": one.fingerprint}  # fmt: skip
        text = "".join(f"{title:12} {printable(value)}\n" for title, value in said.items())
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if not answers:
        console.print("No pod runs")
        return
    table = _table("Port", "Serves")
    served = {one.fingerprint: f"[green]this one ({one.key})[/]" for one in there}
    for a in answers:
        table.add_row(a.port, served.get(a.fingerprint, f"[red]{escape(a.error) or a.fingerprint}[/]"))
    console.print(table)


def renewed(outcome: Renewal, console: Console) -> None:
    """Show which certificates are in use after a task that may have changed them."""
    there = outcome.certificates
    new = "[green]✓[/] a new certificate is served" if outcome.changed else "the certificate stays: nothing was changed"
    shown = [printable(there[0].origin), f"{soonest(there).days_left} days left"]
    shown += [f"{one.key} SHA-256 {one.fingerprint}" for one in there]
    console.print(f"{new}: {escape(', '.join(shown))}", highlight=False, soft_wrap=True)


def warn(warnings: list[str], console: Console) -> None:
    """Show the warnings of a successful task."""
    for warning in warnings:
        console.print(f"\n[yellow]Warning:[/] {escape(printable(warning))}", highlight=False)


def accounts(there: Iterable[Person], domains: Iterable[str], console: Console) -> None:
    """Show each account on a line. `domains` are those that the pod serves."""
    for person in there:
        console.print(line(person, *domains), markup=False, highlight=False, soft_wrap=True)


def repositories(there: list[Repository], console: Console) -> None:
    """Show each repository, whether strangers see it, and its description."""
    if not there:
        console.print("no repositories. Add one: invoke repos.add NAME")
        return
    table = _table("Repository", "Seen by", "Description")
    for repository in there:
        seen_by = "[yellow]everybody[/]" if repository.public else "accounts"
        name, description = (escape(printable(text)) for text in (repository.name, repository.description))
        table.add_row(name, seen_by, description)
    console.print(table)


def locks(there: list[Lock], console: Console) -> None:
    """Show each lock in a line: its end (local time), its account, and its path, which may have spaces."""
    if not there:
        console.print("no locks")
    for lock in there:
        end = f"until {datetime.fromtimestamp(lock.end, UTC).astimezone():%F %T}" if lock.end else "without an end"
        shared = " (shared)" if lock.shared else ""
        console.print(escape(printable(f"{end}  {lock.account}{shared}  {lock.path}")), soft_wrap=True, highlight=False)
