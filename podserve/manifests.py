"""The YAML of kube/, and a pod's own edition of it."""

import copy
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podserve.commands import ROOT
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.settings import Settings, of_tasks

KUBE = ROOT / "kube"
_CONFIG_FILE, _POD_FILE = "config.yaml", "podserve.yaml"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104
"""What a port without hostIP is served on (Kubernetes' default)."""
_UNITS = {"Mi": 2**20, "Gi": 2**30}
LOG_OPTION = "max-size=50mb"
"""How large Podman lets the log of a container become, where that is a file: then the file begins anew.

An option of `podman kube play`, since Kubernetes' documents have no field for it. The journal has a bound of its own
(journald.conf(5)).
"""
DIGEST_LABEL = "podserve/digest"
"""The label on a pod that tells what it was played from."""
# libyaml takes a tenth of the time, which every task spends; PyYAML's wheels have it.
_Loader, _Dumper = (yaml.CSafeLoader, yaml.CSafeDumper) if yaml.__with_libyaml__ else (yaml.SafeLoader, yaml.SafeDumper)


def _read(file: Path) -> list[dict[str, Any]]:
    """Return the documents in a file."""
    return list(yaml.load_all(file.read_text(), _Loader))


def as_yaml(documents: Iterable[object]) -> str:
    """Return documents as YAML, their fields in the order that they have."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False)


@functools.cache
def _documents(name: str) -> list[dict[str, Any]]:
    return _read(KUBE / name)


def in_bytes(quantity: str) -> int:
    """Return a size of the documents (`10Gi`) as a number of bytes."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def defaults() -> dict[str, str]:
    """Return each setting's default, by name, as kube/ holds it."""
    pod = _documents(_POD_FILE)[0]
    data: dict[str, str] = _documents(_CONFIG_FILE)[0]["data"]
    return {
        "pod": pod["metadata"]["name"],
        "bind": ANY_ADDRESS,
        **{name.lower(): value for name, value in data.items()},
        **of_tasks(),
    }


@dataclass(frozen=True)
class Port:
    """A port of the pod: its name in the YAML, its container, its number, its protocol (TCP or UDP)."""

    name: str
    container: str
    number: int
    protocol: str


@dataclass(frozen=True)
class Volume:
    """A claim of the pod: what it holds (web, mail, …), Podman's name for it, and the size it asks for (`10Gi`)."""

    content: str
    name: str
    size: str

    @property
    def bytes(self) -> int:
        """The size as a number of bytes."""
        return in_bytes(self.size)


class Manifests:
    """The documents of one pod: those of kube/ with its settings set on them."""

    def __init__(self, settings: Settings) -> None:
        """Set the settings on copies of the documents; the files stay as they are. Raises Problem for a pod's name."""
        self.settings = settings
        self.config = copy.deepcopy(_documents(_CONFIG_FILE)[0])
        self.config["data"] = {name: settings.environment()[name] for name in self.config["data"]}
        self.claims = [copy.deepcopy(claim) for claim in _documents("volumes.yaml")]
        for claim in self.claims:
            claim["metadata"]["name"] = self._own(claim["metadata"]["name"])
        self.pod = self._pod()

    @classmethod
    def read(cls, folder: Path) -> "Manifests | None":
        """Return the documents that `write` wrote into a folder, or None where there are none that can be read."""
        try:
            (config,), (pod,) = (_read(folder / name) for name in (_CONFIG_FILE, _POD_FILE))
            bind = pod["spec"]["containers"][0]["ports"][0].get("hostIP", ANY_ADDRESS)
            values = {name.lower(): value for name, value in config["data"].items()}
            # Documents of an earlier version lack the settings that came later. Files were served at the domain alone.
            earlier = {**defaults(), "files_host": values["domain"]}
            made = cls(Settings(**{**earlier, **values, "pod": pod["metadata"]["name"], "bind": bind}))
        except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):
            return None
        made.config, made.pod = config, pod
        return made

    def _own(self, claim: str) -> str:
        """Return the name of a claim in this pod: a pod by another name than kube/'s has volumes of that name.

        Raises Problem where that is a volume of kube/'s pod.
        """
        if self.settings.pod == defaults()["pod"]:
            return claim
        own = f"{self.settings.pod}-{claim.rsplit('-', 1)[-1]}"
        if own in (other["metadata"]["name"] for other in _documents("volumes.yaml")):
            raise Problem(f"pod is {self.settings.pod!r}: its volume {own} would be that of {defaults()['pod']}")
        return own

    def _own_scratch(self, name: str) -> str:
        """Return the name of an emptyDir in this pod: Podman 4.3.1 makes volumes of these names, one for all pods."""
        return name.replace(defaults()["pod"], self.settings.pod, 1)

    def _pod(self) -> dict[str, Any]:
        pod = copy.deepcopy(_documents(_POD_FILE)[0])
        settings, spec = self.settings, pod["spec"]
        pod["metadata"]["name"] = settings.pod
        spec["hostname"] = settings.domain
        spec["hostAliases"][0]["hostnames"] = [settings.domain, settings.mail_host]
        for container in spec["containers"]:
            for port in container["ports"]:
                if settings.bind != ANY_ADDRESS:
                    port["hostIP"] = settings.bind
            for mount in container["volumeMounts"]:
                mount["name"] = self._own_scratch(mount["name"])
        for volume in spec["volumes"]:
            volume["name"] = self._own_scratch(volume["name"])
            if claim := volume.get("persistentVolumeClaim"):
                claim["claimName"] = self._own(claim["claimName"])
        return pod

    @property
    def containers(self) -> dict[str, str]:
        """Podman's names of the containers, by the names they have in the YAML."""
        return {c["name"]: f"{self.settings.pod}-{c['name']}" for c in self.pod["spec"]["containers"]}

    @property
    def images(self) -> list[str]:
        """The images of the containers."""
        return [container["image"] for container in self.pod["spec"]["containers"]]

    @property
    def ports(self) -> dict[str, Port]:
        """The port table, by name."""
        return {
            port["name"]: Port(port["name"], container["name"], port["hostPort"], port["protocol"])
            for container in self.pod["spec"]["containers"]
            for port in container["ports"]
        }

    @property
    def volumes(self) -> dict[str, Volume]:
        """The claims, by content: the last word of a claim's name."""
        volumes = [
            Volume(name.rsplit("-", 1)[-1], name, claim["spec"]["resources"]["requests"]["storage"])
            for claim in self.claims
            for name in [claim["metadata"]["name"]]
        ]
        return {volume.content: volume for volume in volumes}

    @property
    def scratch(self) -> list[str]:
        """The names of the emptyDirs, which Podman 4.3.1 leaves behind as volumes."""
        return [volume["name"] for volume in self.pod["spec"]["volumes"] if "emptyDir" in volume]

    def stamp(self, *also: str) -> str:
        """Label the pod with a digest of its documents and of `also` (what else it depends on), and return that."""
        text = as_yaml([self.config, self.pod, *also])
        digest = hashlib.sha256(text.encode()).hexdigest()[:40]  # a label's value has 63 characters at most
        self.pod["metadata"].setdefault("labels", {})[DIGEST_LABEL] = digest
        return digest

    def bound_memory(self, most: int) -> None:
        """Let no container take more than so many bytes of memory, whatever the documents say.

        0 is for a host that can bound none, where a container with a bound would not start.
        """
        for container in self.pod["spec"]["containers"]:
            if not most:
                container.pop("resources", None)
            elif resources := container.get("resources"):
                said = resources["limits"]["memory"]
                resources["limits"]["memory"] = f"{min(in_bytes(said), most) // 2**20}Mi"

    @property
    def digest(self) -> str:
        """The digest that the pod is labelled with, or an empty text."""
        return str(self.pod["metadata"].get("labels", {}).get(DIGEST_LABEL, ""))

    def pin(self, images: list[str]) -> None:
        """Name the containers' images by these ids, in the containers' order."""
        for container, image in zip(self.pod["spec"]["containers"], images, strict=True):
            container["image"] = image

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the ConfigMap and the pod into a folder, for Podman to play, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        config, pod = folder / _CONFIG_FILE, folder / _POD_FILE
        for file, document in ((config, self.config), (pod, self.pod)):
            with Folder.at(folder).replacing(file.name, 0o644) as opened:
                opened.write(as_yaml([document]).encode())
        return config, pod
