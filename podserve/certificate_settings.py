"""The settings of a pod's certificate. `podserve.settings` has the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from podserve.choices import CertificateSource, Challenge, KeyType
from podserve.declaration import Setting
from podserve.values import (
    EMAIL_ADDRESS,
    HTTPS_ADDRESS,
    PROVIDER,
    key_types,
    matching,
    name_or_wildcard,
    path_or_none,
    words,
)


@dataclass(frozen=True)
class CertificateSettings:
    """The settings of the certificate, of its source, and of its key."""

    certificate_source: Annotated[CertificateSource, Setting(
        CertificateSource, "authority, acme or import",
        "The source of the certificate: authority (the pod's own, whose CA certificate clients import), acme (Let's "
        "Encrypt or another directory, which verifies each name by acme_challenge; this setting accepts the "
        "directory's terms), or import (invoke certs.import CERT KEY).",
        default=CertificateSource.AUTHORITY.value,
    )]  # fmt: skip
    certificate_names: Annotated[tuple[str, ...], Setting(
        words(name_or_wildcard, may_be_empty=True),
        "host names in lower case, or *.DOMAIN, separated by spaces, or none",
        "Names in the certificate besides domain, mail_host and files_host: host names, separated by spaces. *.DOMAIN "
        "stands for all names with one more label; an ACME directory issues it with acme_challenge: dns only.",
        services=True,
    )]  # fmt: skip
    acme_directory: Annotated[str, Setting(
        matching(HTTPS_ADDRESS),
        "the https:// address of an ACME directory, such as https://acme-v02.api.letsencrypt.org/directory",
        "The ACME directory.",
        default="https://acme-v02.api.letsencrypt.org/directory",
    )]  # fmt: skip
    acme_email: Annotated[str, Setting(
        matching(EMAIL_ADDRESS, may_be_empty=True),
        "an address for the ACME account, such as you@example.org; certificate_source: acme needs one",
        "The e-mail address of the ACME account. The source acme needs one.",
    )]  # fmt: skip
    acme_root: Annotated[Path | None, Setting(
        path_or_none, "the path of a PEM file, or nothing",
        "A PEM file with the root certificate of a private ACME directory. Without it, the root certificates of this "
        "host verify the directory.",
    )]  # fmt: skip
    acme_challenge: Annotated[Challenge, Setting(
        Challenge, "http or dns",
        "How the ACME directory verifies each name: http (it connects to port 80, which must lead here) or dns (it "
        "looks up a TXT record, which the pod sets in its own zone with zone: public, otherwise at "
        "acme_dns_provider).",
        default=Challenge.HTTP.value,
    )]  # fmt: skip
    acme_dns_provider: Annotated[str, Setting(
        matching(PROVIDER, may_be_empty=True),
        "lego's code for the DNS provider of the domain, such as hetzner (https://go-acme.github.io/lego/dns)",
        "The DNS provider of the domain, by its code in lego, such as hetzner or rfc2136 "
        "(https://go-acme.github.io/lego/dns), for acme_challenge: dns. Not needed with zone: public.",
    )]  # fmt: skip
    acme_dns_file: Annotated[Path | None, Setting(
        path_or_none, "the path of a file with lego's variables for acme_dns_provider",
        "A file with lego's variables for that provider, such as its API token: NAME=VALUE on each line. No other user "
        "may be able to read it (chmod 0600).",
    )]  # fmt: skip
    key_type: Annotated[tuple[KeyType, ...], Setting(
        key_types, "ec256, ec384, rsa2048 or rsa4096, or one of ec… and one of rsa…, separated by a space",
        "The key types of the certificates that are issued next: ec256 or ec384 (ECDSA P-256, P-384), rsa2048 or "
        "rsa4096. With one of each algorithm, as by default, clients that know only RSA are served, too.",
        default=f"{KeyType.EC256.value} {KeyType.RSA2048.value}",
    )]  # fmt: skip
