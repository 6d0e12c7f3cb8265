"""Rude clients from one outside address: how the pod treats them, and how it serves other clients meanwhile."""

import inspect
import json
from collections import Counter
from collections.abc import Iterator

from tests.faults import rude
from tests.faults.others import Others
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.vantage import Vantage, stranger_to

SECTION = "manners"
HOLD = {"silent": 55.0, "drip": 30.0, "flood": 20.0}
"""Seconds after which an open connection counts as held. (Linux keeps a silent connection to Apache for 30 s,
TCP_DEFER_ACCEPT, then Apache keeps it for up to 20 s.)"""
RIGHTFULLY_HELD = {25: 20, 465: 20, 587: 20, 143: 150, 993: 150, 995: 150, 4190: 150}
"""The number of connections that may be held for longer, by port. Postfix allows 5 minutes for each command (RFC 5321,
4.5.3.2.7), to 20 clients of an address. Dovecot allows 3 minutes for a login, to 5,000 clients; then it closes the
oldest connection."""
WORST = 10.0
"""Seconds that an exchange of another client may take meanwhile."""
KINDS = {"silent": 150, "drip": 40, "flood": 5}
"""The kinds of rude clients, and their number on each port at once."""


GUESS = {
    "web": """
import base64, collections, http.client, json, ssl, sys
host, domain, account, sent = sys.argv[1:]
client = http.client.HTTPSConnection(host, context=ssl._create_unverified_context(), timeout=30)
said = collections.Counter()
for number in range(int(sent)):
    login = base64.b64encode(f"{account}:guess {number}".encode()).decode()
    client.request("GET", "/webdav/", headers={"Host": domain, "Authorization": f"Basic {login}"})
    answer = client.getresponse()
    answer.read()
    said[answer.status] += 1
print(json.dumps({"sent": int(sent), "looked at": said[401], "refused": said[429]}))
""",
    "mail": """
import imaplib, json, ssl, sys, time
host, domain, account, sent = sys.argv[1:]
begin, looked_at = time.monotonic(), 0
while looked_at < int(sent) and time.monotonic() < begin + 20:
    client = imaplib.IMAP4_SSL(host, ssl_context=ssl._create_unverified_context(), timeout=40)
    try:
        client.login(account, f"guess {looked_at}")
    except imaplib.IMAP4.error:
        looked_at += 1
    client.shutdown()
print(json.dumps({"sent": int(sent), "looked at": looked_at, "s": time.monotonic() - begin}))
""",
}
"""Scripts that guess passwords, by service. Each prints how many guesses the server checked."""


def _be_rude(place: Vantage, test_pod: PodUnderTest, kind: str, many: int) -> dict[str, list[tuple[str, float]]]:
    what = json.dumps([kind, test_pod.address, sorted(rude.SAID), many, HOLD[kind]])
    said: dict[str, list[tuple[str, float]]] = json.loads(
        place.python(inspect.getsource(rude), what, timeout=3 * HOLD["silent"])
    )
    return said


def _kept_waiting(others: Others, name: str) -> str:
    """Return an error if other clients on a port waited too long or failed, otherwise an empty text."""
    if others.worst[name] <= WORST and name not in others.error:
        return ""
    return f"others on {name} waited {others.worst[name]:.1f} s: {others.error.get(name, 'expected less')}"


def _judge(port: int, name: str, ends: list[tuple[str, float]], others: Others, kind: str) -> Outcome:
    became = Counter(end for end, _ in ends)
    cut = [seconds for end, seconds in ends if end == "cut off"]
    figures: dict[str, str | float] = {
        "opened": len(ends), "refused": became["refused"] + became["not let in"],
        "cut off": became["cut off"], "held": became["held"],
        "cut off after s": max(cut, default=0.0), "others' worst s": others.worst[name],
    }  # fmt: skip
    fault = ""
    if became["held"] > (RIGHTFULLY_HELD.get(port, 0) if kind != "flood" else 0):
        fault = f"{became['held']} connections are still open after {HOLD[kind]:.0f} s"
    return Outcome(SECTION, f"{kind}: {port}", figures, _kept_waiting(others, name) or fault)


def _guess(test_pod: PodUnderTest, place: Vantage, kind: str, sent: int) -> Outcome:
    """Guess one password after another, `sent` of them."""
    with Others(test_pod) as others:
        account = test_pod.postmaster.address
        said = json.loads(place.python(GUESS[kind], test_pod.address, test_pod.server.domain, account, str(sent)))
    name, most = {"web": ("https", 20 + 1), "mail": ("imaps", 5)}[kind]
    fault = f"{said['looked at']} guesses were looked at: expected {most}" if said["looked at"] > most else ""
    figures = {**said, "others' worst s": others.worst[name]}
    return Outcome(SECTION, f"guesses: {kind}", figures, _kept_waiting(others, name) or fault)


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Run each kind of rude client on all ports at once, while other clients use the pod."""
    names = {port.number: port.name for port in test_pod.pod.ports.values() if port.protocol == "TCP"}
    with stranger_to(test_pod.name) as place:
        for kind, full in KINDS.items():
            with Others(test_pod) as others:
                ended = _be_rude(place, test_pod, kind, scale.count(full))
            for port, ends in ended.items():
                yield _judge(int(port), names[int(port)], ends, others, kind)
        yield _guess(test_pod, place, "web", scale.count(60))
        yield _guess(test_pod, place, "mail", scale.count(60))
