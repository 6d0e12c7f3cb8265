"""Accounts from a file: all of its lines are checked first, and then added in one write, or nothing is changed.

The file is CSV (RFC 4180) in UTF-8, whose first line names the columns. They are separated by commas or semicolons.
"""

import csv
import io
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from podserve import accounts, addresses, quotas
from podserve.accounts import Accounts
from podserve.aliases import Aliases
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.private_file import read_private
from podserve.quotas import Quotas
from podserve.settings import Settings

COLUMNS = "name", "password", "hash", "quota", "aliases"
"""The columns that a file may have. A line may leave all but the name empty."""
_LARGEST = 2**24
"""Bytes of a file at most: some 100,000 accounts."""
_BCRYPT = re.compile(r"(?:\{BLF-CRYPT\})?\$2[aby]\$((?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53})")
"""A hash of bcrypt, perhaps with the prefix that Dovecot writes."""
_TOLD = 20
"""Wrong lines that an error names."""


@dataclass(frozen=True)
class Row:
    """A line of the file: its number, and what it says of an account. `aliases` are whole addresses."""

    number: int
    account: str
    password: str
    hashed: str
    quota: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """The accounts that are new, those that were there already as the file has them, and the passwords made for some.

    The passwords are known here alone.
    """

    new: tuple[str, ...]
    same: tuple[str, ...]
    passwords: Mapping[str, str]


def read_list(name: str) -> str:
    """Return the text of a file, or of standard input for `-`.

    Raises Problem for a file that cannot be read, that other users can read, or that is too large.
    """
    content = (
        sys.stdin.read().encode(errors="surrogateescape")
        if name == "-"
        else read_private(Path(name), "the list of accounts", _LARGEST + 1)
    )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeError as error:
        raise Problem(f"{name} is not in UTF-8: save it as CSV in UTF-8") from error
    if len(content) > _LARGEST:
        raise Problem(f"{name} has more than {_LARGEST} bytes: divide it")
    return text


def _refuse(wrong: Mapping[int, str]) -> None:
    if wrong:
        shown = [f"  line {number}: {said}" for number, said in sorted(wrong.items())]
        more = [f"  and {len(shown) - _TOLD} more"] if len(shown) > _TOLD else []
        raise Problem("\n".join(["nothing was changed, because of these lines:", *shown[:_TOLD], *more]))


def parse_rows(text: str, settings: Settings) -> list[Row]:
    """Return the lines of a file. Raises Problem, which names the wrong ones and what was expected."""
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in first else ",", strict=True)
    columns, rows, wrong = (
        [str(name).strip().lower() for name in reader.fieldnames or ()],
        list[Row](),
        dict[int, str](),
    )
    if "name" not in columns or not set(columns) <= set(COLUMNS) or len(set(columns)) < len(columns):
        raise Problem(
            f"line 1 names the columns {', '.join(columns) or '(none)'}: expected name, and any of "
            f"{', '.join(COLUMNS[1:])}, each once"
        )
    reader.fieldnames = columns
    seen = dict[str, int]()
    try:
        for fields in reader:
            try:
                row = _row(reader.line_num, fields, settings)
            except Problem as problem:
                wrong[reader.line_num] = problem.text
                continue
            if (before := seen.setdefault(row.account, row.number)) != row.number:
                wrong[row.number] = f"{row.account} is on line {before}, too: expected each account once"
            rows.append(row)
    except csv.Error as error:
        wrong[reader.reader.line_num] = f"this is not CSV: {error}"
    _refuse(wrong)
    return rows


def _row(number: int, fields: Mapping[str | None, str | None], settings: Settings) -> Row:
    if None in fields:
        raise Problem("there are more fields than columns: put a field with a comma or semicolon in quotes")
    text = {str(name): value or "" for name, value in fields.items()}
    account = addresses.address(text["name"].strip(), *settings.domains)
    addresses.expect_own_mail(account, settings.postmaster_address)
    password, hashed, quota = text.get("password", ""), text.get("hash", "").strip(), text.get("quota", "").strip()
    if password and hashed:
        raise Problem("there are a password and a hash: expected one of them, or none")
    if hashed:
        hashed = _bcrypt_hash(hashed)
    if quota:
        quotas.expect_size(quota)
    aliases = tuple(addresses.alias(name, *settings.domains) for name in text.get("aliases", "").split())
    return Row(number, account, password, hashed, quota, aliases)


def _bcrypt_hash(text: str) -> str:
    """Return a hash as the accounts file has it. Raises Problem for other kinds, which not every service knows."""
    if not (found := _BCRYPT.fullmatch(text)):
        raise Problem("the hash is not bcrypt's: expected $2y$ (or $2a$, $2b$), a cost from 04 to 14, $, 53 characters")
    return f"$2y${found[1]}"


def _is_password(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(errors="surrogateescape"), hashed.encode())
    except ValueError:  # a hash that somebody has written by hand
        return False


def _in_parallel(work: Callable[[Row], str], rows: Iterable[Row]) -> dict[str, str]:
    """Return what `work` makes of each row, by account. bcrypt takes 50 ms, and lets other threads run meanwhile."""
    with ThreadPoolExecutor() as pool:
        there = list(rows)
        return dict(zip((row.account for row in there), pool.map(work, there), strict=True))


def _hashes(rows: Iterable[Row], made: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of new accounts. `made` has the passwords of those that the file gives none."""
    unusable = dict[int, str]()

    def hash_of(row: Row) -> str:
        try:
            return row.hashed or accounts.hashed_password(row.password or made[row.account])
        except Problem as problem:
            unusable[row.number] = problem.text
            return ""

    hashed = _in_parallel(hash_of, rows)
    _refuse(unusable)
    return hashed


def _difference(row: Row, hashed: str) -> str:
    """Return how the password of a line differs from that of an existing account; an empty text if it does not."""
    known = hashed.removesuffix(accounts.DISABLED)
    if row.hashed:
        return "" if row.hashed == known else "has another hash"
    return "" if not row.password or _is_password(row.password, known) else "has another password"


def _faults_of_new(rows: Collection[Row], there: Collection[str], known: Collection[str]) -> dict[int, str]:
    """Return what is wrong with lines of new accounts, beside the accounts and aliases that exist."""
    wrong, after = dict[int, str](), {*there, *(row.account for row in rows)}
    for row in rows:
        if row.account in there:
            wrong[row.number] = f"{row.account} exists already"
        if row.account in known:
            wrong[row.number] = f"{row.account} cannot be an account: it is an alias"
        if both := after.intersection(row.aliases):
            wrong[row.number] = f"{min(both)} cannot be an alias: it is an account"
    return wrong


def import_accounts(folder: Folder, rows: Iterable[Row]) -> Imported:
    """Add the accounts of these rows, with their quotas and aliases. `folder` is that of the accounts volume.

    Raises Problem, and changes nothing, if an account exists and differs, or if an alias cannot be added.
    """
    there, aliases, limits, wanted = Accounts(folder), Aliases(folder), Quotas(folder), list(rows)
    before = there.hashes()
    new = [row for row in wanted if row.account not in before]
    same = [row for row in wanted if row.account in before]
    made = {row.account: accounts.random_password() for row in new if not row.password and not row.hashed}
    hashed = _hashes(new, made)
    differs = _in_parallel(lambda row: _difference(row, before[row.account]), same)

    def check_and_add_others(present: Mapping[str, str]) -> None:
        known, own = aliases.all(), limits.own()
        wrong = _faults_of_new(new, present, known)
        for row in same:
            said = differs[row.account]
            if present.get(row.account) != before[row.account]:
                said = "has changed meanwhile"
            elif row.quota and row.quota != own.get(row.account, quotas.DEFAULT):
                said = "has another quota"
            elif any(row.account not in known.get(alias, ()) for alias in row.aliases):
                said = "is not the target of these aliases"
            if said:
                wrong[row.number] = f"{row.account} exists already, and {said}. Correct this line, or remove it"
        _refuse(wrong)
        targets = defaultdict[str, list[str]](list)
        for alias, account in ((alias, row.account) for row in new for alias in row.aliases):
            targets[alias].append(account)
        aliases.add_all(targets, [*present, *hashed])
        limits.set_all({row.account: row.quota for row in new if row.quota})

    there.add_all(hashed, check_and_add_others)
    return Imported(tuple(row.account for row in new), tuple(row.account for row in same), made)
