"""PodServe's tasks: they build, run and look after the pod. `nox` proves it."""

import getpass
import sys
from collections.abc import Callable
from pathlib import Path

from invoke import Collection, Context, Exit, task

from podserve import (
    accounts,
    doctor,
    errors,
    homes,
    host,
    images,
    invocation,
    manifests,
    pod,
    report,
    repositories,
    settings,
    status,
    systemd,
    volumes,
)
from podserve.backup import keeping, reading
from podserve.certificates import renewal, store
from podserve.commands import become

invocation.explain_errors()


def _manifests(c: Context) -> manifests.Manifests:
    """Return the pod's documents with the settings of this call, where volumes can be reached. Raises Problem."""
    chosen = _documents(c)
    host.enter()
    return chosen


def _documents(c: Context) -> manifests.Manifests:
    """Return the pod's documents with the settings of this call. Raises Problem for wrong settings."""
    errors.explain_interruptions()
    invocation.require_configuration_file(c.config)
    chosen = settings.load({name: c.config[name] for name in map(str, c.config)}, manifests.defaults())
    return manifests.Manifests(chosen)


@task(name="doctor", help={"json": "as a JSON object"})
def show_doctor(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Look at this host: what is well, what is not, and what mends it; exit 1 on a problem."""
    found = doctor.diagnose(_documents(c))
    if json:
        print(doctor.as_json(found))
    else:
        report.diagnosis(found, report.standard_output())
    if not doctor.sound(found):
        raise Exit(code=1)


@task(
    help={
        "image": "only this one: base, apache, mail, dns or certificates (may be repeated)",
        "base": "where the Debian root comes from: registry or mmdebstrap (otherwise: the first that answers)",
        "no-cache": "anew, whatever has changed; without --image the Debian root too",
    },
    iterable=["image"],
)
def build(c: Context, image: list[str], base: str = "", no_cache: bool = False) -> None:  # noqa: FBT001,FBT002
    """Build the images whose files have changed."""
    _documents(c)
    host.podman()  # which may hang; a build may take as long as it takes
    with report.building(report.standard_output()) as show:
        built = images.build(image, base, no_cache=no_cache, show=show)
    if built and sys.stdout.isatty():
        print("images: built")


def _prepare(pod_manifests: manifests.Manifests, *, keep: bool = False) -> None:
    """Look at the host and build what is out of date, once; then go on where volumes can be reached.

    With `keep`, the images before stay as `:previous`.
    """
    if not host.entered():
        doctor.require(pod_manifests)
        with report.building(report.standard_output()) as show:
            if keep:
                running = dict(zip(pod_manifests.images, pod_manifests.containers.values(), strict=True))
                images.renew(running, show)
            else:
                images.build(show=show)
        host.enter()


@task
def up(c: Context) -> None:
    """Build what is out of date, play the pod, and return when every endpoint answers."""
    pod_manifests, console = _documents(c), report.standard_output()
    with pod.alone(pod_manifests.settings):
        _prepare(pod_manifests)
        outcome = pod.up(pod_manifests.settings)
    report.started(pod_manifests, outcome, console)


@task(help={"volumes": "remove the volumes too, with all mail, files and accounts", "yes": "do not ask"})
def down(c: Context, volumes: bool = False, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Remove the pod and its network; the volumes stay."""
    chosen = _manifests(c).settings
    if volumes and not yes:
        _confirm(f"Remove all mail, files, accounts and certificates of {chosen.pod}?", chosen.pod)
    removed = pod.down(chosen, with_volumes=volumes)
    if volumes:
        keeping.forget(chosen)
    print("removed: " + ", ".join(removed) if removed else f"there is no pod {chosen.pod}: nothing to remove")


@task(help={"back": "to the images before the last upgrade; the next `up` builds this checkout's again"})
def upgrade(c: Context, back: bool = False) -> None:  # noqa: FBT001,FBT002
    """Build, keep the images before as :previous, and replace the containers; the volumes stay."""
    pod_manifests, console = _documents(c), report.standard_output()
    with pod.alone(pod_manifests.settings):
        if back:
            host.enter()
            images.exchange(pod_manifests.images)
        else:
            _prepare(pod_manifests, keep=True)
        outcome = pod.up(pod_manifests.settings)
    report.started(pod_manifests, outcome, console)


@task(
    help={
        "to": "the file, or - for standard output (otherwise podserve-DOMAIN-TIME.tar.zst in this folder)",
        "verify": "do not make one, but check this one, all of it",
    }
)
def backup(c: Context, to: str = "", verify: str = "") -> None:
    """Write all that the pod keeps into one archive, while it serves and mail keeps arriving."""
    if verify:
        with report.bytes_read("verify", report.standard_error()) as (progress, total):
            total(keeping.length(Path(verify)))
            header, extent = reading.verify_archive(Path(verify), progress)
        print(f"{verify} is whole: {report.readable(extent.size)} of {header.settings['domain']}, made {header.made}")
        return
    pod_manifests = _manifests(c)
    name = to or keeping.file_name(pod_manifests)
    with report.bytes_read("backup", report.standard_error()) as (progress, total):
        left_out = keeping.backup(pod_manifests, name, progress, total)
    report.warn([f"left out: {line}" for line in left_out], report.standard_error())
    if name != keeping.STANDARD_OUTPUT:
        print(f"{name}: {report.readable(keeping.length(Path(name)))}. It holds private keys and all mail: keep it so")


@task(help={"file": "an archive that invoke backup made", "yes": "replace all that the pod keeps now"})
def restore(c: Context, file: str, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Put back what an archive holds, after all of it was verified, and bring the pod up."""
    pod_manifests, console = _documents(c), report.standard_output()
    with pod.alone(pod_manifests.settings):
        # Before images are built, which takes minutes.
        with report.bytes_read("verify", report.standard_error()) as (progress, total):
            total(keeping.length(Path(file)))
            header, needed = keeping.verify(pod_manifests, Path(file), progress)
        _prepare(pod_manifests)
        report.warn(keeping.differences(pod_manifests, header), report.standard_error())
        with report.bytes_read("restore", report.standard_error()) as (progress, total):
            total(keeping.length(Path(file)))
            keeping.restore(pod_manifests, Path(file), needed, progress, replace=yes)
        outcome = pod.up(pod_manifests.settings)
    report.started(pod_manifests, outcome, console)
    print(f"\nRestored as it was at {header.made}")


@task
def install(c: Context) -> None:
    """Make the pod a service of this machine, with a timer for its certificates, and bring it up."""
    pod_manifests, console = _documents(c), report.standard_output()
    with pod.alone(pod_manifests.settings):
        systemd.require_systemd(pod_manifests.settings)
        _prepare(pod_manifests)
        outcome = pod.install(pod_manifests.settings)
    report.started(pod_manifests, outcome, console)
    shown = systemd.status_command(pod_manifests.settings)
    print(f"\nIt starts with this machine ({shown}); invoke uninstall undoes it")


@task
def uninstall(c: Context) -> None:
    """Take the service back: its units and timer; the pod runs on without, and the volumes stay."""
    print("removed: " + ", ".join(pod.uninstall(_manifests(c).settings)))
    if host.rootless() and systemd.lingers():
        print("Your services still run without a login; loginctl disable-linger ends that")


@task
def restart(c: Context) -> None:
    """Restart the containers, and return when every endpoint answers."""
    chosen = _manifests(c).settings
    pod.restart(chosen)
    print(f"{chosen.pod} answers on every port")


@task(name="status", help={"json": "as a JSON object"})
def show_status(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Show containers, endpoints, certificate, queue and volumes; exit 1 when something is not well."""
    pod_manifests = _manifests(c)
    seen = status.look(pod_manifests)
    if json:
        print(seen.json())
    else:
        report.status(pod_manifests, seen, report.standard_output())
    if seen.problems:
        raise Exit(code=1)


@task(help={"service": "apache, mail or dns (otherwise: all of them)", "follow": "go on showing new lines"})
def logs(c: Context, service: str = "", follow: bool = False) -> None:  # noqa: FBT001,FBT002
    """Show what the services have logged."""
    pod_manifests = _manifests(c)
    options, names = ["--follow"] if follow else [], pod_manifests.containers
    if service and service not in names:
        raise errors.Problem(f"there is no service {service!r}: expected one of {', '.join(names)}")
    if systemd.journalled(pod_manifests.settings):
        become(*systemd.journal([names[service]] if service else list(names.values()), follow=follow))
    if not service:
        become("podman", "pod", "logs", "--names", *options, pod_manifests.settings.pod)
    become("podman", "logs", *options, names[service])


def _accounts(c: Context) -> tuple[accounts.Accounts, str]:
    """Return the accounts on the pod's volume, and the domain. Raises Problem when there is no volume yet."""
    pod_manifests = _manifests(c)
    return accounts.Accounts(volumes.folder(pod_manifests.volumes["accounts"].name)), pod_manifests.settings.domain


def _password(account: str, from_stdin: bool) -> str:  # noqa: FBT001
    """Return a new password: the first line of standard input, or what is typed twice at a prompt."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise errors.Problem("there is no terminal to ask for a password: give one with --password-stdin")
    first = getpass.getpass(f"Password for {account}: ")
    if getpass.getpass("The same again: ") != first:
        raise errors.Problem("the two passwords differ: nothing was changed")
    return first


def _confirm(question: str, answer: str) -> None:
    """Go on only when the answer is typed. Raises Problem without a terminal, or for anything else typed."""
    if not sys.stdin.isatty():
        raise errors.Problem("there is no terminal to ask: give --yes to go on without")
    if input(f"{question} Type {answer} to go on: ").strip() != answer:
        raise errors.Problem("nothing was removed")


NEW_PASSWORD = {"name": "alice, or alice@DOMAIN", "password-stdin": "read the password from standard input"}


@task(name="add", help=NEW_PASSWORD)
def users_add(c: Context, name: str, password_stdin: bool = False) -> None:  # noqa: FBT001,FBT002
    """Add an account, for mail, files and git; the password is asked for."""
    there, domain = _accounts(c)
    account = accounts.address(name, domain)
    there.add(account, _password(account, password_stdin))
    homes.ensure(volumes.folder(_manifests(c).volumes["web"].name), [account])
    print(f"{account} can log in")


@task(name="list")
def users_list(c: Context) -> None:
    """List the accounts."""
    there, _ = _accounts(c)
    print("\n".join(there.hashes()) or "no accounts. Add one: invoke users.add NAME")


@task(name="passwd", help=NEW_PASSWORD)
def users_passwd(c: Context, name: str, password_stdin: bool = False) -> None:  # noqa: FBT001,FBT002
    """Give an account another password."""
    there, domain = _accounts(c)
    account = accounts.address(name, domain)
    there.set_password(account, _password(account, password_stdin))
    print(f"{account} has a new password")


@task(name="remove", help={"name": "alice, or alice@DOMAIN"})
def users_remove(c: Context, name: str) -> None:
    """Remove an account; its mailbox and folder stay on the volumes."""
    there, domain = _accounts(c)
    account = accounts.address(name, domain)
    if account == _documents(c).settings.postmaster_address:
        raise errors.Problem(
            f"{account} gets the mail to postmaster@ and abuse@. Set postmaster to another first, then invoke up"
        )
    there.remove(account)
    print(f"{account} is removed. Its mailbox and folder are kept, for whoever gets that name again")


@task(name="add", help={"name": "of the repository, without .git", "public": "let strangers see and clone it",
                        "description": "one line, shown in GitWeb"})  # fmt: skip
def repos_add(c: Context, name: str, public: bool = False, description: str = "") -> None:  # noqa: FBT001,FBT002
    """Add an empty repository, at https://DOMAIN/git/NAME.git."""
    pod_manifests = _manifests(c)
    repositories.Repositories(pod_manifests).add(name, description, public=public)
    print(f"git clone https://{pod_manifests.settings.domain}/git/{repositories.name_of(name)}.git")


@task(name="list")
def repos_list(c: Context) -> None:
    """List the repositories: which are public, and what they are."""
    report.repositories(repositories.Repositories(_manifests(c)).all(), report.standard_output())


REPOSITORY = {"name": "of the repository, without .git"}


@task(name="publish", help=REPOSITORY)
def repos_publish(c: Context, name: str) -> None:
    """Let strangers see and clone a repository."""
    repositories.Repositories(_manifests(c)).publish(name)
    print(f"{name} is public")


@task(name="hide", help=REPOSITORY)
def repos_hide(c: Context, name: str) -> None:
    """Let nobody see a repository without a login."""
    repositories.Repositories(_manifests(c)).hide(name)
    print(f"{name} is private")


@task(name="remove", help={**REPOSITORY, "yes": "do not ask"})
def repos_remove(c: Context, name: str, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Remove a repository, with all its history."""
    there = repositories.Repositories(_manifests(c))
    there.expect(name)
    if not yes:
        _confirm(f"Remove the repository {name} with all its history?", name)
    there.remove(name)
    print(f"{name} is removed")


def _swap(c: Context, change: Callable[[manifests.Manifests], renewal.Outcome]) -> None:
    """Change the pod's certificate, and show what came of it when every port serves it."""
    outcome = pod.swap(_manifests(c), change)
    report.renewed(outcome, report.standard_output())
    # Where cron mails it, which is to hear of nothing else.
    report.warn(outcome.warnings, report.standard_error())


@task(name="show")
def certs_show(c: Context) -> None:
    """Show the certificate: where it is from, what it is for, its end, and which ports serve it."""
    pod_manifests = _manifests(c)
    there = store.current(store.folder(pod_manifests))
    if not there:
        raise errors.Problem("there is no certificate yet: invoke up makes one")
    report.certificate(there, pod.tls_answers(pod_manifests), report.standard_output())


@task(name="issue")
def certs_issue(c: Context) -> None:
    """Have a new certificate issued by certificate_source, whatever there is, and serve it."""
    _swap(c, renewal.issue)


@task(name="renew", help={"force": "now, however much of its lifetime is left"})
def certs_renew(c: Context, force: bool = False) -> None:  # noqa: FBT001,FBT002
    """Have the certificate renewed if a third of its lifetime is left, or less; `up` does the same."""
    _swap(c, lambda pod_manifests: renewal.renew(pod_manifests, force=force))


@task(name="import", help={"certificate": "PEM file: the certificate, then those that issued it",
                           "key": "PEM file: its private key, without a password"})  # fmt: skip
def certs_import(c: Context, certificate: str, key: str) -> None:
    """Take a certificate that was made elsewhere, and its key, into use."""
    _swap(c, lambda pod_manifests: renewal.bring(pod_manifests, Path(certificate), Path(key)))


@task(name="ca")
def certs_ca(c: Context) -> None:
    """Print the certificate that clients import to trust the pod."""
    root = store.root(store.folder(_manifests(c)))
    if not root:
        raise errors.Problem("there is nothing to import: the certificate comes from a root that clients know, or none")
    print(root, end="")


users = Collection("users", users_add, users_list, users_passwd, users_remove)
repos = Collection("repos", repos_add, repos_list, repos_publish, repos_hide, repos_remove)
certs = Collection("certs", certs_show, certs_issue, certs_renew, certs_import, certs_ca)
namespace = Collection(
    show_doctor,
    build,
    up,
    down,
    install,
    uninstall,
    upgrade,
    backup,
    restore,
    restart,
    show_status,
    logs,
    users,
    repos,
    certs,
)
namespace.configure({**manifests.defaults(), **dict.fromkeys(settings.DERIVED, "")})
