"""Memory of the pod under test."""

from tests.testbed.pod import PodUnderTest, processes_of

MB = 1e6


def pss(test_pod: PodUnderTest, service: str) -> float:
    """Return the proportional set size (PSS) of a service's container, in MB."""
    return pss_of(test_pod.container(service))


def pss_of(container: str) -> float:
    """Return the proportional set size (PSS) of a container, in MB."""
    total = 0
    for process in processes_of(container):
        try:
            rollup = (process / "smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024 / MB
