"""The settings of a pod: each is declared once, with its parser, what it expects, its help and its default.

Inside PodServe a setting has a typed value. Text is for Invoke's configuration, the ConfigMap and archives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args, get_type_hints

from podserve.certificate_settings import CertificateSettings
from podserve.choices import PolicyMode, ZoneMode
from podserve.declaration import Setting
from podserve.mail_settings import MailSettings
from podserve.transport_settings import TransportSettings
from podserve.values import (
    ANY_ADDRESS,
    LOCAL_PART,
    LOOPBACK,
    POD_NAME,
    Address,
    Forwarder,
    address_pair,
    as_text,
    byte_count,
    covers,
    domain_name,
    forwarder,
    host_address,
    is_wildcard,
    matching,
    number,
    path_or_none,
    words,
    yes_or_no,
)

_IMAP_PROCESSES = 1024  # the sessions of all accounts (process_limit of service imap, Dovecot's default)
_HOST_NAME = 64  # the domain is the pod's host name: HOST_NAME_MAX of Linux (gethostname(2))


def policy_host(domain: str) -> str:
    """Return the name at which other servers look for the MTA-STS policy of a domain."""
    return f"mta-sts.{domain}"


@dataclass(frozen=True)
class Settings(TransportSettings, CertificateSettings, MailSettings):
    """A pod's settings."""

    pod: Annotated[str, Setting(
        matching(POD_NAME), "a name of lower-case letters, digits and hyphens, 42 at most",
        "The name of the pod. A pod of another name has its own network and volumes.",
    )]  # fmt: skip
    bind: Annotated[Address, Setting(
        host_address, "an IP address of this host, such as 192.0.2.10, or 0.0.0.0 for all",
        "The address of this host to serve on. 0.0.0.0 means all addresses. With a single address, other programs "
        "keep the ports of the other addresses: for example, systemd-resolved keeps 127.0.0.53:53.",
        default=str(ANY_ADDRESS),
    )]  # fmt: skip
    domain: Annotated[str, Setting(
        domain_name(longest=_HOST_NAME),
        f"a domain name in lower case, such as example.org, of {_HOST_NAME} characters at most",
        "The domain that the pod serves: its web site, and mail to NAME@DOMAIN. A name outside ASCII, such as "
        "müller.de, is taken as its A-label, xn--mller-kva.de, which logins use, too.",
        services=True,
    )]  # fmt: skip
    mail_host: Annotated[str, Setting(
        domain_name(), "a host name in lower case, such as mail.example.org",
        "The name of the mail service, as in the MX record and in mail clients.",
        services=True, derived="mail.{domain}",
    )]  # fmt: skip
    files_host: Annotated[str, Setting(
        domain_name(), "a host name in lower case, such as mail.example.org",
        "The name at which browsers see /webdav/ and /git/. It should differ from domain: then the two have different "
        "origins, and no page of the site can act with its visitor's login. The pod redirects browsers there; "
        "programs may use either name. Its DNS record must lead here.",
        services=True, derived="{mail_host}",
    )]  # fmt: skip
    postmaster: Annotated[str, Setting(
        matching(LOCAL_PART), "the part of an account before the @, such as alice",
        "The account that receives mail to postmaster@ and abuse@. invoke up creates it if it is missing.",
        services=True,
    )]  # fmt: skip
    message_size_limit: Annotated[int, Setting(
        byte_count(10), "a number of bytes from 100000 to 9999999999",
        "The largest message, in bytes.",
        services=True,
    )]  # fmt: skip
    imap_sessions: Annotated[int, Setting(
        number(1, _IMAP_PROCESSES), f"a number from 1 to {_IMAP_PROCESSES}",
        "The most IMAP sessions of one account from one address. A mail program on one device may use five or more, "
        "and all devices at home often share an address.",
        services=True,
    )]  # fmt: skip
    push_size_limit: Annotated[int, Setting(
        byte_count(12), "a number of bytes from 100000 to 999999999999",
        "The largest push to a git repository, in bytes.",
        services=True,
    )]  # fmt: skip
    account_page: Annotated[bool, Setting(
        yes_or_no, '"yes" or "no", in quotes',
        "Whether each account has a page at https://DOMAIN/account/, where a person changes the password, answers mail "
        'while away, sends mail on, and finds the settings for mail programs: "yes" or "no", in quotes. It needs a '
        "files_host that differs from domain.",
        services=True,
    )]  # fmt: skip
    forwarders: Annotated[tuple[Forwarder, ...], Setting(
        words(forwarder), "IP addresses or tls://ADDRESS#NAME, separated by spaces",
        "The resolvers to which the pod forwards DNS queries, separated by spaces: IP addresses, or tls://ADDRESS#NAME "
        "for DNS over TLS, such as tls://9.9.9.9#dns.quad9.net. Its certificate must be for that name, and the pod "
        "never asks it without TLS. A port other than 853 stands before the #: tls://ADDRESS@PORT#NAME.",
        services=True,
    )]  # fmt: skip
    forwarders_root: Annotated[Path | None, Setting(
        path_or_none, "the path of a PEM file, or nothing",
        "A PEM file with the root certificate of private forwarders over TLS. Without it, the root certificates of the "
        "image (Debian's ca-certificates) verify them.",
    )]  # fmt: skip
    dnssec: Annotated[bool, Setting(
        yes_or_no, '"yes" or "no", in quotes',
        "Whether the pod validates DNS answers by DNSSEC, and verifies other mail servers by their TLSA records "
        '(DANE): "yes" or "no", in quotes.',
        services=True,
    )]  # fmt: skip
    zone: Annotated[ZoneMode, Setting(
        ZoneMode, "off, lan or public",
        "What the pod's DNS server does for the names that the pod serves (domain, mail_host, files_host, "
        "certificate_names): off (it forwards them), lan (for private clients they lead to lan_address; all other "
        "names of the domain, and other types of these names, are forwarded), or public (as lan, and it is the name "
        "server of domain for the internet, with all records of invoke dns.records, signed by DNSSEC).",
        services=True,
    )]  # fmt: skip
    lan_address: Annotated[tuple[Address, ...], Setting(
        address_pair, "an IPv4 address, an IPv6 address, or both separated by a space",
        "The address at which the local network reaches this pod: an IPv4 address, an IPv6 address, or both, separated "
        "by a space. By default it is bind if that is one address, otherwise the address of this host's default route.",
        services=True,
    )]  # fmt: skip
    public_address: Annotated[tuple[Address, ...], Setting(
        address_pair, "an IPv4 address, an IPv6 address, or both separated by a space",
        "The address at which the internet reaches this server: an IPv4 address, an IPv6 address, or both, separated "
        "by a space. The DNS records of the domain lead there (invoke dns.records, invoke dns.check).",
    )]  # fmt: skip
    nameservers: Annotated[tuple[str, ...], Setting(
        words(domain_name(), may_be_empty=True), "host names in lower case, separated by spaces, or none",
        "With zone: public, the names of the domain's name servers, as the registrar has them: first this server's, "
        "then those of the secondaries. By default there is one, ns.DOMAIN. A name below domain leads to "
        "public_address (the registrar asks for this address, too) unless invoke dns.add gives it another.",
    )]  # fmt: skip
    secondaries: Annotated[tuple[Address, ...], Setting(
        words(host_address, may_be_empty=True), "IP addresses, separated by spaces, or none",
        "With zone: public, the addresses of secondary name servers, separated by spaces. They may copy the zone with "
        "the key of invoke dns.transfer-key, and are notified of each change.",
        services=True,
    )]  # fmt: skip
    dns_over_tls: Annotated[bool, Setting(
        yes_or_no, '"yes" or "no", in quotes',
        'Whether the pod answers DNS over TLS on port 853, for private networks, such as for "Private DNS" of Android: '
        '"yes" or "no", in quotes.',
        services=True,
    )]  # fmt: skip
    dns_over_https: Annotated[bool, Setting(
        yes_or_no, '"yes" or "no", in quotes',
        "Whether the pod answers DNS over HTTPS at https://DOMAIN/dns-query, for private networks: "
        '"yes" or "no", in quotes.',
        services=True,
    )]  # fmt: skip
    blocklist: Annotated[Path | None, Setting(
        path_or_none, "the path of a file, or nothing",
        "A file with names that the pod does not resolve for its clients: one name on each line, or a hosts file. All "
        "names below them are blocked, too. invoke dns.blocklist takes a changed file and allows names.",
    )]  # fmt: skip

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> "Settings":
        """Return the settings with these texts, by name. Raises ValueError or LookupError if one is wrong."""
        return cls(**{name: declared.parse(texts[name]) for name, declared in SETTINGS.items()})

    def texts(self) -> dict[str, str]:
        """Return each setting's text, by name."""
        return {name: as_text(getattr(self, name)) for name in SETTINGS}

    def environment(self) -> dict[str, str]:
        """Return them as the ConfigMap and INVOKE_ variables name them: texts, by names in capitals."""
        return {name.upper(): text for name, text in self.texts().items()}

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains whose mail the pod takes: `domain` first."""
        return (self.domain, *self.mail_domains)

    @property
    def certified_names(self) -> tuple[str, ...]:
        """What the certificate is for: the domain first."""
        policy = self.policy_hosts[:1]
        return tuple(dict.fromkeys([self.domain, self.mail_host, self.files_host, *policy, *self.certificate_names]))

    @property
    def policy_hosts(self) -> tuple[str, ...]:
        """The names at which other servers find the MTA-STS policy (RFC 8461, section 3.3); none without a policy.

        First that of `domain`, then those of the further domains that certificate_names has.
        """
        if self.mta_sts in {None, PolicyMode.OFF}:
            return ()
        others = (policy_host(domain) for domain in self.mail_domains)
        return (policy_host(self.domain), *(name for name in others if covers(self.certificate_names, name)))

    @property
    def host_names(self) -> tuple[str, ...]:
        """The certified names that hosts have: all but the wildcards."""
        return tuple(name for name in self.certified_names if not is_wildcard(name))

    @property
    def zone_servers(self) -> tuple[str, ...]:
        """The names of the domain's name servers: this one first."""
        return self.nameservers or (f"ns.{self.domain}",)

    @property
    def local_address(self) -> Address:
        """The address at which this host reaches the pod."""
        return LOOPBACK if self.bind == ANY_ADDRESS else self.bind

    @property
    def postmaster_address(self) -> str:
        """The account that gets mail to postmaster@ and abuse@."""
        return f"{self.postmaster}@{self.domain}"


SETTINGS: Mapping[str, Setting] = {
    name: next(declared for declared in get_args(hint) if isinstance(declared, Setting))
    for name, hint in get_type_hints(Settings, include_extras=True).items()
}
"""Every declaration, by the setting's name."""
