"""A change of the certificate of a pod that runs, until every port serves the new one.

The caller holds the pod's lock (`state.locked`).
"""

from collections.abc import Callable

from podserve import resolver
from podserve.answering import wait_until_served
from podserve.certificates import renewal, store
from podserve.certificates.renewal import Renewal
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.zone import publishing


def swap(pod: Pod, change: Callable[[Pod], Renewal]) -> Renewal:
    """Change the certificate, and return when every port of the pod, if there is one, serves the new one.

    Raises Problem if there is no new certificate: then the old one stays in use.
    """
    store.certificates_folder(pod)  # raises Problem if there is no volume
    if publishing.publish(pod)[0]:  # the change may need records of new settings
        resolver.read_again(pod)
    renewed = change(pod)
    if any([resolver.write_files(pod), publishing.publish(pod)[0]]):
        resolver.read_again(pod)
    if renewed.changed:
        wait_until_served(pod)
    return renewed


def renew_if_due(pod: Pod) -> list[str]:
    """Renew the certificate if it is due, and return warnings. A failure is one of them: the old one stays in use."""
    try:
        return swap(pod, renewal.renew).warnings
    except Problem as error:
        return [f"{error.text}. The old certificate is still served"]
