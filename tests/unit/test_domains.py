"""A change of the domains: what `up` refuses so that no mail is lost, and what it only tells."""

from pathlib import Path

import pytest

from podserve import domains, state, volumes
from podserve.accounts import Accounts
from podserve.aliases import Aliases
from podserve.errors import Problem
from podserve.folder import Folder
from tests.unit.helpers import pod_with

OLD, NEW, OTHER = "old.example", "new.example", "other.example"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The accounts volume of a pod that served OLD and OTHER, with an account at OLD."""
    folder = Folder.at(tmp_path)
    monkeypatch.setattr(volumes, "folder", lambda _: folder)
    monkeypatch.setattr(volumes, "is_there", lambda _: True)
    before = pod_with(tmp_path, domain=OLD, mail_domains=OTHER)
    before.manifests.write(state.applied_folder(before))
    Accounts(folder).add(f"alice@{OLD}", "correct horse")
    return folder


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("mail_domains", [OLD, f"{OTHER} {OLD}"])
def test_a_domain_may_become_another_while_it_stays_one_of_the_domains(tmp_path: Path, mail_domains: str) -> None:
    pod = pod_with(tmp_path, domain=NEW, mail_domains=mail_domains)
    domains.expect_nobody_left_behind(pod)
    assert not domains.not_served(pod)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("mail_domains", ["", OTHER])
def test_a_domain_does_not_go_while_somebody_is_there_and_the_line_to_set_is_shown(
    tmp_path: Path, mail_domains: str
) -> None:
    kept = " ".join(filter(None, [mail_domains, OLD, "" if mail_domains else OTHER]))
    with pytest.raises(Problem, match=rf'would be refused: alice@{OLD}\. Keep .*mail_domains: "{kept}"'):
        domains.expect_nobody_left_behind(pod_with(tmp_path, domain=NEW, mail_domains=mail_domains))


def test_an_alias_keeps_its_domain_too_and_a_domain_without_anybody_may_go(there: Folder, tmp_path: Path) -> None:
    pod = pod_with(tmp_path, domain=OLD)
    domains.expect_nobody_left_behind(pod)
    Aliases(there).add(f"@{OTHER}", [f"alice@{OLD}"], lambda: {f"alice@{OLD}"})
    with pytest.raises(Problem, match=f"would be refused: @{OTHER}"):
        domains.expect_nobody_left_behind(pod)


def test_a_new_domain_must_have_the_accounts_to_which_aliases_forwarded_so_far(there: Folder, tmp_path: Path) -> None:
    pod = pod_with(tmp_path, domain=OLD, mail_domains=f"{OTHER} {NEW}")
    Aliases(there).add(f"info@{OLD}", [f"bob@{NEW}"], set)
    with pytest.raises(Problem, match=f"aliases lead to bob@{NEW}, .* there is no such account"):
        domains.expect_nobody_left_behind(pod)
    Accounts(there).add(f"bob@{NEW}", "correct horse")
    domains.expect_nobody_left_behind(pod)


@pytest.mark.usefixtures("there")
def test_accounts_that_were_left_behind_earlier_are_told(tmp_path: Path) -> None:
    (told,) = domains.not_served(pod_with(tmp_path, domain=NEW, mail_domains=OTHER))
    assert told.startswith(f"these accounts cannot log in, because this pod serves {NEW} {OTHER}: alice@{OLD}. Give")


def test_the_postmaster_alone_keeps_no_domain_unless_another_account_becomes_it(there: Folder, tmp_path: Path) -> None:
    Accounts(there).remove(f"alice@{OLD}")
    Accounts(there).add(f"postmaster@{OLD}", "correct horse")
    domains.expect_nobody_left_behind(pod_with(tmp_path, domain=NEW))
    with pytest.raises(Problem, match=f"would be refused: postmaster@{OLD}"):
        domains.expect_nobody_left_behind(pod_with(tmp_path, domain=NEW, postmaster="alice"))
