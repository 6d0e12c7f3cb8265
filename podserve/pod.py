"""The one value for one pod: made once for a task, and passed to everything that the task calls."""

from dataclasses import dataclass, replace
from pathlib import Path

from podserve import host
from podserve.choices import CertificateSource, PolicyMode, ZoneMode
from podserve.commands import ROOT
from podserve.manifests import Manifests, Port, Volume
from podserve.settings import Settings
from podserve.values import ANY_ADDRESS, Address, host_address

STATE = ROOT / ".podserve"
"""What this checkout remembers of the host and of the pods it played.

Without it, a pod that exists is not replaced, because it could not be played again: invoke down removes it first."""


def _lan_address(settings: Settings) -> tuple[Address, ...]:
    """Return the address at which the local network reaches a pod; none if this host has no default route."""
    if settings.zone is ZoneMode.OFF:
        return ()
    if settings.bind != ANY_ADDRESS:
        return (settings.bind,)
    address = host.outward_address()
    return (host_address(address),) if address else ()


def _mta_sts(settings: Settings) -> PolicyMode:
    """Return the mode of the MTA-STS policy that a pod has by default: where nobody need do anything for it."""
    by_itself = settings.zone is ZoneMode.PUBLIC and settings.certificate_source is CertificateSource.ACME
    return PolicyMode.TESTING if by_itself else PolicyMode.OFF


@dataclass(frozen=True)
class Pod:
    """A pod: its settings, the documents that Podman plays for it, and the folder where this checkout remembers it."""

    settings: Settings
    manifests: Manifests
    state: Path

    @classmethod
    def of(cls, settings: Settings, state: Path | None = None) -> "Pod":
        """Return the pod with these settings; without a `state`, STATE is its folder. Raises Problem for its name.

        Its `lan_address` is an address of this host if the settings have none, and `mta_sts` is a mode.
        """
        lan, policy = settings.lan_address or _lan_address(settings), settings.mta_sts or _mta_sts(settings)
        settings = replace(settings, lan_address=lan, mta_sts=policy)
        return cls(settings, Manifests.of(settings), state or STATE)

    def playing(self, manifests: Manifests) -> "Pod":
        """Return this pod with other documents."""
        return replace(self, manifests=manifests)

    @property
    def name(self) -> str:
        """Podman's name for it."""
        return self.settings.pod

    @property
    def containers(self) -> dict[str, str]:
        """Podman's names of the containers, by the names of the services."""
        return self.manifests.containers

    @property
    def images(self) -> list[str]:
        """The images of the containers."""
        return self.manifests.images

    @property
    def ports(self) -> dict[str, Port]:
        """The port table, by name."""
        return self.manifests.ports

    @property
    def volumes(self) -> dict[str, Volume]:
        """The volumes, by content (web, mail, …)."""
        return self.manifests.volumes
