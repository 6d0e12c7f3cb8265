"""`nox -s bench -- peers`: what Debian 13 has for the same jobs, set up as its own documentation advises."""

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from bench.figures import Figure
from bench.peers import costs, files, mail, names, repositories, site
from bench.peers.contestants import build, contest
from tests.testbed.pod import PodUnderTest

__all__ = ["ALL", "build", "measure"]
JOBS = {
    "site": site.measure,
    "webdav": files.measure,
    "repositories": repositories.measure,
    "dns": names.measure,
    "mail": mail.measure,
}
"""The jobs, in which the pod and its peers are compared."""
ALL = [*JOBS, "costs"]
"""The jobs and, at last, what the services cost."""


def measure(test_pod: PodUnderTest, jobs: Collection[str]) -> Iterator[Figure]:
    """Yield the figures of these jobs. Each job has its peers run beside the pod for as long as it takes."""
    with tempfile.TemporaryDirectory() as folder:
        for job, measured in JOBS.items():
            if job in jobs:
                with contest(test_pod, job, Path(folder)) as all_sides:
                    yield from measured(all_sides, test_pod)
        if "costs" in jobs:
            yield from costs.measure(test_pod, Path(folder))
