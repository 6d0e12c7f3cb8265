"""The settings of a pod, read from Invoke's configuration and checked all at once."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from podserve.errors import Problem

INVOKES_OWN = ("run", "runners", "sudo", "tasks", "timeouts")
"""What else stands at the top level of Invoke's configuration (docs.pyinvoke.org, "Default configuration values")."""
INVOKES_VARIABLES = {"INVOKE_DEBUG", "INVOKE_RUNTIME_CONFIG"}
"""What Invoke reads from the environment besides its configuration."""

DERIVED = ("mail_host", "files_host")
"""The settings whose default follows from another setting."""

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"  # RFC 1123, section 2.1
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)+(?![0-9]+\Z){_LABEL}\Z")
_HOST_NAME = 64  # the domain is the pod's host name: HOST_NAME_MAX of Linux (gethostname(2))
_POD = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\Z")
_URL = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/%-]*)?\Z")
_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9.-]+\Z")
KEY_TYPES = ("ec256", "ec384", "rsa2048", "rsa4096")
"""ECDSA P-256 and P-384, RSA by its bits: lego's names for what browsers take."""
LOCAL_PART = re.compile(r"(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z")
"""What comes before the @ of an account: no + (it begins a tag), nothing with a meaning in a path or a colon file."""


def is_domain(text: str) -> bool:
    """Return whether this is a domain name in lower case."""
    return bool(_DOMAIN.match(text))


@dataclass(frozen=True)
class Settings:
    """A pod's settings, each as it stands in the ConfigMap: text."""

    pod: str
    bind: str
    domain: str
    mail_host: str
    files_host: str
    postmaster: str
    message_size_limit: str
    push_size_limit: str
    forwarders: str
    dnssec: str
    # The tasks' own, which the services do not see.
    certificate_source: str = "authority"
    certificate_names: str = ""
    acme_directory: str = "https://acme-v02.api.letsencrypt.org/directory"
    acme_email: str = ""
    acme_root: str = ""
    key_type: str = "ec256"

    def environment(self) -> dict[str, str]:
        """Return them as the ConfigMap names them: in capitals."""
        return {name.upper(): value for name, value in vars(self).items()}

    @property
    def certified_names(self) -> tuple[str, ...]:
        """What the certificate is for: the domain first."""
        return tuple(dict.fromkeys([self.domain, self.mail_host, self.files_host, *self.certificate_names.split()]))

    @property
    def local_address(self) -> str:
        """The address at which this host reaches the pod."""
        return "127.0.0.1" if self.bind == "0.0.0.0" else self.bind  # noqa: S104

    @property
    def postmaster_address(self) -> str:
        """The account that gets mail to postmaster@ and abuse@."""
        return f"{self.postmaster}@{self.domain}"


def of_tasks() -> dict[str, str]:
    """Return the settings that the tasks alone read, with their defaults."""
    return {field.name: field.default for field in fields(Settings) if field.default is not MISSING}


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # An interface's name (fe80::1%eth0) means nothing in the pod, and could hold any character.
    return not getattr(address, "scope_id", None)


def _certificate_rules(values: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    """Return, for each setting of the certificate, whether its value is right, and what was expected."""
    source, email = values["certificate_source"], values["acme_email"]
    names = values["certificate_names"].split()
    root = values["acme_root"]
    return {
        "certificate_source": (source in {"authority", "acme", "import"}, "authority, acme or import"),
        "certificate_names": (all(map(_DOMAIN.match, names)), "host names in lower case, separated by spaces, or none"),
        "acme_directory": (
            _URL.match(values["acme_directory"]),
            "the https:// address of an ACME directory, such as https://acme-v02.api.letsencrypt.org/directory",
        ),
        "acme_email": (
            _EMAIL.match(email) or (not email and source != "acme"),
            "an address for the ACME account, such as you@example.org; certificate_source: acme needs one",
        ),
        "acme_root": (not root or root.startswith(("/", "~", "./")), "the path of a PEM file, or nothing"),
        "key_type": (values["key_type"] in KEY_TYPES, f"one of {', '.join(KEY_TYPES)}"),
    }


def _complaints(values: Mapping[str, str]) -> list[str]:
    """Return a line for each setting whose value is wrong."""
    forwarders = values["forwarders"].split()
    wrong_forwarders = [word for word in forwarders if not _is_address(word)]
    rules = {
        "pod": (_POD.match(values["pod"]), "a name of lower-case letters, digits and hyphens, 42 at most"),
        "bind": (_is_address(values["bind"]), "an IP address of this host, such as 192.0.2.10, or 0.0.0.0 for all"),
        "domain": (
            _DOMAIN.match(values["domain"]) and len(values["domain"]) <= _HOST_NAME,
            f"a domain name in lower case, such as example.org, of {_HOST_NAME} characters at most",
        ),
        "mail_host": (_DOMAIN.match(values["mail_host"]), "a host name in lower case, such as mail.example.org"),
        "files_host": (_DOMAIN.match(values["files_host"]), "a host name in lower case, such as mail.example.org"),
        "postmaster": (LOCAL_PART.match(values["postmaster"]), "the part of an account before the @, such as alice"),
        "message_size_limit": (
            re.match(r"[1-9][0-9]{5,9}\Z", values["message_size_limit"]),
            "a number of bytes from 100000 to 9999999999",
        ),
        "push_size_limit": (
            re.match(r"[1-9][0-9]{5,11}\Z", values["push_size_limit"]),
            "a number of bytes from 100000 to 999999999999",
        ),
        "forwarders": (
            forwarders and not wrong_forwarders,
            f"IP addresses separated by spaces{f', which {wrong_forwarders[0]!r} is not' if wrong_forwarders else ''}",
        ),
        "dnssec": (values["dnssec"] in {"yes", "no"}, '"yes" or "no", in quotes'),
        **_certificate_rules(values),
    }
    wrong = {name: expected for name, (right, expected) in rules.items() if not right}
    return [f"{name} is {values[name]!r}: expected {expected}" for name, expected in wrong.items()]


def _unknown(given: Mapping[str, object], environment: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    right = {*INVOKES_VARIABLES, *(f"INVOKE_{name.upper()}" for name in known)}
    groups = tuple(f"INVOKE_{own.upper()}_" for own in INVOKES_OWN)
    variables = [
        name for name in environment if name.startswith("INVOKE_") and name not in right and not name.startswith(groups)
    ]
    names = [name for name in given if name not in known and name not in INVOKES_OWN]
    return [f"{name} is no setting: expected one of {', '.join(known)}" for name in [*names, *variables]]


def load(
    given: Mapping[str, object], defaults: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> Settings:
    """Return the settings that Invoke's configuration `given` makes, where `defaults` stand for what it leaves out.

    Raises Problem with a line for each wrong or unknown one. `environment` is looked through for INVOKE_ variables that
    Invoke would pass over in silence.
    """
    values, complaints = dict(defaults), _unknown(given, environment, defaults)
    for name in defaults:
        value = given.get(name, defaults[name] if name not in DERIVED else "")
        if isinstance(value, bool) or not isinstance(value, str | int):
            complaints.append(f"{name} is {value!r}: expected text; put it in quotes")
        else:
            values[name] = " ".join(str(value).split())
    if not values["mail_host"]:
        same = values["domain"] == defaults["domain"] or not _DOMAIN.match(values["domain"])
        values["mail_host"] = defaults["mail_host"] if same else f"mail.{values['domain']}"
    if not values["files_host"]:
        values["files_host"] = values["mail_host" if _DOMAIN.match(values["mail_host"]) else "domain"]
    complaints += _complaints(values)
    if complaints:
        raise Problem("these settings (invoke.yaml, INVOKE_… or -f FILE) cannot be used:\n  " + "\n  ".join(complaints))
    return Settings(**values)
