"""The short-lived container with the ACME client, and with the program that writes the certificates volume."""

from collections.abc import Mapping

from podserve.commands import Result, podman

IMAGE = "localhost/podserve-certificates:latest"
LONGEST = 300
"""Seconds after which Podman ends the container: lego gives up on one HTTP challenge after 60."""


def run_once(
    *argv: str, mounts: Mapping[str, str], pod: str = "", stdin: str = "", image: str = IMAGE, longest: int = LONGEST
) -> Result:
    """Run a command in a new container of an image, which is removed afterwards; return its output.

    `mounts` are volumes, or folders of this host, by their paths in the container. The container joins `pod`, or has no
    network. Secrets are passed by `stdin` only: process lists show arguments, and output may be logged.
    """
    # When a container ends, Podman edits the hosts file that it shares with the pod: 4.3.1 removes all its lines, 5.4.2
    # those with its host name, which is the pod's. (Without --restart, Podman 5 would apply the pod's policy: always.)
    joined = ["--pod", pod, "--no-hosts", "--uts", "private"] if pod else ["--network", "none"]
    volumes = [word for where, what in mounts.items() for word in ("--volume", f"{what}:{where}")]
    return podman(
        "run", "--rm", "--restart", "no", "--interactive", *joined, "--timeout", str(longest), "--log-driver", "none",
        "--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only", *volumes,
        "--entrypoint", argv[0], image, *argv[1:],
        stdin=stdin, check=False, timeout=longest + 30,
    )  # fmt: skip
