"""The documents of kube/, unchanged: they describe the pod of docs/architecture.md."""

import re

import pytest

from podserve.commands import ROOT
from podserve.manifests import LOG_OPTION
from tests.unit.helpers import Document, documents

SERVICES = ("apache", "mail", "dns")
CERTIFICATES, ACCOUNTS = ("certificates", "/data/state/certificates"), ("accounts", "/data/state/accounts")


POD = documents("podserve.yaml")[0]
BIND = 5004
"""The id of the user that named runs as (docker/dns/Containerfile)."""


def container(name: str) -> Document:
    """Return the document of one container of the pod."""
    (found,) = (container for container in POD["spec"]["containers"] if container["name"] == name)
    return dict(found)


def test_the_pod_is_named_and_does_not_stay_down() -> None:
    assert POD["metadata"]["name"] == "podserve-simple"
    assert POD["spec"]["hostname"] == "lab.sethlakowske.com"
    assert POD["spec"]["restartPolicy"] == "Always"


def test_the_names_of_the_pod_lead_to_itself() -> None:
    assert POD["spec"]["hostAliases"] == [
        {"ip": "127.0.0.1", "hostnames": ["lab.sethlakowske.com", "mail.lab.sethlakowske.com"]}
    ]


def test_all_containers_start_at_once_from_images_built_here() -> None:
    assert "initContainers" not in POD["spec"]
    images = {container["name"]: container["image"] for container in POD["spec"]["containers"]}
    assert images == {name: f"localhost/podserve-{name}:latest" for name in SERVICES}


def test_the_ports_are_those_of_the_architecture() -> None:
    ports = {
        (container["name"], port["hostPort"], port["containerPort"], port["protocol"])
        for container in POD["spec"]["containers"]
        for port in container["ports"]
    }
    expected = {"apache": (80, 443), "mail": (25, 587, 465, 143, 993, 995, 4190), "dns": (53,)}
    over_tcp = {(service, number, number, "TCP") for service, numbers in expected.items() for number in numbers}
    assert ports == {*over_tcp, ("dns", 53, 53, "UDP")}


def test_the_claims_are_those_of_the_architecture_and_what_accounts_and_authority_need() -> None:
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in documents("volumes.yaml")}
    assert {name: spec["resources"]["requests"]["storage"] for name, spec in claims.items()} == {
        "podserve-simple-web": "10Gi",
        "podserve-simple-mail": "5Gi",
        "podserve-certificates": "10Mi",
        "podserve-accounts": "10Mi",
        "podserve-authority": "10Mi",
        "podserve-simple-dkim": "10Mi",
        "podserve-simple-dns": "100Mi",
    }
    assert all(spec["accessModes"] == ["ReadWriteOnce"] for spec in claims.values())


@pytest.mark.parametrize(
    ("service", "writable", "read_only"),
    [
        ("apache", {("web", "/data/web")}, {CERTIFICATES, ACCOUNTS}),
        ("mail", {("mail", "/var/mail/vhosts")}, {CERTIFICATES, ACCOUNTS, ("dkim", "/data/state/dkim")}),
        ("dns", set(), {("dns", "/data/dns")}),
    ],
)
def test_each_service_writes_its_own_volume_and_no_other(
    service: str, writable: set[tuple[str, str]], read_only: set[tuple[str, str]]
) -> None:
    claims = {volume["name"] for volume in POD["spec"]["volumes"] if "persistentVolumeClaim" in volume}
    mounts = [mount for mount in container(service)["volumeMounts"] if mount["name"] in claims]
    assert {(mount["name"], mount["mountPath"]) for mount in mounts if mount.get("readOnly")} == read_only
    assert {(mount["name"], mount["mountPath"]) for mount in mounts if not mount.get("readOnly")} == writable


def test_no_service_is_given_the_authoritys_key() -> None:
    assert "authority" not in str(POD)


@pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe"])
@pytest.mark.parametrize(
    ("service", "checks"),
    [("apache", ("http", "http")), ("mail", ("mail-alive", "mail")), ("dns", ("dns-alive", "dns-ready"))],
)
def test_each_service_is_probed_every_3_seconds_and_fails_after_5(
    service: str, checks: tuple[str, str], probe: str
) -> None:
    said = container(service)[probe]
    assert said["periodSeconds"] == 3
    assert said["failureThreshold"] == 5
    assert said["exec"]["command"] == ["healthcheck", checks[probe == "readinessProbe"]]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_no_more_rights_than_it_names(service: str) -> None:
    context = container(service)["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE"} & set(context["capabilities"]["add"])


def test_dns_is_never_root() -> None:
    context = container("dns")["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] == BIND
    assert context["runAsNonRoot"]
    assert f"--uid {BIND} --gid bind" in (ROOT / "docker/dns/Containerfile").read_text()
    assert context["capabilities"]["add"] == ["NET_BIND_SERVICE"]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_a_bound_of_memory_and_of_processes(service: str) -> None:
    said = container(service)
    assert said["resources"]["limits"]["memory"].endswith("Mi")
    program, bound, entrypoint = said["command"]
    assert (program, entrypoint) == ("prlimit", "entrypoint")
    assert 500 <= int(bound.removeprefix("--nproc=")) <= 3000
    assert f'ENTRYPOINT ["{entrypoint}"]' in (ROOT / f"docker/{service}/Containerfile").read_text()


@pytest.mark.parametrize("file", ["README.md", "kube/podserve.yaml"])
def test_the_log_has_a_bound_also_where_the_pod_is_played_by_hand(file: str) -> None:
    lines = [line for line in (ROOT / file).read_text().splitlines() if "podman kube play" in line]
    assert [f"--log-opt {LOG_OPTION}" in line for line in lines if "--configmap" in line] == [True]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_reads_the_settings_that_are_there(service: str) -> None:
    (config,) = documents("config.yaml")
    assert container(service)["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]


def test_every_claim_but_the_authoritys_is_mounted() -> None:
    claims = {claim["metadata"]["name"] for claim in documents("volumes.yaml")}
    sources = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in POD["spec"]["volumes"]]
    assert {claim for claim in sources if claim} == claims - {"podserve-authority"}


def test_every_volume_is_mounted() -> None:
    mounted = {mount["name"] for container in POD["spec"]["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in POD["spec"]["volumes"]}


def test_the_configmap_says_the_same_domain_as_the_pod() -> None:
    (config,) = documents("config.yaml")
    assert [{"ip": "127.0.0.1", "hostnames": [config["data"]["DOMAIN"], config["data"]["MAIL_HOST"]]}] == (
        POD["spec"]["hostAliases"]
    )


def test_apache_passes_on_queries_of_those_for_whom_named_resolves() -> None:
    named = (ROOT / "docker/dns/rootfs/etc/bind/named.conf").read_text()
    clients = re.search(r"acl clients \{(.*?)\n\};", re.sub("//.*", "", named), re.DOTALL)
    apache = (ROOT / "docker/apache/rootfs/etc/apache2/conf-available/dns-over-https.conf").read_text()
    passed = re.search(r"Require ip (.*)", apache)
    assert clients
    assert passed
    assert passed[1].split() == clients[1].replace(";", " ").split()


def test_dns_forwards_to_the_public_resolvers_without_dnssec() -> None:
    (config,) = documents("config.yaml")
    assert config["data"]["FORWARDERS"] == "8.8.8.8 8.8.4.4"
    assert config["data"]["DNSSEC"] == "no"
