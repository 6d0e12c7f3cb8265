"""What the log of the mail container says about a message."""

from podserve.verdict import Rule, read_log

LOG = """\
2026-11-27T17:21:18.0+00:00 Nov 27 17:21:18 mail postfix/submission/smtpd[8]: 28BC31B0001: client=unknown[192.0.2.7]
2026-11-27T17:21:18.1+00:00 Nov 27 17:21:18 mail postfix/cleanup[819]: 28BC31B0001: message-id=<a@example.com>
2026-11-27T17:21:18.2+00:00 (rspamd_proxy) <17ca42>; proxy; rspamd_task_write_log: id: <a@example.com>, \
qid: <28BC31B0001>, ip: 192.0.2.7, from: <s@example.com>, (add header): [7.40/15.00] \
[MIME_GOOD(-0.10){text/plain;},MISSING_TO(2.00){},BAD(5.50){a;b (c), d;}], time: 1.9ms, forced: no
2026-11-27T17:21:18.3+00:00 Nov 27 17:21:18 lmtp(alice@example.org)<1013><ZSw>: Info: \
sieve: msgid=<a@example.com>: fileinto action: stored mail into mailbox 'Junk'
2026-11-27T17:21:18.4+00:00 Nov 27 17:21:18 mail postfix/lmtp[888]: 28BC31B0001: to=<alice@example.org>, status=sent
2026-11-27T17:21:18.5+00:00 Nov 27 17:21:18 mail postfix/qmgr[265]: 28BC31B0001: from=<s@example.com>, size=635
2026-11-27T17:21:19.0+00:00 Nov 27 17:21:19 mail postfix/cleanup[819]: 39CC31B0002: message-id=<b@example.com>
2026-11-27T17:21:19.1+00:00 Nov 27 17:21:19 mail postfix/lmtp[888]: 39CC31B0002: to=<bob@example.org>, status=sent (250)
""".splitlines()


def test_the_log_tells_the_verdict_its_rules_and_the_way_of_a_message() -> None:
    told = read_log(LOG, "a@example.com")
    [judgement] = told.judgements
    assert (judgement.action, judgement.score, judgement.client) == (
        "add header",
        7.4,
        "ip: 192.0.2.7, from: <s@example.com>",
    )
    assert judgement.rules == (
        Rule("BAD", 5.5, "a;b (c), d"),
        Rule("MISSING_TO", 2.0, ""),
        Rule("MIME_GOOD", -0.1, "text/plain"),
    )
    assert [event.partition(" ")[2] for event in told.events] == [
        "client=unknown[192.0.2.7]",
        "alice@example.org: stored mail into mailbox 'Junk'",
        "to=<alice@example.org>, status=sent",
    ]


def test_a_message_can_be_asked_for_by_its_queue_id() -> None:
    by_queue, by_message = read_log(LOG, "28BC31B0001"), read_log(LOG, "a@example.com")
    assert (by_queue.judgements, by_queue.events) == (by_message.judgements, by_message.events)


def test_a_message_that_the_filter_did_not_judge_has_its_way_alone() -> None:
    told = read_log(LOG, "b@example.com")
    assert (told.judgements, len(told.events)) == ((), 1)


def test_the_log_does_not_know_another_message() -> None:
    assert read_log(LOG, "c@example.com").events == ()
