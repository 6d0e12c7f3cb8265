"""The declaration of a setting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """A declaration. `expected` completes "expected …" in an error; `help` is the text of the documentation.

    `services` says whether services read it, from the ConfigMap. The defaults of these settings, and of `pod`, are in
    kube/. `default` is the default of any other setting, as text. `derived` is a default that follows from earlier
    settings: a format, such as "mail.{domain}".
    """

    parse: Callable[[str], Any]
    expected: str
    help: str
    services: bool = False
    default: str = ""
    derived: str = ""
