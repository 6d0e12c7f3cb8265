"""The certificate of the pod under test."""

from podserve.certificates import store
from podserve.certificates.keypair import Certificate
from podserve.folder import Folder
from tests.testbed.pod import PodUnderTest


def current(test_pod: PodUnderTest) -> Certificate:
    """Return the certificate on the volume."""
    there = store.current(Folder.at(test_pod.folder("certificates")))
    assert there
    return there
