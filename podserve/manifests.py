"""The documents of kube/, and those of one pod: copies with its settings set on them."""

import copy
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from podserve.commands import ROOT
from podserve.documents import Document, add_parts, in_bytes, remove_port
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.settings import SETTINGS, Settings
from podserve.values import ANY_ADDRESS, as_text

KUBE = ROOT / "kube"
_CONFIG_FILE, _POD_FILE = "config.yaml", "podserve.yaml"
LOG_OPTION = "max-size=50mb"
"""The largest log file of a container. Podman then starts the file again.

An option of `podman kube play`, since Kubernetes' documents have no field for it. The journal has a bound of its own
(journald.conf(5)).
"""
DIGEST_LABEL = "podserve/digest"
"""The label of a pod with the digest of its documents and images."""
# libyaml takes a tenth of the time, and every task reads YAML. PyYAML's wheels contain it.
_Loader, _Dumper = (yaml.CSafeLoader, yaml.CSafeDumper) if yaml.__with_libyaml__ else (yaml.SafeLoader, yaml.SafeDumper)


def _read(file: Path) -> list[Document]:
    """Return the documents in a file."""
    return list(yaml.load_all(file.read_text(), _Loader))


def as_yaml(documents: Iterable[object]) -> str:
    """Return documents as YAML, their fields in the order that they have."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False)


@functools.cache
def _documents(name: str) -> list[Document]:
    return _read(KUBE / name)


def defaults() -> dict[str, str]:
    """Return the text of each setting's default, by name: as kube/ holds it, otherwise as it is declared."""
    data: dict[str, str] = _documents(_CONFIG_FILE)[0]["data"]
    in_kube = {"pod": kube_name(), **{name.lower(): text for name, text in data.items()}}
    return {name: in_kube.get(name, declared.default) for name, declared in SETTINGS.items()}


def kube_name() -> str:
    """Return the name of the pod in kube/."""
    return str(_documents(_POD_FILE)[0]["metadata"]["name"])


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


@dataclass(frozen=True)
class Manifests:
    """The documents of one pod: those of kube/ with its settings set on them.

    Documents are never changed: `stamped`, `pinned` and `with_memory_bound` return a changed copy.
    """

    config: Document
    pod: Document
    claims: tuple[Document, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Manifests":
        """Return the documents of a pod with these settings. Raises Problem if a volume would be one of kube/'s pod."""
        config, texts = copy.deepcopy(_documents(_CONFIG_FILE)[0]), settings.environment()
        config["data"] = {name: texts[name] for name in config["data"]}
        claims = tuple(copy.deepcopy(claim) for claim in _documents("volumes.yaml"))
        for claim in claims:
            claim["metadata"]["name"] = _own_claim(claim["metadata"]["name"], settings)
        return cls(config, _pod(settings), claims)

    @property
    def texts(self) -> dict[str, str]:
        """The texts of the settings that the documents hold, by name."""
        bind = self.pod["spec"]["containers"][0]["ports"][0].get("hostIP", as_text(ANY_ADDRESS))
        data = {name.lower(): text for name, text in self.config["data"].items()}
        return {**data, "pod": self.pod["metadata"]["name"], "bind": bind}

    @property
    def containers(self) -> dict[str, str]:
        """Podman's names of the containers, by the names they have in the YAML."""
        pod = self.pod["metadata"]["name"]
        return {c["name"]: f"{pod}-{c['name']}" for c in self.pod["spec"]["containers"]}

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
        sizes = {c["metadata"]["name"]: c["spec"]["resources"]["requests"]["storage"] for c in self.claims}
        volumes = [Volume(name.rsplit("-", 1)[-1], name, size) for name, size in sizes.items()]
        return {volume.content: volume for volume in volumes}

    @property
    def scratch(self) -> list[str]:
        """The names of the emptyDirs, which Podman 4.3.1 leaves behind as volumes."""
        return [volume["name"] for volume in self.pod["spec"]["volumes"] if "emptyDir" in volume]

    @property
    def digest(self) -> str:
        """The digest that the pod is labelled with, or an empty text."""
        return str(self.pod["metadata"].get("labels", {}).get(DIGEST_LABEL, ""))

    def _with_pod(self, change: Callable[[Document], object]) -> "Manifests":
        """Return these documents with a changed copy of the pod's."""
        pod = copy.deepcopy(self.pod)
        change(pod)
        return replace(self, pod=pod)

    def stamped(self, *also: str) -> "Manifests":
        """Return them labelled with a digest of the documents and of `also`: what else the pod depends on."""
        text = as_yaml([self.config, self.pod, *also])
        digest = hashlib.sha256(text.encode()).hexdigest()[:40]  # a label's value has 63 characters at most
        return self._with_pod(lambda pod: pod["metadata"].setdefault("labels", {}).update({DIGEST_LABEL: digest}))

    def with_memory_bound(self, most: int) -> "Manifests":
        """Return them with `most` bytes of memory at most for each container, whatever kube/ says.

        With 0 no container has a bound, for a host without the controller: a container with a bound would not start.
        """

        def bound(pod: Document) -> None:
            for container in pod["spec"]["containers"]:
                if not most:
                    container.pop("resources", None)
                elif resources := container.get("resources"):
                    stated = resources["limits"]["memory"]
                    resources["limits"]["memory"] = f"{min(in_bytes(stated), most) // 2**20}Mi"

        return self._with_pod(bound)

    def pinned(self, images: Iterable[str]) -> "Manifests":
        """Return them with these ids as the containers' images, in the containers' order."""

        def pin(pod: Document) -> None:
            for container, image in zip(pod["spec"]["containers"], images, strict=True):
                container["image"] = image

        return self._with_pod(pin)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the ConfigMap and the pod into a folder, for Podman to play, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        config, pod = folder / _CONFIG_FILE, folder / _POD_FILE
        for file, document in ((config, self.config), (pod, self.pod)):
            with Folder.at(folder).replacing(file.name, 0o644) as opened:
                opened.write(as_yaml([document]).encode())
        return config, pod


def read_documents(folder: Path) -> Manifests:
    """Return the documents that `Manifests.write` wrote into a folder, without claims.

    Raises ValueError if there are none, or if they cannot be read.
    """
    try:
        (config,), (pod,) = (_read(folder / name) for name in (_CONFIG_FILE, _POD_FILE))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{folder} holds no documents of a pod") from error
    return Manifests(config, pod, ())


def _own_claim(claim: str, settings: Settings) -> str:
    """Return the name of a claim in this pod: a pod with another name than kube/'s has volumes of that name.

    Raises Problem where that is a volume of kube/'s pod.
    """
    if settings.pod == kube_name():
        return claim
    own = f"{settings.pod}-{claim.rsplit('-', 1)[-1]}"
    if own in (other["metadata"]["name"] for other in _documents("volumes.yaml")):
        raise Problem(f"pod is {settings.pod!r}: its volume {own} would be that of {kube_name()}. Choose another name")
    return own


def _patches(settings: Settings) -> list[str]:
    """Return the names of the documents that add to the pod's."""
    chosen = {"dns-over-tls.yaml": settings.dns_over_tls, "account-page.yaml": settings.account_page}
    return [name for name, wanted in chosen.items() if wanted]


def _pod(settings: Settings) -> Document:
    pod = copy.deepcopy(_documents(_POD_FILE)[0])
    spec = pod["spec"]
    for name in _patches(settings):
        add_parts(spec, _documents(name)[0]["spec"])
    for port, opened in (("submissions", settings.submissions), ("sieve", settings.managesieve)):
        if not opened:
            remove_port(spec, port)
    pod["metadata"]["name"] = settings.pod
    spec["hostname"] = settings.domain
    spec["hostAliases"][0]["hostnames"] = [settings.domain, settings.mail_host]
    for container in spec["containers"]:
        for port in container["ports"]:
            if settings.bind != ANY_ADDRESS:
                port["hostIP"] = as_text(settings.bind)
    mounts = [mount for container in spec["containers"] for mount in container["volumeMounts"]]
    for named in (*spec["volumes"], *mounts):
        # Podman 4.3.1 makes volumes of the emptyDirs' names, one for all pods.
        named["name"] = named["name"].replace(kube_name(), settings.pod, 1)
    for volume in spec["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            claim["claimName"] = _own_claim(claim["claimName"], settings)
    return pod
