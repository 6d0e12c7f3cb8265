"""All that is known of one account: its addresses, its mailbox, its last logins, and its open sessions."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from podserve import accounts, addresses, people, volumes
from podserve.aliases import Aliases, leading_to
from podserve.commands import podman
from podserve.logs import timed_lines
from podserve.people import Person
from podserve.pod import Pod
from podserve.token_uses import Usage, last_uses, usage_line, usages

WRITTEN_DOWN = "imap", "pop3"
"""The protocols whose last login Dovecot writes to a file (last_login in dovecot.conf)."""
_TIME = r"(?P<time>\S+) "
_LOGGED_IN = re.compile(
    _TIME + r".* (?P<protocol>imap|pop3|managesieve)-login: Info: Logged in: user=<(?P<account>[^>]*)>, .*"
    r"rip=(?P<client>[^,]+), .*session=<(?P<session>[^>]+)>"
)
_ENDED = re.compile(r"\S+ .* (?:imap|pop3|managesieve)\([^)]*\)<\d+><(?P<session>[^>]+)>: Info: Disconnected")
_SUBMITTED = re.compile(
    _TIME + r".* postfix/(?P<protocol>submission)s?/smtpd\[\d+\]: \w+: client=\S+, .*sasl_username=(?P<account>\S+)$"
)
_REQUESTED = re.compile(_TIME + r"(?:std(?:out|err) [FP] )?\S+ - (?P<account>\S+) \[[^]]*\] \".*?\" (?!401|429)\d+ ")
_NAMES = {"managesieve": "sieve", "imap-hibernate": "imap"}
"""The protocols of processes of Dovecot that have another name."""


@dataclass(frozen=True)
class Session:
    """An open session of Dovecot: its protocol, the client's address, and its begin; None if the log has lost that."""

    protocol: str
    client: str
    since: str | None


@dataclass
class Logins:
    """What the logs say of one account: its last login by protocol, and the begin of sessions that have not ended.

    Times are UTC (RFC 3339). `submission` is the last message sent, and `web` the last request with its password.
    """

    last: dict[str, str] = field(default_factory=dict)
    begun: dict[str, Session] = field(default_factory=dict)


@dataclass(frozen=True)
class Details:
    """An account, all addresses whose mail it gets, its last logins by protocol, open sessions and app passwords.

    Dovecot keeps the last logins by WRITTEN_DOWN. Those by other protocols are from the logs, and lost if they are
    older than `log_begins`. `sessions` is None while the mail service is down.
    """

    person: Person
    addresses: tuple[str, ...]
    last_logins: Mapping[str, str]
    log_begins: str
    sessions: tuple[Session, ...] | None
    app_passwords: tuple[Usage, ...]

    def as_json(self) -> str:
        """Return it as a JSON object, with the fields of Person among the others."""
        fields = asdict(self)
        return json.dumps({**fields.pop("person"), **fields}, indent=2)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _second(time: str) -> str:
    return _utc(datetime.fromisoformat(time))


def read_logins(mail: Iterable[str], web: Iterable[str], account: str) -> Logins:
    """Return what the lines of both logs, each after its time, say of an account."""
    found = Logins()
    for line in mail:
        if ended := _ENDED.match(line):
            found.begun.pop(ended["session"], None)
        elif (there := _LOGGED_IN.match(line) or _SUBMITTED.match(line)) and there["account"] == account:
            protocol = _NAMES.get(there["protocol"], there["protocol"])
            found.last[protocol] = time = _second(there["time"])
            if protocol != "submission":
                found.begun[there["session"]] = Session(protocol, there["client"], time)
    for line in web:
        if (there := _REQUESTED.match(line)) and there["account"] == account:
            found.last["web"] = _second(there["time"])
    return found


def _written_down(pod: Pod, account: str) -> dict[str, str]:
    """Return the last logins that services have written down, by protocol."""
    last = dict[str, float]()
    for _, protocol, used in last_uses(pod, account):
        last[protocol] = max(last.get(protocol, 0.0), used)
    return {protocol: _utc(datetime.fromtimestamp(used, UTC)) for protocol, used in last.items()}


def _sessions(pod: Pod, account: str, begun: Iterable[Session]) -> tuple[Session, ...] | None:
    """Return the open sessions; None if Dovecot does not answer. The newest logins without an end have begun them."""
    asked = podman("exec", pod.containers["mail"], "doveadm", "-f", "json", "who", "-1", account, check=False)
    if not asked.ok:
        return None
    waiting, found = sorted(begun, key=lambda session: session.since or "", reverse=True), list[Session]()
    for row in json.loads(asked.stdout or "[]"):
        protocol, client = _NAMES.get(row["service"], row["service"]), row["ip"]
        login = next((one for one in waiting if (one.protocol, one.client) == (protocol, client)), None)
        if login:
            waiting.remove(login)
        found.append(login or Session(protocol, client, None))
    return tuple(sorted(found, key=lambda session: session.since or ""))


def details(pod: Pod, account: str) -> Details:
    """Return what is known of an account. Raises Problem if there is no such account."""
    folder = volumes.folder(pod.volumes["accounts"].name)
    accounts.Accounts(folder).expect(account)
    (person,) = people.everyone(pod, account)
    names = addresses.ALIASES if account == pod.settings.postmaster_address else ()
    own = [
        account,
        *(f"{name}@{domain}" for domain in pod.settings.domains for name in names),
        *leading_to(Aliases(folder).all(), account),
    ]
    mail = timed_lines(pod, "mail")
    logins = read_logins(mail, timed_lines(pod, "apache"), account)
    written = _written_down(pod, account)
    last = {
        protocol: max(logins.last.get(protocol, ""), written.get(protocol, "")) for protocol in {*logins.last, *written}
    }
    begin = _second(mail[0].partition(" ")[0]) if mail else ""
    sessions = _sessions(pod, account, logins.begun.values())
    return Details(person, tuple(dict.fromkeys(own)), dict(sorted(last.items())), begin, sessions,
                   tuple(usages(pod, account)))  # fmt: skip


def as_lines(details: Details) -> list[str]:
    """Return what `users.show` prints."""
    person, last = details.person, details.last_logins
    state = "disabled" if person.disabled else "enabled" if person.can_log_in else "of a domain that is not served"
    limit = people.readable_size(person.quota) if person.quota else "no quota"
    used = "unknown" if person.used is None else f"{person.used / 2**20:.1f} MB"
    lines = [f"{person.address} is {state}", f"addresses    {', '.join(details.addresses)}",
             f"mailbox      {used} used, {limit}"]  # fmt: skip
    lines += [f"last login   {protocol} {time}" for protocol, time in last.items()]
    if not set(last) - set(WRITTEN_DOWN):
        lines.append(f"last login   by other protocols not since {details.log_begins or 'the log is gone'}")
    lines += [f"app password {usage_line(usage)}" for usage in details.app_passwords]
    if details.sessions is None:
        return [*lines, "sessions     unknown: the mail service does not answer"]
    opened = [f"session      {one.protocol} from {one.client}, since {one.since or 'before the log begins'}"
              for one in details.sessions]  # fmt: skip
    return lines + (opened or ["sessions     none"])
