"""The pod: played, waited for, taken down."""

import contextlib
import fcntl
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from podserve import accounts, endpoints, homes, host, images, network, systemd, volumes
from podserve.certificates import renewal, store
from podserve.certificates.clients import unverified_context
from podserve.certificates.keypair import Certificate
from podserve.commands import ROOT, podman
from podserve.errors import Interrupted, Problem
from podserve.folder import Folder
from podserve.manifests import DIGEST_LABEL, LOG_OPTION, Manifests
from podserve.settings import Settings, of_tasks
from podserve.waiting import NotYet, wait_until

_logger = logging.getLogger(__name__)

STATE = ROOT / ".podserve"
"""What this checkout remembers of the host and of the pods it played.

Without it a pod that is there is not replaced, since it could not be played again: it is taken down first."""
START_TIMEOUT = 60
"""Seconds that the last endpoint may take to answer."""
SWAP_TIMEOUT = 10
"""Seconds that a new certificate may take to be on every port: twice what it takes at most."""
STOP_TIMEOUT = 10
"""Seconds between SIGTERM and SIGKILL: Podman's own default."""
EARLIER_PAGE = "index.shtml"
"""The landing page of 0.1.0, which Apache copied onto the web volume."""
_alone: set[str] = set()
"""The pods that this process holds the lock of."""


@dataclass
class Outcome:
    """What `up` did: whether the pod was played, the postmaster's password if it was made, what to warn of."""

    played: bool
    address: str = ""
    password: str = ""
    warnings: list[str] = field(default_factory=list)


def _lock(file: Path) -> TextIO:
    """Open a file to lock. Raises Problem where that is another user's."""
    try:
        return file.open("a")
    except PermissionError as error:
        owner = (file if file.exists() else file.parent).owner()
        raise Problem(
            f"{file} is {owner}'s, whose pod this is: run this task as {owner}, as by sudo -u {owner}"
        ) from error


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep other tasks of this checkout from changing the same pod at the same time: they wait for each other.

    What is done alone may do a part of it `alone` again.
    """
    if settings.pod in _alone:
        yield
        return
    STATE.mkdir(exist_ok=True)
    with _lock(STATE / f"{settings.pod}.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.warning("another task is at work on %s: waiting for it to end", settings.pod)
            fcntl.flock(lock, fcntl.LOCK_EX)
        _alone.add(settings.pod)
        try:
            yield
        finally:
            _alone.remove(settings.pod)


def is_busy(settings: Settings) -> bool:
    """Return whether a task of this checkout changes the pod, or backs it up, at this moment."""
    try:
        with (STATE / f"{settings.pod}.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _inspect(pod: str) -> dict[str, Any]:
    """Return what Podman tells of a pod; nothing where there is none."""
    found = podman("pod", "inspect", pod, check=False)
    if not found.ok:
        return {}
    document = json.loads(found.stdout)
    inspected: dict[str, Any] = document[0] if isinstance(document, list) else document
    return inspected


@dataclass(frozen=True)
class Seen:
    """What Podman calls a pod's state (`Running`, `Degraded`, `Exited`, …), and the id of the container with its ports.

    Empty texts for no pod.
    """

    state: str = ""
    infra: str = ""

    @property
    def runs(self) -> bool:
        """Whether it holds its ports."""
        return self.state in {"Running", "Degraded", "Paused"}


def seen(settings: Settings) -> Seen:
    """Ask Podman of the pod."""
    found = _inspect(settings.pod)
    return Seen(str(found.get("State", "")), str(found.get("InfraContainerID", "")))


def exists(settings: Settings) -> bool:
    """Return whether the pod exists, running or not."""
    return seen(settings).state != ""


def missing(settings: Settings) -> Problem:
    """Return what to say where there is no pod; where it is a service, what systemd says of that, too."""
    service = f", and its service is {systemd.told(settings)}" if systemd.installed(settings) else ""
    return Problem(f"there is no pod {settings.pod}{service}. Start it: invoke up")


def _digest(found: dict[str, Any]) -> str:
    """Return the digest that an inspected pod was played with, or an empty text where there is none."""
    labels = found.get("Labels") or {}
    return str(labels.get(DIGEST_LABEL, "")) if isinstance(labels, dict) else ""


def _runs(settings: Settings, digest: str, found: dict[str, Any]) -> bool:
    """Return whether the pod runs, all of it, as the documents with that digest say; and as a service, if installed."""
    if systemd.installed(settings) and systemd.state(settings) != systemd.ACTIVE:
        return False
    return found.get("State") == "Running" and _digest(found) == digest


def _remove(settings: Settings) -> None:
    if systemd.installed(settings):
        systemd.stop(settings)
        if not exists(settings):
            return
    podman("pod", "rm", "--force", "--time", str(STOP_TIMEOUT), settings.pod)


def _play(manifests: Manifests, folder: Path, *, replacing: bool) -> None:
    """Play the pod, in place of the one there is or not, from documents that are written into a folder for that."""
    settings = manifests.settings
    config, document = manifests.write(folder)
    if systemd.installed(settings):
        systemd.write(manifests, folder)
        systemd.start(settings)
        return
    if replacing:
        _remove(settings)
    podman("kube", "play", "--network", network.mode(settings), "--log-opt", LOG_OPTION, "--configmap", str(config),
           str(document))  # fmt: skip


def _restarts(manifests: Manifests) -> dict[str, str]:
    """Return how often Podman has restarted each container of the pod, by Podman's name for it."""
    found = podman("container", "inspect", "--format", "{{.RestartCount}}", *manifests.containers.values(), check=False)
    return dict(zip(manifests.containers.values(), found.stdout.split(), strict=False))


def _log(container: str) -> str:
    log = podman("logs", "--tail", "15", container, check=False)
    return f"container {container} has exited; its last lines:\n{log.stdout}{log.stderr}".rstrip()


def others_certificate(answers: Iterable[endpoints.Answer], certificate: Certificate | None) -> list[str]:
    """Return the ports that show another certificate than this one, which is the volume's."""
    return [
        answer.port
        for answer in answers
        if certificate and answer.fingerprint and answer.fingerprint != certificate.fingerprint
    ]


def wait_until_answering(manifests: Manifests) -> None:
    """Return as soon as every endpoint has answered, and shown the certificate of the volume.

    Raises Problem after START_TIMEOUT s, or if a container exits.
    """
    context = unverified_context(manifests.settings.domain)
    certificate = store.current(store.folder(manifests))
    waiting = list(manifests.ports)
    before: dict[str, str] = {}

    def check() -> None:
        answers = endpoints.attempt_all(manifests, context, waiting)
        other = others_certificate(answers, certificate)
        waiting[:] = [answer.port for answer in answers if not answer.ok or answer.port in other]
        if waiting:
            wrong = {answer.port: answer.error or "another certificate than the volume's" for answer in answers}
            raise NotYet("; ".join(f"{port}: {wrong[port]}" for port in waiting))

    def stopped() -> str | None:
        now = _restarts(manifests)
        before.update({name: count for name, count in now.items() if name not in before})
        return next((_log(name) for name, count in now.items() if count != before[name]), None)

    wait_until(check, START_TIMEOUT, f"{manifests.settings.pod} to answer on every port", stopped=stopped)


def ensure_postmaster(settings: Settings, there: accounts.Accounts) -> tuple[str, str]:
    """Make the account that mail to postmaster@ is taken for, where it is missing; return its address and password."""
    address, password = settings.postmaster_address, accounts.random_password()
    if address in there.hashes():
        return "", ""
    there.add(address, password)
    return address, password


def wait_until_served(manifests: Manifests) -> None:
    """Return when each port that speaks TLS shows the certificate of the volume; at once where there is no pod.

    Raises Problem after SWAP_TIMEOUT s.
    """
    certificate = store.current(store.folder(manifests))

    def check() -> None:
        answers = tls_answers(manifests)
        wrong = [answer.port for answer in answers if not answer.ok] + others_certificate(answers, certificate)
        if wrong:
            raise NotYet(f"not served on {', '.join(wrong)}")

    wait_until(check, SWAP_TIMEOUT, "the new certificate on every port (invoke restart serves it in any case)")


def tls_answers(manifests: Manifests) -> list[endpoints.Answer]:
    """Return how each port that speaks TLS answers; nothing where there is no pod."""
    if not exists(manifests.settings):
        return []
    return endpoints.attempt_all(manifests, unverified_context(manifests.settings.domain), endpoints.TLS)


def swap(manifests: Manifests, change: Callable[[Manifests], renewal.Outcome]) -> renewal.Outcome:
    """Change the certificate, and return when every port of the pod, where there is one, serves what came of it.

    Raises Problem when nothing came of it: what was there stays in use.
    """
    store.folder(manifests)
    with alone(manifests.settings):
        outcome = change(manifests)
        if outcome.changed:
            wait_until_served(manifests)
    return outcome


def _renewed(manifests: Manifests) -> list[str]:
    """Have the certificate renewed if need be, and return what to warn of: the pod serves on with what it has."""
    try:
        outcome = renewal.renew(manifests)
        if outcome.changed:
            wait_until_served(manifests)
    except Problem as error:
        return [f"{error.text}. The certificate that was there is still served"]
    return outcome.warnings


def _unparsed(web: Folder) -> list[str]:
    """Warn of a page that earlier versions filled in; one that nobody had changed was removed at the start."""
    if not (web.has_folder("site") and web.enter("site").look(EARLIER_PAGE)):
        return []
    said = f"site/{EARLIER_PAGE} is not the site's page any more, since nothing is filled in for <!--#directives-->. "
    return [said + "Write them out, and name it index.html"]


def up(settings: Settings) -> Outcome:
    """Play the pod unless it runs already as these settings and images say, and return when every endpoint answers.

    Whatever is missing (network, volumes, certificate, the postmaster's account) is made. Raises Problem; the pod
    that was there before then runs again.
    """
    manifests = Manifests(settings)
    with alone(settings):
        with ThreadPoolExecutor() as pool:  # Podman takes longer to start than to answer
            identifiers = pool.submit(images.identifiers, manifests.images)
            inspected = pool.submit(_inspect, settings.pod)
            engine = pool.submit(host.podman)
            network.ensure(settings)
            volumes.ensure(manifests)
        renewal.provide(manifests)
        built, there = identifiers.result(), inspected.result()
        manifests.bound_memory(host.memory() // 2 if engine.result().bounds_memory else 0)
        digest = manifests.stamp(*built)
        runs = _runs(settings, digest, there)
        if runs:
            if systemd.installed(settings):
                systemd.refresh(manifests, STATE / settings.pod / "played")
            wait_until_answering(manifests)
        else:
            _replace(manifests, built, there)
        # The account comes last, so that its password is not made by an `up` that fails and cannot show it.
        people = accounts.Accounts(volumes.folder(manifests.volumes["accounts"].name))
        address, password = ensure_postmaster(settings, people)
        web = volumes.folder(manifests.volumes["web"].name)
        homes.ensure(web, people.hashes())
        outcome = Outcome(played=not runs, address=address, password=password)
        outcome.warnings += _renewed(manifests)
        outcome.warnings += _unparsed(web)
    if problem := endpoints.line_problem(manifests):
        outcome.warnings.append(f"{problem}. The pod serves without; mail for others waits in the queue until they do")
    return outcome


def _applied(settings: Settings) -> Manifests | None:
    """Return the documents that were played last, with the tasks' own settings as they are now: they hold none."""
    before = Manifests.read(STATE / settings.pod / "applied")
    if before:
        before.settings = replace(before.settings, **{name: vars(settings)[name] for name in of_tasks()})
    return before


def _replace(manifests: Manifests, built: list[str], there: dict[str, Any]) -> None:
    """Play the pod in place of the one there may be. What fails is undone: the pod before it is played again."""
    settings = manifests.settings
    folder = STATE / settings.pod
    before = _applied(settings) if there else None
    begun = Manifests.read(folder / "played")  # by an `up` that was killed
    if there and not before and not (begun and begun.digest and begun.digest == _digest(there)):
        raise Problem(
            f"{settings.pod} was not played by this checkout, which could not play it again if the new one failed. "
            "Take it down first, which keeps the volumes: invoke down"
        )
    try:
        _play(manifests, folder / "played", replacing=bool(there))
        wait_until_answering(manifests)
    except (Problem, Interrupted, KeyboardInterrupt):
        if before:
            _logger.warning("%s did not come up: the pod that ran before is played again", settings.pod)
            _play(before, folder / "played", replacing=exists(settings))
            wait_until_answering(before)
        elif exists(settings):
            _remove(settings)
        raise
    # By id, so that what is played again is what ran, whatever has been built since.
    manifests.pin(built)
    for name in ("played", "applied"):
        manifests.write(folder / name)


def install(settings: Settings) -> Outcome:
    """Make the pod a service of this machine, and bring it up as that."""
    with alone(settings):
        systemd.write(Manifests(settings), STATE / settings.pod / "played")
        outcome = up(settings)
        systemd.enable(settings)
    return outcome


def uninstall(settings: Settings) -> list[str]:
    """Take the service back, and return its files. A pod that ran as a service runs on without."""
    with alone(settings):
        if not systemd.installed(settings):
            raise Problem(f"{settings.pod} is no service of this machine: there is nothing to take back")
        before = _applied(settings) if exists(settings) else None
        removed = systemd.remove(settings)
        if before:
            network.ensure(settings)
            _play(before, STATE / settings.pod / "played", replacing=exists(settings))
            wait_until_answering(before)
    return removed


def down(settings: Settings, *, with_volumes: bool = False) -> list[str]:
    """Remove the pod and its network, and with `with_volumes` all it keeps; return the names of what was removed."""
    removed = []
    with alone(settings):
        if with_volumes and systemd.installed(settings):
            raise Problem(
                f"{settings.pod} is a service of this machine, which needs its volumes: invoke uninstall first"
            )
        if exists(settings) or systemd.installed(settings):
            _remove(settings)
            removed.append(f"pod {settings.pod}")
        manifests = Manifests(settings)
        volumes.remove(manifests.scratch)
        if network.remove(settings):
            removed.append(f"network {settings.pod}")
        if not systemd.installed(settings):  # which plays what is in there at the next start of the machine
            shutil.rmtree(STATE / settings.pod, ignore_errors=True)
        if with_volumes:
            removed += [f"volume {name}" for name in volumes.remove(v.name for v in manifests.volumes.values())]
    return removed


def restart(settings: Settings) -> None:
    """Restart every container of the pod and return when every endpoint answers. Raises Problem if there is no pod."""
    with alone(settings):
        if not exists(settings):
            raise missing(settings)
        if systemd.installed(settings):
            systemd.start(settings)
        else:
            podman("pod", "restart", settings.pod)
        wait_until_answering(Manifests(settings))
