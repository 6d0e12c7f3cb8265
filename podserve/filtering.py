"""Whether the filter of mail works: it answers, and the keys by which it signs can be read."""

from podserve import dkim
from podserve.choices import FilterMode
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod

_PING = (
    "curl",
    "--silent",
    "--fail",
    "--max-time",
    "2",
    "--unix-socket",
    "/run/rspamd/learn/socket",
    "http://localhost/ping",
)


def filter_problems(pod: Pod) -> list[str]:
    """Return a line for each fault of the filter; none with filter: off."""
    if pod.settings.filter is FilterMode.OFF:
        return []
    found = []
    if not podman("exec", pod.containers["mail"], *_PING, check=False).ok:
        said = "the filter does not answer: mail from outside is accepted unjudged, and port 587 takes none. "
        found.append(f"{said}invoke logs --service mail says why; then invoke restart")
    try:
        there = {name.partition("._domainkey.")[2] for name in dkim.published(pod)}
        if missing := [domain for domain in pod.settings.domains if domain not in there]:
            domains = ", ".join(missing)
            found.append(f"there are no keys to sign mail of {domains} with, so port 587 takes none: invoke up")
    except Problem as problem:
        found.append(problem.text)
    return found
