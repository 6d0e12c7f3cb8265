"""Turns Invoke's configuration into settings, and refuses all wrong and unknown ones at once."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from podserve.choices import CertificateSource, Challenge, PolicyMode, ZoneMode
from podserve.errors import Problem
from podserve.settings import SETTINGS, Settings
from podserve.values import WrongWordError, is_wildcard

INVOKES_OWN = ("run", "runners", "sudo", "tasks", "timeouts")
"""The other names at the top level of Invoke's configuration (docs.pyinvoke.org, "Default configuration values")."""
INVOKES_VARIABLES = {"INVOKE_DEBUG", "INVOKE_RUNTIME_CONFIG"}
"""What Invoke reads from the environment besides its configuration."""


def shown_defaults(defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults for Invoke: an empty text for a setting whose default follows from other settings."""
    return {name: "" if SETTINGS[name].derived else text for name, text in defaults.items()}


def _unknown(given: Mapping[str, object], environment: Mapping[str, str]) -> list[str]:
    right = {*INVOKES_VARIABLES, *(f"INVOKE_{name.upper()}" for name in SETTINGS)}
    groups = tuple(f"INVOKE_{own.upper()}_" for own in INVOKES_OWN)
    variables = [
        name for name in environment if name.startswith("INVOKE_") and name not in right and not name.startswith(groups)
    ]
    names = [name for name in given if name not in SETTINGS and name not in INVOKES_OWN]
    return [f"{name} is not a setting: expected one of {', '.join(SETTINGS)}" for name in [*names, *variables]]


def _outside(values: Mapping[str, Any]) -> list[str]:
    """Return the names for the certificate that are not in the zone of the domain."""
    names = (values.get("mail_host"), values.get("files_host"), *values.get("certificate_names", ()))
    zone = values.get("domain")
    return [name for name in dict.fromkeys(names) if name and name != zone and not name.endswith(f".{zone}")]


def _acme_complaints(values: Mapping[str, Any]) -> Iterable[str]:
    """Yield a line for each setting that does not fit an ACME directory as the source of the certificate."""
    missing = ["acme_email"]
    if values.get("acme_challenge") is Challenge.DNS:
        own = values.get("zone") is ZoneMode.PUBLIC and not values.get("acme_dns_provider")
        missing += [] if own else ["acme_dns_provider", "acme_dns_file"]
        if own and (outside := " ".join(_outside(values))):
            yield f"acme_dns_provider is '': expected one for {outside}, which the zone of domain does not have"
    elif wildcards := " ".join(filter(is_wildcard, values.get("certificate_names", ()))):
        yield f"acme_challenge is 'http': expected dns, because certificate_names has {wildcards}"
    for name in missing:
        if name in values and not values[name]:
            yield f"{name} is '': expected {SETTINGS[name].expected}"


def _transport_complaints(values: Mapping[str, Any]) -> Iterable[str]:
    """Yield a line if a login at the relay host lacks a part, or if the MTA-STS policy would keep mail away."""
    if values.get("mta_sts") is PolicyMode.ENFORCE and values.get("certificate_source") is CertificateSource.AUTHORITY:
        yield (
            "certificate_source is 'authority': expected acme or import, because mta_sts is 'enforce', and other "
            "servers do not know the pod's own authority"
        )
    login = "relay_user", "relay_password_file"
    missing = [name for name in login if values.get(name, "wrong") in {"", None}]
    if values.get("relay_host") and len(missing) == 1:
        (other,) = set(login) - set(missing)
        expected = SETTINGS[missing[0]].expected.removesuffix(", or nothing")
        yield f"{missing[0]} is '': expected {expected}; {other} needs it"


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each pair of settings that cannot be together."""
    if values.get("domain") in values.get("mail_domains", ()):
        yield f"mail_domains has {values['domain']}, which is domain: expected the other domains only"
    if values.get("account_page") and values.get("files_host") == values.get("domain"):
        yield (
            f"files_host is {values['files_host']!r}: expected another name than domain, because account_page is "
            "'yes', and a page of the site could act with its visitor's login"
        )
    if values.get("zone") is ZoneMode.PUBLIC and values.get("public_address") == ():
        yield f"public_address is '': expected {SETTINGS['public_address'].expected}; zone: public needs one"


def load(
    given: Mapping[str, object], defaults: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> Settings:
    """Return the settings of Invoke's configuration `given`; `defaults` (texts) apply where it has none.

    Raises Problem with a line for each wrong or unknown one. `environment` is searched for INVOKE_ variables that
    name no setting: Invoke itself would ignore them.
    """
    complaints, given_texts = _unknown(given, environment), shown_defaults(defaults)
    for name in (name for name in SETTINGS if name in given):
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, str | int):
            complaints.append(f"{name} is {value!r}: expected text; put it in quotes")
        else:
            given_texts[name] = " ".join(str(value).split())
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, declared in SETTINGS.items():
        try:
            text = given_texts[name] or declared.derived.format_map(texts)
            values[name] = declared.parse(text)
            texts[name] = text
        except KeyError:  # it follows from a setting that is wrong
            continue
        except ValueError as error:
            word = f" (wrong: {str(error)!r})" if isinstance(error, WrongWordError) else ""
            complaints.append(f"{name} is {text!r}: expected {declared.expected}{word}")
    if values.get("certificate_source") is CertificateSource.ACME:
        complaints += _acme_complaints(values)
    complaints += _transport_complaints(values)
    complaints += _contradictions(values)
    if complaints:
        raise Problem("these settings (invoke.yaml, INVOKE_… or -f FILE) cannot be used:\n  " + "\n  ".join(complaints))
    return Settings(**values)
