"""A pod's copies of the documents of kube/ contain its settings."""

import errno
import os
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from podserve import manifests
from podserve.errors import Problem
from podserve.manifests import DIGEST_LABEL, KUBE, Manifests, as_yaml, defaults, read_documents
from podserve.settings import SETTINGS
from podserve.shared_file import GROUP
from tests.unit.helpers import chosen, documents

SERVICES = ("apache", "mail", "dns")
DIFFERENT = {
    "pod": "other",
    "bind": "192.0.2.10",
    "domain": "example.org",
    "mail_host": "mx.example.org",
    "files_host": "files.example.org",
    "postmaster": "alice",
    "message_size_limit": "1000000",
    "imap_sessions": "7",
    "push_size_limit": "2000000",
    "relay_host": "smtp.example.net",
    "relay_user": "you",
    "relay_domains": "gmail.com",
    "mta_sts": "testing",
    "mta_sts_max_age": "86400",
    "filter": "off",
    "quota": "2G",
    "quota_days": "7",
    "submissions": "no",
    "managesieve": "no",
    "account_page": "yes",
    "recipients_per_hour": "7",
    "recipients_per_day": "70",
    "mail_domains": "example.net example.edu",
    "blocklists": "zen.example.org",
    "forwarders": "9.9.9.9",
    "dnssec": "yes",
    "zone": "off",
    "lan_address": "192.168.7.2",
    "secondaries": "192.0.2.53",
    "dns_over_tls": "yes",
    "dns_over_https": "yes",
    "certificate_names": "a.example",
}
ALL = {**DIFFERENT, "relay_password_file": "./relay"}
TASKS_OWN = {name for name, declared in SETTINGS.items() if not declared.services} - {"pod", "bind"}
"""The settings that only the tasks read, except pod and bind, which the documents contain."""


def made(**given: object) -> Manifests:
    """Return the documents with these settings."""
    return Manifests.of(chosen(**given))


POD = documents("podserve.yaml")[0]


def test_the_defaults_are_what_kube_holds() -> None:
    (config,) = documents("config.yaml")
    assert defaults() == {
        "pod": "podserve-simple",
        "bind": "0.0.0.0",
        **{name.lower(): value for name, value in config["data"].items()},
        **{name: SETTINGS[name].default for name in TASKS_OWN},
    }


def test_without_settings_the_documents_are_those_of_kube() -> None:
    own = made()
    expected = POD, documents("config.yaml"), documents("volumes.yaml")
    assert (own.pod, [own.config], list(own.claims)) == expected
    # Byte for byte: otherwise `up` would replace a running pod although only PodServe itself has changed.
    assert as_yaml([own.pod, own.config, *own.claims]) == as_yaml([expected[0], *expected[1], *expected[2]])


def test_the_domain_is_set_wherever_it_stands() -> None:
    own = made(domain="example.org")
    assert own.pod["spec"]["hostname"] == "example.org"
    assert own.pod["spec"]["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": ["example.org", "mail.example.org"]}]
    assert own.config["data"]["DOMAIN"] == "example.org"
    assert own.config["data"]["MAIL_HOST"] == "mail.example.org"
    assert "sethlakowske" not in str([own.pod, own.config, own.claims])


@pytest.mark.parametrize("name", [name for name in defaults() if name not in {"pod", "bind"} | TASKS_OWN])
def test_a_setting_is_set_in_the_configmap(name: str) -> None:
    assert made(**{name: DIFFERENT[name]}).config["data"][name.upper()] == DIFFERENT[name]


@pytest.mark.parametrize("bind", ["192.0.2.10", "127.0.0.77", "2001:db8::1"])
def test_an_address_to_serve_on_is_every_ports(bind: str) -> None:
    ports = [port for container in made(bind=bind).pod["spec"]["containers"] for port in container["ports"]]
    assert [port["hostIP"] for port in ports] == [bind] * 11


def test_without_an_address_no_port_has_one() -> None:
    assert "hostIP" not in str(made(bind="0.0.0.0").pod)


def test_a_pod_of_another_name_has_volumes_of_that_name() -> None:
    own = made(pod="other")
    names = [claim["metadata"]["name"] for claim in own.claims]
    assert sorted(names) == [
        "other-accounts",
        "other-authority",
        "other-certificates",
        "other-dkim",
        "other-dns",
        "other-mail",
        "other-web",
    ]
    assert all(name.startswith("other-") for name in [*own.scratch, *own.containers.values()])
    assert own.pod["metadata"]["name"] == "other"
    assert "podserve-simple" not in str([own.pod, own.claims])


def test_two_pods_share_no_volume() -> None:
    one, two = made(pod="one"), made(pod="two")
    every = [name for own in (made(), one, two) for name in [*own.scratch, *(v.name for v in own.volumes.values())]]
    assert len(every) == len(set(every)) == 3 * (7 + 5)


def test_a_name_whose_volumes_would_be_another_pods_is_refused() -> None:
    with pytest.raises(Problem, match="'podserve': its volume podserve-certificates would be that of podserve-simple"):
        made(pod="podserve")


@pytest.mark.parametrize("pod", ["podserve-simple", "other"])
def test_what_is_mounted_is_there(pod: str) -> None:
    own = made(pod=pod)
    spec, claims = own.pod["spec"], {claim["metadata"]["name"] for claim in own.claims}
    there = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in spec["volumes"]}
    assert {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]} == set(there)
    assert {claim for claim in there.values() if claim} < claims


def test_the_containers_are_named_as_podman_names_them() -> None:
    assert made(pod="other").containers == {name: f"other-{name}" for name in SERVICES}


def test_the_ports_are_told_by_name() -> None:
    ports = made().ports
    assert ports["submission"] == manifests.Port("submission", "mail", 587, "TCP")
    assert ports["dns-udp"] == manifests.Port("dns-udp", "dns", 53, "UDP")
    assert len(ports) == 11


def test_only_a_pod_that_answers_dns_over_tls_has_its_port() -> None:
    ports = made(dns_over_tls="yes", bind="192.0.2.10").pod["spec"]["containers"][2]["ports"]
    expected = {"name": "dns-tls", "containerPort": 853, "hostPort": 853, "protocol": "TCP", "hostIP": "192.0.2.10"}
    assert ports[2:] == [expected]
    assert "dns-tls" not in str([made(dns_over_tls="no").pod, made(dns_over_https="yes").pod])


def test_only_a_pod_with_the_page_of_accounts_has_a_door_which_alone_writes_the_accounts() -> None:
    own = made(account_page="yes", pod="other")
    *_, door = own.pod["spec"]["containers"]
    mounts = [
        (container["name"], mount.get("readOnly", False))
        for container in own.pod["spec"]["containers"]
        for mount in container["volumeMounts"]
        if mount["name"] == "accounts"
    ]
    assert mounts == [("apache", True), ("mail", True), ("door", False)]
    assert [mount["name"] for mount in door["volumeMounts"]] == ["accounts", "other-door"]
    context = door["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["capabilities"]) == (0, GROUP, {"drop": ["ALL"]})
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert "door" not in str(made(account_page="no").pod)


@pytest.mark.parametrize(("setting", "port"), [("submissions", "submissions"), ("managesieve", "sieve")])
def test_a_port_that_a_setting_closes_is_left_out(setting: str, port: str) -> None:
    opened, closed = made(**{setting: "yes"}).ports, made(**{setting: "no"}).ports
    assert opened.keys() - closed.keys() == {port}


def test_the_volumes_are_told_by_what_they_hold() -> None:
    volumes = made(pod="other").volumes
    assert volumes["web"] == manifests.Volume("web", "other-web", "10Gi")
    assert set(volumes) == {"web", "mail", "certificates", "accounts", "authority", "dkim", "dns"}


def test_the_documents_of_kube_stay_untouched() -> None:
    files = {file: file.read_bytes() for file in KUBE.iterdir()}
    made(**ALL).stamped("abc").pinned("1234").with_memory_bound(1)
    assert {file: file.read_bytes() for file in KUBE.iterdir()} == files
    assert made().pod == POD


def test_the_stamp_stays_while_nothing_changes() -> None:
    assert made().stamped("sha256:1", "sha256:2").digest == made().stamped("sha256:1", "sha256:2").digest


@pytest.mark.parametrize("name", [name for name in defaults() if name not in TASKS_OWN])
def test_the_stamp_changes_with_every_setting(name: str) -> None:
    assert made(**{name: DIFFERENT[name]}).stamped("sha256:1").digest != made().stamped("sha256:1").digest


def test_the_stamp_stays_whatever_the_certificate_is_to_be() -> None:
    other = made(certificate_source="acme", acme_email="you@example.org", key_type="ec384")
    assert other.stamped("sha256:1").digest == made().stamped("sha256:1").digest


@pytest.mark.parametrize("also", [(), ("sha256:2",), ("sha256:1", "sha256:2"), ("sha256:2", "sha256:1")])
def test_the_stamp_changes_with_every_image(also: tuple[str, ...]) -> None:
    assert made().stamped(*also).digest != made().stamped("sha256:1").digest


def test_the_stamp_is_a_valid_label_of_the_pod() -> None:
    own = made().stamped("sha256:1")
    digest = own.digest
    assert own.pod["metadata"]["labels"] == {"app": "podserve", DIGEST_LABEL: digest}
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", digest)


@pytest.mark.parametrize("given", [{}, ALL])
def test_what_is_written_is_what_kube_play_reads(given: dict[str, object], tmp_path: Path) -> None:
    own = made(**given).stamped()
    config, pod = own.write(tmp_path / "not" / "yet")
    assert yaml.safe_load(config.read_text()) == own.config
    assert yaml.safe_load(pod.read_text()) == own.pod
    for file in (config, pod):
        kubernetes_validate.validate(
            yaml.safe_load(file.read_text()), kubernetes_validate.latest_version(), strict=True
        )


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    own = made(**ALL).stamped("sha256:1")
    own.write(tmp_path)
    again = read_documents(tmp_path)
    assert (again.pod, again.config, again.digest) == (own.pod, own.config, own.digest)
    assert again.texts == DIFFERENT


def test_a_change_of_the_documents_leaves_the_value_as_it_was() -> None:
    own, unchanged = made(), made()
    changed = own.stamped("sha256:1").pinned(["1", "2", "3"]).with_memory_bound(2**28)
    assert own == unchanged
    assert changed.images == ["1", "2", "3"]
    assert changed.digest


def test_a_disk_that_fills_up_leaves_the_documents_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = made()
    before = [file.read_bytes() for file in own.write(tmp_path)]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        made(**ALL).write(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("config.yaml", "podserve.yaml")] == before


def test_each_value_of_the_configmap_is_written_as_text(tmp_path: Path) -> None:
    config, _ = made(message_size_limit=1000000, dnssec="no").write(tmp_path)
    assert {type(value) for value in yaml.safe_load(config.read_text())["data"].values()} == {str}
