"""The one-shot container: its image has the ACME client and what writes the certificates volume."""

from collections.abc import Mapping

from podserve.commands import Result, podman

IMAGE = "localhost/podserve-certificates:latest"
LONGEST = 300
"""Seconds after which Podman ends it: lego gives up on one challenge after 60."""


def run_once(*argv: str, mounts: Mapping[str, str], pod: str = "", stdin: str = "") -> Result:
    """Run a command in it, and return what it printed; the container is gone then.

    `mounts` are volumes, or folders of this host, by where they are to be. It joins `pod`, or has no network. Secrets
    go in by `stdin` alone: arguments stand in process lists, and what is printed may be logged.
    """
    # Podman takes a container that ends out of the hosts file that it shares with the pod: 4.3.1 all its lines, 5.4.2
    # those of its host name, which is the pod's. (Without --restart, Podman 5 would give it the pod's policy: always.)
    joined = ["--pod", pod, "--no-hosts", "--uts", "private"] if pod else ["--network", "none"]
    volumes = [word for where, what in mounts.items() for word in ("--volume", f"{what}:{where}")]
    return podman(
        "run", "--rm", "--restart", "no", "--interactive", *joined, "--timeout", str(LONGEST), "--log-driver", "none",
        "--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only", *volumes, IMAGE, *argv,
        stdin=stdin, check=False, timeout=LONGEST + 30,
    )  # fmt: skip
