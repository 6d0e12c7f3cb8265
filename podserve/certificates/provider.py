"""The variables of a DNS provider in lego, such as its API token: secrets, in a file of the person who runs the pod."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from podserve.certificates.keypair import LARGEST
from podserve.errors import Problem
from podserve.private_file import read_private

_LINE = re.compile(r"(?:export )?([A-Z][A-Z0-9_]*)=([\"']?)(.*)\2\Z")
_SHORTEST = 8
"""Characters of a value that is masked, as of a password (podserve.accounts). Shorter ones are numbers and words."""


@dataclass(frozen=True)
class Variables:
    """Variables by name. repr() shows no value."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def lines(self) -> str:
        """Return a line NAME=VALUE for each."""
        return "".join(f"{name}={value}\n" for name, value in self.values.items())

    def masked(self, text: str) -> str:
        """Return a text without the values, for errors: an HTTP client prints the address with all it holds."""
        forms = {form for value in self.values.values() for form in (value, quote(value), quote(value, safe=""))}
        for form in sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True):
            text = text.replace(form, "…")
        return text


def read_variables(file: Path) -> Variables:
    """Return the variables in a file: NAME=VALUE on each line; empty lines and lines with # count for nothing.

    Raises Problem, which shows nothing of the content: if the file cannot be read, if other users can read it, or for
    a line that is none of these.
    """
    content = read_private(file, "acme_dns_file", LARGEST)
    values = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (found := _LINE.match(line.strip())):
            raise Problem(f"line {number} of acme_dns_file, {file}, is not NAME=VALUE, with a NAME in capitals")
        values[found[1]] = found[3]
    if not values:
        raise Problem(f"acme_dns_file, {file}, is empty: expected lego's variables for acme_dns_provider, NAME=VALUE")
    return Variables(values)
