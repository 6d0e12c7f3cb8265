"""The certificates of the pod under test, and clients that know only one algorithm."""

import ssl

from podserve.certificates import store
from podserve.certificates.keypair import Certificate
from podserve.folder import Folder
from tests.testbed.pod import PodUnderTest


def every(test_pod: PodUnderTest) -> tuple[Certificate, ...]:
    """Return the certificates on the volume, ECDSA first."""
    there = store.current(Folder.at(test_pod.folder("certificates")))
    assert there
    return there


def current(test_pod: PodUnderTest) -> Certificate:
    """Return the first certificate on the volume: the one that a client of both algorithms gets."""
    return every(test_pod)[0]


def only(algorithm: str, context: ssl.SSLContext) -> ssl.SSLContext:
    """Make the context that of a client of TLS 1.2 which knows only `ec` (ECDSA) or `rsa`; return it."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers({"ec": "aECDSA", "rsa": "aRSA"}[algorithm])
    return context
