"""What the host must offer."""

import os

from podserve.errors import Problem


def require_root() -> None:
    """Raise Problem for rootless Podman: its usual network modes hide the client's address from the services."""
    if os.geteuid() != 0:
        raise Problem(
            "rootless Podman is not supported yet: in its usual network modes every client looks local, which makes an "
            "open relay and an open resolver. Run the same command as root: sudo ./bootstrap invoke …"
        )
