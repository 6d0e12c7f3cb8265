"""How the pod is: looked at from outside, by trying."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from podserve import certificates, endpoints, host, pod, systemd, volumes
from podserve.commands import podman, run
from podserve.errors import Problem
from podserve.manifests import Manifests, Volume

FEW_DAYS = 14
"""Days left of a certificate from which on it is a matter for a person."""


@dataclass(frozen=True)
class Container:
    """A container: its state in Podman's words, what its health check says now, how often it was restarted."""

    name: str
    state: str
    healthy: bool
    restarts: int


@dataclass(frozen=True)
class Use:
    """A volume: bytes used, and bytes its claim asks for (which Podman does not enforce)."""

    name: str
    used: int
    size: int


@dataclass(frozen=True)
class Status:
    """All of it. `queue` counts messages, and is -1 when it cannot be read; `days_left` is of the certificate."""

    pod: str
    domain: str
    containers: list[Container]
    endpoints: list[endpoints.Answer]
    days_left: int
    queue: int
    volumes: list[Use]
    health_checks_run: bool
    """Whether they run by themselves. `look` runs them, whether or not."""
    service: str = ""
    """What systemd says of the pod's service; empty when it is not installed as one."""

    @property
    def problems(self) -> list[str]:
        """What is not well, a line each; empty when all is."""
        running = [c for c in self.containers if c.state == "running"]
        ending = f"the certificate has {self.days_left} days left: invoke up renews it"
        down = f"the service is {self.service}: journalctl -u {self.pod}; invoke up starts it"
        return [
            *([down] if self.service not in {"", systemd.ACTIVE} else []),
            *(f"container {c.name} is {c.state}" for c in self.containers if c not in running),
            *(f"container {c.name} fails its health check" for c in running if not c.healthy),
            *(f"{answer.port} does not answer: {answer.error}" for answer in self.endpoints if not answer.ok),
            *([ending] if self.days_left < FEW_DAYS else []),
            *(["the mail queue cannot be read"] if self.queue < 0 else []),
            *(f"volume {v.name} is full: {v.used} of {v.size} bytes" for v in self.volumes if v.used > v.size),
        ]

    def json(self) -> str:
        """Return it as a JSON object with the fields of this class, `ok` and `problems`."""
        return json.dumps({**asdict(self), "ok": not self.problems, "problems": self.problems}, indent=2)


def _container(name: str) -> Container:
    found = podman("container", "inspect", "--format", "{{.State.Status}} {{.RestartCount}}", name, check=False)
    if not found.ok:
        return Container(name, "missing", healthy=False, restarts=0)
    state, restarts = found.stdout.split()
    # Run here and now: without systemd nothing else runs it.
    healthy = state == "running" and podman("healthcheck", "run", name, check=False).ok
    return Container(name, state, healthy, int(restarts))


def _queue(container: str) -> int:
    listed = podman("exec", container, "postqueue", "-j", check=False)
    return len(listed.stdout.splitlines()) if listed.ok else -1


def _use(volume: Volume, folder: Path) -> Use:
    used = run(["du", "-s", "-B1", str(folder)], check=False).stdout.split()
    return Use(volume.name, int(used[0]) if used else 0, volume.bytes)


def look(manifests: Manifests) -> Status:
    """Look at the pod and try each of its endpoints. Raises Problem when there is no such pod."""
    settings = manifests.settings
    if not pod.exists(settings):
        raise Problem(f"there is no pod {settings.pod}. Start it: invoke up")
    folders = volumes.folders([volume.name for volume in manifests.volumes.values()])
    certificate = certificates.current(folders[manifests.volumes["certificates"].name])
    context = pod.client_context(manifests)
    with ThreadPoolExecutor() as pool:
        containers = pool.map(_container, manifests.containers.values())
        queue = pool.submit(_queue, manifests.containers["mail"])
        uses = pool.map(lambda volume: _use(volume, folders[volume.name]), manifests.volumes.values())
        answers = pool.submit(endpoints.attempt_all, manifests, context, list(manifests.ports))
        return Status(
            settings.pod,
            settings.domain,
            list(containers),
            answers.result(),
            certificate.days_left if certificate else -1,
            queue.result(),
            list(uses),
            host.has_systemd(),
            systemd.state(settings) if systemd.installed(settings) else "",
        )
