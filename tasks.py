"""PodServe's tasks: they build, run and maintain the pod. `nox` tests them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from invoke import Collection, Context, Exit, task

from podserve import (
    accounts,
    addresses,
    aliases,
    answering,
    blocklist,
    configuration,
    details,
    dkim,
    dns_report,
    doctor,
    errors,
    failures,
    findings,
    history,
    homes,
    host,
    images,
    importing,
    invocation,
    lifecycle,
    listing,
    locks,
    mail_queue,
    mail_report,
    manifests,
    migration,
    people,
    prompts,
    quotas,
    renaming,
    report,
    repositories,
    resolver,
    rotation,
    running,
    state,
    status,
    systemd,
    telling,
    token_uses,
    tokens,
    verdict,
    volumes,
)
from podserve import logs as logging
from podserve import mail_reports as mail_reporting
from podserve.backup import keeping, reading
from podserve.certificates import renewal, store
from podserve.choices import ZoneMode
from podserve.commands import become
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.zone import changing, checking, needed, own, publishing, record, served, signing, transfer

invocation.explain_errors()
invocation.help_with_names()


def _pod(c: Context) -> Pod:
    """Return the pod with the settings of this call. Raises Problem for wrong settings."""
    errors.explain_interruptions()
    invocation.require_configuration_file(c.config)
    given = {name: c.config[name] for name in map(str, c.config)}
    return Pod.of(configuration.load(given, manifests.defaults()))


def _pod_reexecuted(c: Context) -> Pod:
    """Return the pod, for a task that reads or writes volumes.

    For a user who is not root, this replaces the process (exec): the task begins again as root of the user namespace.
    """
    pod = _pod(c)
    host.enter()
    return pod


@contextmanager
def _locked(c: Context) -> Iterator[Pod]:
    """Yield the pod, locked, for a task that changes it."""
    pod = _pod_reexecuted(c)
    with state.locked(pod):
        yield pod


def _prepare(pod: Pod, *, keep: bool = False) -> None:
    """Check the host and build what is out of date; then re-execute this process where volumes can be reached.

    After that the task begins again, and this does nothing. With `keep`, the old images stay as `:previous`.
    """
    if not host.entered():
        doctor.require(pod)
        with report.building(report.standard_output()) as show:
            if keep:
                images.build_keeping_previous(dict(zip(pod.images, pod.containers.values(), strict=True)), show)
            else:
                images.build(show=show)
        host.enter()


@task(name="doctor", help={"json": "print a JSON object"})
def show_doctor(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Check this host, and show the command that solves each problem; exit 1 on a problem."""
    found = doctor.diagnose(_pod(c))
    if json:
        print(findings.as_json(found))
    else:
        report.diagnosis(found, report.standard_output())
    if not findings.sound(found):
        raise Exit(code=1)


@task(
    help={
        "image": "only this one: base, apache, mail, dns or certificates (may be repeated)",
        "base": "source of the Debian root: registry or mmdebstrap (default: the first that answers)",
        "no-cache": "build even what has not changed; without --image, the Debian root too",
    },
    iterable=["image"],
)
def build(c: Context, image: list[str], base: str = "", no_cache: bool = False) -> None:  # noqa: FBT001,FBT002
    """Build the images whose files have changed."""
    _pod(c)
    host.podman_info()  # raises Problem where Podman hangs; a build has no timeout
    with report.building(report.standard_output()) as show:
        built = images.build(image, base, no_cache=no_cache, show=show)
    if built and sys.stdout.isatty():
        print("images: built")


@task
def up(c: Context) -> None:
    """Build what is out of date, play the pod, and return when every endpoint answers."""
    pod = _pod(c)
    with state.locked(pod):
        _prepare(pod)
        outcome = lifecycle.up(pod)
    report.started(outcome, report.standard_output())


@task(help={"volumes": "remove the volumes too, with all mail, files and accounts", "yes": "do not ask"})
def down(c: Context, volumes: bool = False, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Remove the pod and its network; the volumes stay."""
    pod = _pod_reexecuted(c)
    if volumes and not yes:
        prompts.confirm(f"Remove all mail, files, accounts and certificates of {pod.name}?", pod.name)
    with state.locked(pod):
        removed = lifecycle.down(pod, with_volumes=volumes)
        if volumes:
            failures.forget(pod)
    print("removed: " + ", ".join(removed) if removed else f"there is no pod {pod.name}: nothing to remove")


@task(help={"back": "return to the pod before the last upgrade; the next `up` builds and plays this checkout's again"})
def upgrade(c: Context, back: bool = False) -> None:  # noqa: FBT001,FBT002
    """Build, keep the old documents and images, and replace the containers; the volumes stay."""
    pod = _pod(c)
    with state.locked(pod):
        if back:
            host.enter()
            outcome = lifecycle.back(pod)
        else:
            _prepare(pod, keep=True)
            outcome = lifecycle.upgrade(pod)
    report.started(outcome, report.standard_output())


@task(
    help={
        "to": "the file, or - for standard output (default: podserve-DOMAIN-TIME.tar.zst in this folder)",
        "verify": "check all of this archive instead of making one",
    }
)
def backup(c: Context, to: str = "", verify: str = "") -> None:
    """Back up all data of the pod into one archive; the pod keeps serving."""
    if verify:
        with report.bytes_read("verify", report.standard_error()) as (progress, total):
            total(keeping.length(Path(verify)))
            header, extent = reading.verify_archive(Path(verify), progress)
        print(f"{verify} is whole: {report.readable(extent.size)} of {header.settings['domain']}, made {header.made}")
        return
    with _locked(c) as pod, report.bytes_read("backup", report.standard_error()) as (progress, total):
        name = to or keeping.file_name(pod)
        left_out = keeping.backup(pod, name, progress, total)
    report.warn([f"left out: {line}" for line in left_out], report.standard_error())
    if name != keeping.STANDARD_OUTPUT:
        print(
            f"{name}: {report.readable(keeping.length(Path(name)))}. It holds private keys and all mail: keep it secret"
        )


@task(help={"file": "an archive that invoke backup made", "yes": "replace all that the pod keeps now"})
def restore(c: Context, file: str, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Verify an archive, restore it, and start the pod."""
    pod = _pod(c)
    with state.locked(pod):
        # Before images are built, which takes minutes.
        with report.bytes_read("verify", report.standard_error()) as (progress, total):
            total(keeping.length(Path(file)))
            header, needed = keeping.verify_for(pod, Path(file), progress)
        _prepare(pod)
        report.warn(keeping.differences(pod, header), report.standard_error())
        with report.bytes_read("restore", report.standard_error()) as (progress, total):
            total(keeping.length(Path(file)))
            keeping.restore(pod, Path(file), needed, progress, replace=yes)
        outcome = lifecycle.up(pod)
    report.started(outcome, report.standard_output())
    print(f"\nRestored as it was at {header.made}")


@task
def install(c: Context) -> None:
    """Make the pod a service of this machine, with timers that renew and watch, and bring it up."""
    pod = _pod(c)
    with state.locked(pod):
        systemd.require_systemd(pod)
        _prepare(pod)
        outcome = lifecycle.install(pod)
    report.started(outcome, report.standard_output())
    print(f"\nIt starts with this machine ({systemd.status_command(pod)}); invoke uninstall undoes it")


@task
def uninstall(c: Context) -> None:
    """Remove the service's units and timer. The pod keeps running, and the volumes stay."""
    with _locked(c) as pod:
        removed = lifecycle.uninstall(pod)
    print("removed: " + ", ".join(map(str, removed)))
    if host.rootless() and systemd.lingers():
        print("Your user services still run without a login. To end this: loginctl disable-linger")


@task
def restart(c: Context) -> None:
    """Restart the containers, and return when every endpoint answers."""
    with _locked(c) as pod:
        lifecycle.restart(pod)
    print(f"{pod.name} answers on every port")


@task(
    name="status",
    help={"json": "print a JSON object", "tell": "mail the problems to the postmaster, each once a day at most"},
)
def show_status(c: Context, json: bool = False, tell: bool = False) -> None:  # noqa: FBT001,FBT002
    """Show containers, endpoints, certificate, queue and volumes; exit 1 on a problem."""
    pod = _pod_reexecuted(c)
    seen = status.look(pod)
    if json:
        print(seen.json())
    else:
        report.status(pod, seen, report.standard_output())
    if tell:
        telling.tell_postmaster(pod, seen.problems)
    if seen.problems:
        raise Exit(code=1)


@task(
    help={
        "service": "apache, mail or dns (may be repeated; default: all)",
        "since": "only lines of the last time, such as 30m, 1h or 7d",
        "grep": "only lines that match this regular expression",
        "mail": "only lines about messages with this address, Message-ID or queue ID",
        "follow": "keep showing new lines",
    },
    iterable=["service"],
)
def logs(  # noqa: PLR0913,PLR0917  # an option for each
    c: Context, service: list[str], since: str = "", grep: str = "", mail: str = "", follow: bool = False  # noqa: FBT001,FBT002
) -> None:  # fmt: skip
    """Show what the services have logged, in the order of time."""
    pod = _pod_reexecuted(c)
    wanted = logging.Wanted(["mail"] if mail else service, since, grep)
    if mail and follow:
        raise errors.Problem("--mail and --follow exclude each other: --mail shows what is known of a message by now")
    if not mail and systemd.journalled(pod):
        become(*wanted.journal(pod, follow=follow))
    if follow:
        for line in wanted.followed(pod):
            print(line, flush=True)
        return
    for stored in logging.about_mail(wanted.stored(pod), mail) if mail else wanted.stored(pod):
        print(stored)


def _accounts_volume(pod: Pod) -> Folder:
    """Return the volume with the accounts, their quotas and the aliases. Raises Problem when there is none yet."""
    return volumes.folder(pod.volumes["accounts"].name)


def _accounts(pod: Pod) -> accounts.Accounts:
    return accounts.Accounts(_accounts_volume(pod))


def _app_passwords(pod: Pod) -> tokens.AppPasswords:
    return tokens.AppPasswords(_accounts_volume(pod))


def _account(pod: Pod, name: str) -> str:
    """Return the address of the account that a task names."""
    return _accounts(pod).named(name, *pod.settings.domains)


def _quotas(pod: Pod) -> quotas.Quotas:
    return quotas.Quotas(_accounts_volume(pod))


def _aliases(pod: Pod) -> aliases.Aliases:
    return aliases.Aliases(_accounts_volume(pod))


def _record(pod: Pod, task: str, *changed: str) -> None:
    """Write into the log of changes what a task has changed."""
    history.History(_accounts_volume(pod)).add(task, changed)


NEW_PASSWORD = {"name": "alice, or alice@DOMAIN", "password-stdin": "read the password from standard input"}


@task(name="add", help=NEW_PASSWORD)
def users_add(c: Context, name: str, password_stdin: bool = False) -> None:  # noqa: FBT001,FBT002
    """Add an account for mail, files and git; ask for its password."""
    pod = _pod_reexecuted(c)
    account = addresses.address(name, *pod.settings.domains)
    addresses.expect_own_mail(account, pod.settings.postmaster_address)
    _accounts(pod).add(account, prompts.new_password(account, from_stdin=password_stdin))
    _record(pod, "users.add", account)
    homes.ensure_homes(volumes.folder(pod.volumes["web"].name), [account], pod.settings.domain)
    print(f"{account} can log in")


@task(name="import", help={"file": "CSV with the columns name, password or hash, quota, aliases; - is standard input"})
def users_import(c: Context, file: str) -> None:
    """Add the accounts of a file, or none of them if a line is wrong."""
    pod = _pod_reexecuted(c)
    rows = importing.parse_rows(importing.read_list(file), pod.settings)
    done = importing.import_accounts(_accounts_volume(pod), rows)
    homes.ensure_homes(volumes.folder(pod.volumes["web"].name), done.new, pod.settings.domain)
    _record(pod, "users.import", *done.new)
    for account, password in done.passwords.items():
        print(f"{account} {password}")
    print(f"accounts: {len(done.new)} added, {len(done.same)} were there already")
    if done.passwords:
        print("the passwords above are shown only once", file=sys.stderr)


@task(name="log", help={"name": "only the changes of this account or alias", "json": "as a JSON object"})
def users_log(c: Context, name: str = "", json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Show who has changed which account or alias, and when."""
    pod = _pod_reexecuted(c)
    of = addresses.target(name, *pod.settings.domains) if name else ""
    there = history.History(_accounts_volume(pod)).changes(of)
    print(listing.changes_as_json(there) if json else errors.printable("\n".join(map(str, there)) or "no changes"))


@task(name="list", help={"json": "as a JSON object"})
def users_list(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the accounts, which of them cannot log in, and how full their mailboxes are."""
    pod = _pod_reexecuted(c)
    there = people.everyone(pod)
    if json:
        print(listing.accounts_as_json(there, pod.settings.domain))
        return
    report.accounts(there, pod.settings.domains, report.standard_output())
    if not there:
        print("no accounts. Add one: invoke users.add NAME")


@task(name="show", help={"name": "alice, or alice@DOMAIN", "json": "as a JSON object"})
def users_show(c: Context, name: str, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Show an account's addresses, mailbox, last logins and open sessions."""
    pod = _pod_reexecuted(c)
    seen = details.details(pod, _account(pod, name))
    print(seen.as_json() if json else errors.printable("\n".join(details.as_lines(seen))))


@task(name="passwd", help=NEW_PASSWORD)
def users_passwd(c: Context, name: str, password_stdin: bool = False) -> None:  # noqa: FBT001,FBT002
    """Change the password of an account."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _accounts(pod).set_password(account, prompts.new_password(account, from_stdin=password_stdin))
    _record(pod, "users.passwd", account)
    still = accounts.disabled(_accounts(pod).hashes().get(account, ""))
    print(f"{account} has a new password" + f", and is still disabled: invoke users.enable {account}" * still)
    if labels := _app_passwords(pod).listed(account):
        print(f"Its app passwords still work: {', '.join(labels)}. To revoke one: invoke users.revoke {account} LABEL")


ACCOUNT = {"name": "alice, or alice@DOMAIN"}


def _expect_no_postmaster(pod: Pod, account: str) -> None:
    """Raise Problem if somebody must be able to read the mail of this account."""
    if account == pod.settings.postmaster_address:
        raise errors.Problem(
            f"{account} gets the mail to postmaster@ and abuse@. Set postmaster to another account "
            "(invoke.yaml), then: invoke up"
        )


@task(name="disable", help=ACCOUNT)
def users_disable(c: Context, name: str) -> None:
    """Refuse all logins of an account; mail to it is still delivered."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _expect_no_postmaster(pod, account)
    _accounts(pod).disable(account)
    _record(pod, "users.disable", account)
    print(f"{account} cannot log in; mail is still delivered. To accept its logins: invoke users.enable {account}")


@task(name="enable", help=ACCOUNT)
def users_enable(c: Context, name: str) -> None:
    """Accept logins of an account again, with the password that it has."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _accounts(pod).enable(account)
    _record(pod, "users.enable", account)
    print(f"{account} can log in with its password")


@task(name="quota", help={**ACCOUNT, "size": "such as 500M or 2G; none, or default (the setting quota)"})
def users_quota(c: Context, name: str, size: str) -> None:
    """Limit the size of an account's mailbox."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _accounts(pod).expect(account)
    _quotas(pod).set(account, size)
    _record(pod, "users.quota", f"{account} {size}")
    limit = _quotas(pod).limits([account], pod.settings.quota).get(account)
    print(f"the mailbox of {account} has " + (f"a quota of {limit}" if limit else "no quota"))


@task(name="remove", help=ACCOUNT)
def users_remove(c: Context, name: str) -> None:
    """Remove an account; its mailbox and folder stay on the volumes."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _expect_no_postmaster(pod, account)
    for alias in _accounts(pod).remove(account):
        print(f"{account} is no target of {alias} any more")
    _quotas(pod).set(account, quotas.DEFAULT)
    _record(pod, "users.remove", account)
    locks.Locks(pod).prune()
    print(f"{account} is removed. Its mailbox and folder stay; a new account of that name will own them")


@task(
    name="rename",
    help={
        "old": "alice, or alice@DOMAIN; with --domain a domain",
        "new": "the new name, at any domain of the pod; with --domain one of its domains",
        "domain": "rename all accounts and aliases of a domain",
        "alias": "keep the old address as an alias of the new one",
    },
)
def users_rename(c: Context, old: str, new: str, domain: bool = False, alias: bool = False) -> None:  # noqa: FBT001,FBT002
    """Rename an account, with its mailbox, folder, mail rules, aliases, quota and password."""
    with _locked(c) as pod:
        rename = renaming.rename_domain if domain else renaming.rename_account
        for before, after in rename(pod, old, new, keep=alias).items():
            _record(pod, "users.rename", f"{before} {after}")
            print(f"{before} is {after} now")


LABELLED = {**ACCOUNT, "label": "a word for the device or program, such as phone"}


@task(name="token", help=LABELLED)
def users_token(c: Context, name: str, label: str) -> None:
    """Make an app password for one device or program, and print it; it is never shown again."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    password = _app_passwords(pod).make(account, label, _accounts(pod).hashes)
    _record(pod, "users.token", f"{account} {label.lower()}")
    print(password)
    print(f"This is the app password {label.lower()} of {account}, for mail, files and git. It is not shown again")


@task(name="tokens", help={**ACCOUNT, "json": "as a JSON object"})
def users_tokens(c: Context, name: str, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the app passwords of an account, with when each was made and last used."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _accounts(pod).expect(account)
    there = token_uses.usages(pod, account)
    if json:
        print(listing.app_passwords_as_json(there, account))
        return
    none = f"no app passwords. Make one: invoke users.token {account} LABEL"
    print("\n".join(map(token_uses.usage_line, there)) or none)


@task(name="revoke", help=LABELLED)
def users_revoke(c: Context, name: str, label: str) -> None:
    """Revoke an app password; the sessions that it began end."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _app_passwords(pod).revoke(account, label)
    _record(pod, "users.revoke", f"{account} {label.lower()}")
    print(f"the app password {label.lower()} of {account} is revoked")


@task(
    name="migrate",
    help={
        **ACCOUNT,
        "from_": "the server to copy from: imaps://HOST or imaps://HOST:PORT",
        "user": "the name that logs in there",
        "password-stdin": "read the password there from standard input",
        "ca": "PEM file of root certificates, if the server has a certificate of a private authority",
    },
)
def users_migrate(  # noqa: PLR0913,PLR0917  # an option for each
    c: Context, name: str, from_: str = "", user: str = "", password_stdin: bool = False, ca: str = "",  # noqa: FBT001,FBT002
) -> None:  # fmt: skip
    """Copy an account's mail from another server by IMAP; run again, it copies only what is new."""
    pod = _pod_reexecuted(c)
    account = _account(pod, name)
    _accounts(pod).expect(account)
    source = migration.mail_origin(from_, user, ca)
    password = prompts.present_password(f"{user} at {source.host}", from_stdin=password_stdin)
    with closing(migration.copy_mail(pod, account, source, password)) as steps:
        for step in steps:
            print(errors.printable(step), flush=True)
    _record(pod, "users.migrate", f"{account} {source.user} at {source.host}")


ALIAS = {"name": "info, info@DOMAIN, or @DOMAIN for all other addresses"}


@task(name="add", help={**ALIAS, "targets": "accounts, aliases or addresses elsewhere: alice,bob@example.com"})
def aliases_add(c: Context, name: str, targets: str) -> None:
    """Add targets to an alias, which is made if it is missing; each target gets its mail."""
    pod = _pod_reexecuted(c)
    alias = addresses.alias(name, *pod.settings.domains)
    found = [addresses.target(target, *pod.settings.domains) for target in targets.split(",")]
    _aliases(pod).add(alias, found, _accounts(pod).hashes, *pod.settings.domains)
    _record(pod, "aliases.add", f"{alias} {','.join(found)}")
    print(f"mail to {alias} goes to {', '.join(_aliases(pod).all()[alias])}")


@task(name="list", help={"json": "as a JSON object"})
def aliases_list(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the aliases with their targets."""
    pod = _pod_reexecuted(c)
    there = _aliases(pod).all()
    if json:
        print(listing.aliases_as_json(there, pod.settings.domains))
        return
    mail_report.aliases(there, pod.settings.domains, report.standard_output())
    if not there:
        print("no aliases. Add one: invoke aliases.add NAME TARGET,TARGET")


@task(name="remove", help={**ALIAS, "targets": "remove only these targets, separated by commas"})
def aliases_remove(c: Context, name: str, targets: str = "") -> None:
    """Remove an alias, or some of its targets."""
    pod = _pod_reexecuted(c)
    there = _aliases(pod)
    alias = name.lower() if name.lower() in there.all() else addresses.alias(name, *pod.settings.domains)
    gone = [addresses.target(target, *pod.settings.domains) for target in targets.split(",") if target]
    removed = there.remove(alias, gone)
    _record(pod, "aliases.remove", f"{alias} {','.join(gone)}")
    if removed:
        print(f"{alias} is removed")
    else:
        print(f"mail to {alias} goes to {', '.join(there.all()[alias])}")


@task(name="add", help={"name": "name of the repository, without .git", "public": "let strangers see and clone it",
                        "description": "one line, shown in GitWeb"})  # fmt: skip
def repos_add(c: Context, name: str, public: bool = False, description: str = "") -> None:  # noqa: FBT001,FBT002
    """Add an empty repository, at https://DOMAIN/git/NAME.git."""
    pod = _pod_reexecuted(c)
    repositories.Repositories(pod).add(name, description, public=public)
    print(f"git clone https://{pod.settings.domain}/git/{repositories.name_of(name)}.git")


@task(name="list", help={"json": "as a JSON object"})
def repos_list(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the repositories, with who sees each, and their descriptions."""
    there = repositories.Repositories(_pod_reexecuted(c)).all()
    if json:
        print(listing.repositories_as_json(there))
    else:
        report.repositories(there, report.standard_output())


REPOSITORY = {"name": "name of the repository, without .git"}


@task(name="publish", help=REPOSITORY)
def repos_publish(c: Context, name: str) -> None:
    """Let strangers see and clone a repository."""
    repositories.Repositories(_pod_reexecuted(c)).publish(name)
    print(f"{name} is public")


@task(name="hide", help=REPOSITORY)
def repos_hide(c: Context, name: str) -> None:
    """Show a repository to accounts only."""
    repositories.Repositories(_pod_reexecuted(c)).hide(name)
    print(f"{name} is private")


@task(name="head", help={**REPOSITORY, "branch": "a branch of it"})
def repos_head(c: Context, name: str, branch: str) -> None:
    """Set the branch that a clone checks out and GitWeb shows; the first push has set it, too."""
    repositories.Repositories(_pod_reexecuted(c)).set_head(name, branch)
    print(f"{name}: a clone checks out {branch}")


@task(name="remove", help={**REPOSITORY, "yes": "do not ask"})
def repos_remove(c: Context, name: str, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Remove a repository, with all its history."""
    there = repositories.Repositories(_pod_reexecuted(c))
    there.expect(name)
    if not yes:
        prompts.confirm(f"Remove the repository {name} with all its history?", name)
    there.remove(name)
    print(f"{name} is removed")


@task(name="list", help={"json": "as a JSON object"})
def locks_list(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the locks that WebDAV clients hold on files and folders."""
    there = locks.Locks(_pod_reexecuted(c)).all()
    if json:
        print(listing.locks_as_json(there))
    else:
        report.locks(there, report.standard_output())


@task(name="break", help={"path": "of a locked file or folder, as in locks.list; with all below it"})
def locks_break(c: Context, path: str) -> None:
    """Remove the locks at a path and below it, so that others can change the files."""
    for lock in locks.Locks(_pod_reexecuted(c)).remove(path):
        print(f"{errors.printable(lock.path)} is no longer locked by {errors.printable(lock.account)}")


def _swap(c: Context, change: Callable[[Pod], renewal.Renewal]) -> None:
    """Change the pod's certificate, and show the one in use when every port serves it."""
    with _locked(c) as pod:
        outcome = rotation.swap(pod, change)
    report.renewed(outcome, report.standard_output())
    # Cron mails standard error, which must hold warnings only.
    report.warn(outcome.warnings, report.standard_error())


@task(name="show", help={"json": "as a JSON object"})
def certs_show(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Show the certificates: source, names, expiry, and the ports that serve them."""
    pod = _pod_reexecuted(c)
    there = store.current(store.certificates_folder(pod))
    if not there:
        raise errors.Problem("there is no certificate yet: invoke up makes one")
    if json:
        print(listing.certificates_as_json(there, answering.tls_answers(pod)))
    else:
        report.certificates(there, answering.tls_answers(pod), report.standard_output())


@task(name="issue")
def certs_issue(c: Context) -> None:
    """Issue a new certificate from certificate_source, whatever certificate there is, and serve it."""
    _swap(c, renewal.issue)


@task(name="renew", help={"force": "renew it now, whatever is left of its lifetime"})
def certs_renew(c: Context, force: bool = False) -> None:  # noqa: FBT001,FBT002
    """Renew the certificate if at most a third of its lifetime is left; `up` does the same."""
    _swap(c, lambda pod: renewal.renew(pod, force=force))


@task(name="import", help={"certificate": "PEM file: the certificate, then those that issued it",
                           "key": "PEM file: its private key, without a password",
                           "second_certificate": "the same, with a key of the other algorithm (ECDSA, RSA)",
                           "second_key": "the private key of that one",
                           "now": "serve a new key before its TLSA record is known (zone: public)"})  # fmt: skip
def certs_import(  # noqa: PLR0913,PLR0917  # an option for each
    c: Context, certificate: str, key: str, second_certificate: str = "", second_key: str = "",
    now: bool = False,  # noqa: FBT001,FBT002
) -> None:  # fmt: skip
    """Import a certificate that was issued elsewhere, with its key; or one of ECDSA and one of RSA."""
    if bool(second_certificate) != bool(second_key):
        raise errors.Problem("--second-certificate and --second-key belong together: expected both or none of them")
    files = [(certificate, key), (second_certificate, second_key)][: 2 if second_key else 1]
    _swap(c, lambda pod: renewal.bring(pod, [(Path(one), Path(other)) for one, other in files], now=now))


@task(name="ca")
def certs_ca(c: Context) -> None:
    """Print the certificate that clients import to trust the pod."""
    root = store.root(store.certificates_folder(_pod_reexecuted(c)))
    if not root:
        raise errors.Problem(
            "there is no CA certificate to import: clients know the root of this certificate, or it is unknown"
        )
    print(root, end="")


ONE_DOMAIN = {"domain": "only the records of this domain (default: all)", "json": "print a JSON object"}


@task(name="records", help={**ONE_DOMAIN, "table": "print a table for a provider's form, with the reason of each"})
def dns_records(c: Context, domain: str = "", table: bool = False, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Print the DNS records that this server needs, as a zone file."""
    found = needed.of_domain(needed.needed_records(needed.Facts.of(_pod_reexecuted(c))), domain)
    if json:
        print(record.records_as_json(found))
    elif table:
        dns_report.records_needed(found, report.standard_output())
    else:
        print(record.as_zone_file(found), end="")


@task(name="check", help={**ONE_DOMAIN, "resolver": "address of the resolver to ask (default: the forwarders)"})
def dns_check(c: Context, domain: str = "", resolver: str = "", json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Ask for each DNS record that this server needs, and say what to type; exit 1 on a problem."""
    asked = checking.chosen_resolvers(resolver)
    seen = checking.check(_pod_reexecuted(c), checking.PATIENCE, asked).of_domain(domain)
    if json:
        print(seen.json())
    else:
        dns_report.checked(seen, report.standard_output())
    if seen.wrong:
        raise Exit(code=1)


@task(name="blocklist", help={"allow": "a name to allow, with all below it", "block": "a name to allow no more"})
def dns_blocklist(c: Context, allow: str = "", block: str = "") -> None:
    """Take the file of the setting blocklist if it has changed, and show how many names are blocked."""
    with _locked(c) as pod:
        if not pod.settings.blocklist:
            raise errors.Problem("blocklist names no file: set it in invoke.yaml, then run the same command again")
        there, changed = blocklist.write(pod, allow, block)
        if changed:
            resolver.read_again(pod)
    print(errors.printable(there.summary))


OWN_RECORD = {"name": "www, www.DOMAIN, or @ for DOMAIN itself", "type": "A, AAAA, CNAME, MX, TXT, SRV, ...",
              "data": "as in a zone file, with whole names: 10 mx.example.net"}  # fmt: skip


@task(name="add", help={**OWN_RECORD, "ttl": "seconds that others keep it (default: 3600)"})
def dns_add(c: Context, name: str, type: str, data: str, ttl: str = "") -> None:  # noqa: A002
    """Add a record of your own to the zone that the pod serves (zone: public)."""
    with _locked(c) as pod:
        new = changing.add_record(pod, name, type, data, ttl)
    print(f"served: {new.name}. {new.ttl} {new.kind} {new.data}")


@task(name="remove", help={**OWN_RECORD, "data": "only the record with this data (default: all of the name and type)"})
def dns_remove(c: Context, name: str, type: str, data: str = "") -> None:  # noqa: A002
    """Remove a record that dns.add has added."""
    with _locked(c) as pod:
        gone = changing.remove_record(pod, name, type, data)
    for one in gone:
        print(f"removed: {one.name}. {one.kind} {one.data}")


@task(name="list", help={"json": "print a JSON object"})
def dns_list(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the records that dns.add has added; dns.records shows all."""
    pod = _pod_reexecuted(c)
    served.require_public(pod)
    found = own.own_records(volumes.folder(pod.volumes["dns"].name), pod.settings.domain)
    if json:
        print(record.records_as_json(found))
        return
    for one in found:
        print(f"{one.relative} {one.ttl} {one.kind} {one.data}")
    if not found:
        print("no records of your own. Add one: invoke dns.add NAME TYPE DATA")


@task(name="ds", help={"new": "make a new key first, in place of a lost one, and restart the pod"})
def dns_ds(c: Context, new: bool = False) -> None:  # noqa: FBT001,FBT002
    """Print the DS record for the registrar, by which the parent zone vouches for the zone's key."""
    with _locked(c) as pod:
        served.require_public(pod)
        key = signing.replace_lost_key(pod) if new else signing.require_key(pod)
        if new and running.exists(pod):
            lifecycle.restart(pod)
    print(f"{pod.settings.domain}. IN DS {key.ds(pod.settings.domain)}")
    print(f"; for a registrar that asks for the key: {pod.settings.domain}. IN DNSKEY {key.public}")


@task(name="transfer-key")
def dns_transfer_key(c: Context) -> None:
    """Print the secret key by which the secondaries copy the zone (TSIG), as a statement of named.conf."""
    pod = _pod_reexecuted(c)
    served.require_public(pod)
    print(transfer.key_statement(pod), end="")


@task(name="reports", help={"json": "print a JSON object"})
def mail_reports(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Sum up other servers' reports to postmaster@: who sends as the domain, and failures of TLS."""
    seen = mail_reporting.received(_pod_reexecuted(c))
    print(seen.json() if json else "\n".join(filter(None, [*seen.lines, seen.said])))


@task(name="rotate")
def dkim_rotate(c: Context) -> None:
    """Make the next keys that sign mail. They sign from tomorrow on."""
    with _locked(c) as pod:
        new = dkim.rotate(pod)
        if publishing.publish(pod)[0]:
            resolver.read_again(pod)
    for domain, pair in new.items():
        selectors = ", ".join(pair.records)
        print(f"new selectors of {domain}: {selectors}. They sign from {pair.signs_from:%Y-%m-%d %H:%M} UTC on.")
    if pod.settings.zone is not ZoneMode.PUBLIC:
        print("Enter their records at your DNS provider before that: invoke dns.records --table")


@task(
    name="why",
    help={
        "identity": "a Message-ID, or the queue ID in a Received header of this server",
        "json": "print a JSON object",
    },
)
def mail_why(c: Context, identity: str, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """Say who sent a message, what was decided about it, by which rules, and what became of it."""
    told = verdict.told_about(_pod_reexecuted(c), identity)
    if json:
        print(told.as_json())
    else:
        mail_report.story(told, report.standard_output())


@task(name="list", help={"json": "print a JSON object"})
def queue_list(c: Context, json: bool = False) -> None:  # noqa: FBT001,FBT002
    """List the messages in the mail queue, the oldest first, with the reasons for which they wait."""
    there = mail_queue.read_queue(_pod_reexecuted(c))
    if json:
        print(there.as_json())
    else:
        mail_report.queue(there, report.standard_output())


@task(name="flush", help={"identity": "the queue ID of one message (default: all)"}, optional=["identity"])
def queue_flush(c: Context, identity: str = "") -> None:
    """Try to deliver the messages in the mail queue now."""
    mail_queue.flush_queue(_pod_reexecuted(c), identity)
    print("Postfix tries to deliver them now; invoke queue.list shows what still waits")


QUEUED = {"identity": "the queue ID of a message, as queue.list shows it"}


@task(name="show", help=QUEUED)
def queue_show(c: Context, identity: str) -> None:
    """Show the envelope and the header of a message in the mail queue."""
    print(errors.printable(mail_queue.show_queued(_pod_reexecuted(c), identity)), end="")


@task(name="remove", help={**QUEUED, "yes": "do not ask"})
def queue_remove(c: Context, identity: str, yes: bool = False) -> None:  # noqa: FBT001,FBT002
    """Remove a message from the mail queue. Nobody gets it, and its sender is told nothing."""
    pod = _pod_reexecuted(c)
    if not yes:
        prompts.confirm(f"Remove the message {identity}? Nobody will get it.", identity)
    mail_queue.remove_from_queue(pod, identity)
    print(f"{identity} is removed")


users = Collection(
    "users",
    users_add,
    users_import,
    users_list,
    users_show,
    users_log,
    users_passwd,
    users_disable,
    users_enable,
    users_token,
    users_tokens,
    users_revoke,
    users_quota,
    users_rename,
    users_migrate,
    users_remove,
)
mail_aliases = Collection("aliases", aliases_add, aliases_list, aliases_remove)
repos = Collection("repos", repos_add, repos_list, repos_publish, repos_hide, repos_head, repos_remove)
certs = Collection("certs", certs_show, certs_issue, certs_renew, certs_import, certs_ca)
dav_locks = Collection("locks", locks_list, locks_break)
dns = Collection("dns", dns_records, dns_check, dns_add, dns_remove, dns_list, dns_ds, dns_transfer_key, dns_blocklist)
mail = Collection("mail", mail_why, mail_reports)
queue = Collection("queue", queue_list, queue_flush, queue_show, queue_remove)
signing_keys = Collection("dkim", dkim_rotate)
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
    mail_aliases,
    repos,
    dav_locks,
    certs,
    dns,
    mail,
    queue,
    signing_keys,
)
namespace.configure(configuration.shown_defaults(manifests.defaults()))
