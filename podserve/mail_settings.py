"""The settings of mail: its filter and its limits. `podserve.settings` has the others."""

from dataclasses import dataclass
from typing import Annotated

from podserve.choices import FilterMode
from podserve.declaration import Setting
from podserve.values import QUOTA, distinct, domain_name, matching, number, words, yes_or_no

_RECIPIENTS = 1_000_000
_YEAR = 365
_QUEUED = 5 * 24
"""Hours after which Postfix returns a message (maximal_queue_lifetime)."""


@dataclass(frozen=True)
class MailSettings:
    """The settings of the domains, of the filter, of how much an account may send, and of its mailbox's size."""

    mail_domains: Annotated[tuple[str, ...], Setting(
        distinct(words(domain_name(), may_be_empty=True)),
        "domain names in lower case besides domain, each once, separated by spaces, or none",
        "Further domains whose mail the pod takes, sends and signs, separated by spaces. Accounts and aliases may be "
        "at each of them. Each has DNS records and a signing key (DKIM) of its own, and mail to its postmaster@ and "
        "abuse@ goes to postmaster. They have no web site.",
        services=True,
    )]  # fmt: skip

    quota: Annotated[str, Setting(
        matching(QUOTA), "none, or a size such as 500M, 5G or 1T",
        "How large the mailbox of an account may be: none, or a size such as 500M, 5G or 1T. invoke users.quota sets "
        "another limit for an account. The account gets a warning when its mailbox is 90 % full.",
        services=True,
    )]  # fmt: skip
    quota_days: Annotated[int, Setting(
        number(0, _YEAR), f"a number of days from 0 to {_YEAR}",
        "For how many days mail to a full mailbox is refused for now (452), so that its sender tries again. After that "
        "it is refused for good (552).",
        services=True,
    )]  # fmt: skip
    queue_hours: Annotated[int, Setting(
        number(0, _QUEUED), f"a number of hours from 0 to {_QUEUED}",
        "After how many hours in the queue a message that cannot be delivered is a problem of invoke status. Its "
        "sender is warned after 4 hours, and gets it back after 5 days.",
        default="6",
    )]  # fmt: skip

    filter: Annotated[FilterMode, Setting(
        FilterMode, '"on" or "off", in quotes',
        'Whether a filter judges mail from outside and signs (DKIM) what the pod sends: "on" or "off", in quotes. It '
        "takes memory. Off is for those who relay through a provider that signs and filters.",
        services=True,
    )]  # fmt: skip
    submissions: Annotated[bool, Setting(
        yes_or_no, '"yes" or "no", in quotes',
        "Whether mail clients may also send by port 465, with TLS from the beginning of the connection: "
        '"yes" or "no", in quotes. Port 587 is the same service, with STARTTLS.',
        services=True,
    )]  # fmt: skip
    managesieve: Annotated[bool, Setting(
        yes_or_no, '"yes" or "no", in quotes',
        'Whether accounts may change their mail rules (Sieve scripts) by ManageSieve on port 4190: "yes" or "no", in '
        "quotes. The rules apply in any case.",
        services=True,
    )]  # fmt: skip
    recipients_per_hour: Annotated[int, Setting(
        number(1, _RECIPIENTS), f"a number from 1 to {_RECIPIENTS}",
        "To how many recipients an account may send at once, and again within each hour. More are refused for now, and "
        "the postmaster gets a warning. With the filter only.",
        services=True,
    )]  # fmt: skip
    recipients_per_day: Annotated[int, Setting(
        number(1, _RECIPIENTS), f"a number from 1 to {_RECIPIENTS}",
        "To how many recipients an account may send at once, and again within each day. With the filter only.",
        services=True,
    )]  # fmt: skip
    blocklists: Annotated[tuple[str, ...], Setting(
        words(domain_name(), may_be_empty=True), "domain names in lower case, separated by spaces, or none",
        "DNS blocklists of sending addresses, separated by spaces, such as zen.spamhaus.org. Most lists refuse queries "
        "that come through a public resolver, such as 8.8.8.8: forwarders must then be resolvers of your own.",
        services=True,
    )]  # fmt: skip
