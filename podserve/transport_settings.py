"""The settings of mail between servers: a relay host, and MTA-STS. `podserve.settings` has the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from podserve.choices import PolicyMode
from podserve.declaration import Setting
from podserve.values import LOGIN_NAME, domain_name, host_and_port, matching, number, path_or_none, words

_DAY, _LONGEST = 86400, 31557600  # RFC 8461, section 3.2: a year at most


@dataclass(frozen=True)
class TransportSettings:
    """The settings of mail to other servers, and from them."""

    relay_host: Annotated[str, Setting(
        host_and_port, "a host name in lower case, perhaps with a port, such as smtp.example.net:465, or nothing",
        "The mail server of a provider, to which the pod sends all mail for other servers. The port is 587 unless "
        "another one stands after a colon. The connection is always encrypted (by STARTTLS, on port 465 from its "
        "beginning), and the certificate must be for this name. By default the pod itself sends to each server.",
        services=True,
    )]  # fmt: skip
    relay_user: Annotated[str, Setting(
        matching(LOGIN_NAME, may_be_empty=True), "a user name without spaces and colons, or nothing",
        "The user name for the login at relay_host. Without it, the pod does not log in there.",
        services=True,
    )]  # fmt: skip
    relay_password_file: Annotated[Path | None, Setting(
        path_or_none, "the path of a file, or nothing",
        "A file whose first line is the password for relay_user. No other user may be able to read it (chmod 0600). "
        "After a change, run invoke up: it restarts nothing.",
    )]  # fmt: skip
    relay_domains: Annotated[tuple[str, ...], Setting(
        words(domain_name(), may_be_empty=True), "domain names in lower case, separated by spaces, or none",
        "The domains whose mail goes to relay_host, separated by spaces, such as gmail.com outlook.com. By default "
        "all mail for other servers does.",
        services=True,
    )]  # fmt: skip
    mta_sts: Annotated[PolicyMode | None, Setting(
        lambda text: PolicyMode(text) if text else None, "off, none, testing or enforce, or nothing",
        "The mode of the MTA-STS policy of domain: off, testing (other mail servers report to postmaster@ when they "
        "cannot encrypt and verify the connection), enforce (they then send no mail), or none (they forget an earlier "
        "policy). By default testing with zone: public and certificate_source: acme, otherwise off. It needs DNS "
        "records (invoke dns.records), and adds the name mta-sts.DOMAIN to the certificate.",
        services=True,
    )]  # fmt: skip
    mta_sts_max_age: Annotated[int, Setting(
        number(_DAY, _LONGEST), f"a number of seconds from {_DAY} to {_LONGEST}",
        "How long other mail servers keep the MTA-STS policy, in seconds.",
        services=True,
    )]  # fmt: skip
