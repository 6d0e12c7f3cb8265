"""The images, and the size that each adds to its parent."""

import json

from podserve.commands import podman

IMAGES = "debian:trixie", "base", "apache", "mail", "dns", "certificates"
MB = 1e6


def unique() -> list[int]:
    """Return the bytes that each of IMAGES adds to its parent."""
    names = [f"localhost/podserve-{image}" for image in IMAGES]
    inspected = json.loads(podman("image", "inspect", *names).stdout)
    debian, base, *services = (int(document["Size"]) for document in inspected)
    return [debian, base - debian, *(size - base for size in services)]
