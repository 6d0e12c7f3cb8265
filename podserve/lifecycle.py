"""Plays, replaces, restarts and removes the pod, and makes it a service. The caller holds its lock (`state.locked`)."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from podserve import (
    blocklist,
    domains,
    forwarding,
    homes,
    host,
    images,
    network,
    people,
    relay,
    renaming,
    resolver,
    running,
    state,
    systemd,
    volumes,
)
from podserve.answering import wait_until_answering
from podserve.certificates import renewal
from podserve.commands import podman
from podserve.errors import Interrupted, Problem, uninterrupted
from podserve.folder import Folder
from podserve.manifests import LOG_OPTION
from podserve.pod import Pod
from podserve.rotation import renew_if_due
from podserve.running import Inspected
from podserve.zone import publishing

STOP_TIMEOUT = 10
"""Seconds between SIGTERM and SIGKILL: Podman's own default."""
EARLIER_PAGE = "index.shtml"
"""The landing page of 0.1.0, which Apache copied onto the web volume."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """The pod that `up` started, whether it was played, the postmaster's password if it was made, and warnings."""

    pod: Pod
    played: bool
    password: str = ""
    warnings: list[str] = field(default_factory=list)


def _runs_as_set(pod: Pod, found: Inspected) -> bool:
    """Return whether the whole pod runs, from these documents, and as a service if it is installed as one."""
    if systemd.installed(pod) and systemd.state(pod) != systemd.ACTIVE:
        return False
    return found.runs and found.digest == pod.manifests.digest


def _remove(pod: Pod) -> None:
    if systemd.installed(pod):
        systemd.stop(pod)
        if not running.exists(pod):
            return
    podman("pod", "rm", "--force", "--time", str(STOP_TIMEOUT), pod.name)


def _play(pod: Pod, *, replacing: bool) -> None:
    """Write the pod's documents and play them; with `replacing`, remove the pod that exists first."""
    config, document = pod.manifests.write(state.played_folder(pod))
    if systemd.installed(pod):
        systemd.write_units(pod)
        systemd.start(pod)
        return
    if replacing:
        _remove(pod)
    podman("kube", "play", "--network", network.mode(pod), "--log-opt", LOG_OPTION, "--configmap", str(config),
           str(document))  # fmt: skip


def _unparsed(web: Folder) -> list[str]:
    """Return a warning for a landing page of an earlier version, whose directives Apache no longer runs."""
    if not (web.has_folder("site") and web.enter("site").look(EARLIER_PAGE)):
        return []
    said = f"site/{EARLIER_PAGE} is no longer shown, because Apache does not process <!--#directives--> any more. "
    return [said + "Replace them by their text, and rename the file to index.html"]


def up(pod: Pod, *, keep: Pod | None = None) -> Started:
    """Play the pod unless it already runs with its settings and images, and return when every endpoint answers.

    Whatever is missing (network, volumes, certificate, the postmaster's account) is made. Documents that were played
    before, which have a digest, are played as they are. If the pod is replaced, the documents of `keep` are kept for
    `back`. If this raises Problem, the pod from before runs again.
    """
    before = state.applied(pod)
    if not keep:
        domains.expect_nobody_left_behind(pod)
    with ThreadPoolExecutor() as pool:  # Podman takes longer to start than to answer
        identifiers = pool.submit(images.identifiers, pod.images)
        inspected = pool.submit(running.inspected, pod)
        engine = pool.submit(host.podman_info)
        network.ensure_network(pod)
        volumes.ensure_volumes(pod)
    renewal.provide(pod)
    new_files = resolver.write_files(pod)
    new_zone, warnings = publishing.publish(pod)
    new_files = new_files or new_zone
    try:
        new_files = blocklist.write(pod)[1] or new_files
    except Problem as error:
        warnings.append(f"{error.text}. The names that were blocked before still are")
    built, found = identifiers.result(), inspected.result()
    most = host.memory() // 2 if engine.result().bounds_memory else 0
    if not pod.manifests.digest:
        pod = pod.playing(pod.manifests.with_memory_bound(most).stamped(*built))
    runs = _runs_as_set(pod, found)
    relay.provide_password(pod, runs=runs)
    if runs:
        if systemd.installed(pod):
            systemd.refresh_units(pod)
        if new_files:
            resolver.read_again(pod)
        wait_until_answering(pod)
    else:
        _replace(pod, built, found, keep)
    # The account is created last: an `up` that fails would not show its password.
    renaming.finish_renames(pod, before)
    there, password = people.with_postmaster(pod)
    web = volumes.folder(pod.volumes["web"].name)
    homes.ensure_homes(web, there.hashes(), pod.settings.domain)
    warnings += [*renew_if_due(pod), *_unparsed(web), *domains.not_served(pod)]
    if problem := forwarding.problem(pod):
        warnings.append(f"{problem}. Everything else works; mail to other domains stays in the queue until they do")
    return Started(pod, not runs, password, warnings)


def upgrade(pod: Pod) -> Started:
    """Play the pod as `up` does. If its images have changed, keep the old documents for `back`.

    They are kept even if the pod does not come up, as `:previous` images are.
    """
    before = state.applied(pod)
    if before and before.images != images.identifiers(pod.images):
        before.manifests.write(state.previous_folder(pod))
    return up(pod)


def back(pod: Pod) -> Started:
    """Play the documents and the images that the last upgrade replaced; the next call plays those that this replaces.

    This checkout's documents may not fit the images of another version. Raises Problem if none are kept.
    """
    before, now = state.previous(pod), state.applied(pod)
    if not before or not images.exist(before.images):
        raise Problem(
            "there is nothing to go back to: invoke upgrade keeps the documents and images that it replaces, and "
            "there are none. Check out the version that you want, then: invoke up"
        )
    started = up(before, keep=now)
    kept = dict(zip(before.containers, before.images, strict=True))
    names = dict(zip(pod.containers, pod.images, strict=True))
    images.exchange({name: kept[service] for service, name in names.items() if service in kept})
    return started


def _replace(pod: Pod, built: list[str], found: Inspected, keep: Pod | None = None) -> None:
    """Play the pod, in place of the one that exists, if any. If that fails, play the last applied pod again."""
    there = found.state != ""
    before = state.applied(pod) if there else None
    begun = state.read_back(pod, state.played_folder(pod))  # by an `up` that was killed
    if there and not before and not (begun and begun.manifests.digest and begun.manifests.digest == found.digest):
        raise Problem(
            f"{pod.name} was not played by this checkout, which could not play it again if the new one failed. "
            "Remove it first (the volumes stay): invoke down"
        )
    try:
        homes.arrange_homes(pod)
        _play(pod, replacing=there)
        volumes.remove_volumes(set(before.manifests.scratch if before else ()) - set(pod.manifests.scratch))
        wait_until_answering(pod)
    except (Problem, Interrupted, KeyboardInterrupt):
        if before:
            _logger.warning("%s did not come up: the pod that ran before is played again", pod.name)
            homes.arrange_homes(before)
            _play(before, replacing=running.exists(pod))
            wait_until_answering(before)
        elif running.exists(pod):
            _remove(pod)
        raise
    # With the images by id, a later rollback plays what ran, whatever has been built since.
    pinned = pod.manifests.pinned(built)
    with uninterrupted():  # otherwise `back` could lose one of the two versions
        if keep:
            keep.manifests.write(state.previous_folder(pod))
        for folder in (state.played_folder(pod), state.applied_folder(pod)):
            pinned.write(folder)


def install(pod: Pod) -> Started:
    """Make the pod a service of this machine, and start it as one."""
    systemd.write_units(pod)
    started = up(pod)
    systemd.enable(pod)
    return started


def uninstall(pod: Pod) -> list[Path]:
    """Remove the service, and return its files. A pod that ran as a service is played again without one."""
    if not systemd.installed(pod):
        raise Problem(f"{pod.name} is not a service of this machine: there is nothing to uninstall")
    before = state.applied(pod) if running.exists(pod) else None
    removed = systemd.remove_units(pod)
    if before:
        network.ensure_network(pod)
        _play(before, replacing=running.exists(pod))
        wait_until_answering(before)
    return removed


def down(pod: Pod, *, with_volumes: bool = False) -> list[str]:
    """Remove the pod and its network, and with `with_volumes` its volumes; return the names of what was removed."""
    removed = []
    if with_volumes and systemd.installed(pod):
        raise Problem(f"{pod.name} is a service of this machine, which needs its volumes: invoke uninstall first")
    if running.exists(pod) or systemd.installed(pod):
        _remove(pod)
        removed.append(f"pod {pod.name}")
    volumes.remove_volumes(pod.manifests.scratch)
    if network.remove_network(pod):
        removed.append(f"network {pod.name}")
    if not systemd.installed(pod):  # the service plays these documents at the next start of the machine
        state.forget_documents(pod, with_previous=with_volumes)
    if with_volumes:
        removed += [f"volume {name}" for name in volumes.remove_volumes(v.name for v in pod.volumes.values())]
    return removed


def restart(pod: Pod) -> None:
    """Restart every container of the pod and return when every endpoint answers. Raises Problem if there is no pod."""
    if not running.exists(pod):
        raise running.missing(pod)
    resolver.write_files(pod)
    publishing.publish(pod)
    if systemd.installed(pod):
        systemd.start(pod)
    else:
        podman("pod", "restart", pod.name)
    wait_until_answering(pod)
