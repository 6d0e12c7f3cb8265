"""The settings that are one of a few words: each has its words as the values of an enumeration."""

from enum import Enum
from string import digits


class CertificateSource(Enum):
    """The source of the certificate. The values are the words of `certificate_source` and of `Certificate.origin`."""

    AUTHORITY = "authority"
    ACME = "acme"
    IMPORT = "import"


class Challenge(Enum):
    """How an ACME directory verifies names (RFC 8555, section 8). The values are the words of `acme_challenge`."""

    HTTP = "http"
    DNS = "dns"


class ZoneMode(Enum):
    """What the pod's DNS server does for the names that the pod serves. The values are the words of `zone`."""

    OFF = "off"
    LAN = "lan"
    PUBLIC = "public"


class FilterMode(Enum):
    """Whether mail is filtered and signed. The values are the words of `filter`."""

    ON = "on"
    OFF = "off"


class PolicyMode(Enum):
    """The mode of an MTA-STS policy (RFC 8461, section 3.2). The values are the words of `mta_sts`."""

    OFF = "off"
    NONE = "none"
    TESTING = "testing"
    ENFORCE = "enforce"


class KeyType(Enum):
    """The kind of a private key: ECDSA P-256 or P-384, or RSA with its bits. The values are lego's names."""

    EC256 = "ec256"
    EC384 = "ec384"
    RSA2048 = "rsa2048"
    RSA4096 = "rsa4096"

    @property
    def algorithm(self) -> str:
        """The algorithm, without the size: `ec` or `rsa`."""
        return self.value.rstrip(digits)
