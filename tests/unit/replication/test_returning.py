"""What is offered back beside the list: genuine or not, and how old it is known to be."""

from dataclasses import replace
from typing import Any

import pytest

from replication.ledger import Entry, Ledger, begin
from replication.returning import Account, Age, Expected, Witness, age, expected, sort_out, together
from zfs.model import Snapshot

OLD_KEY, KEY = "ab" * 32, "cd" * 32


def entry(number: int, **more: Any) -> Entry:
    made = Entry(number, f"s{number}", 1000 + number, 7000 + number, KEY, None, "cloud", 5000)
    return replace(made, **more)


def ledger(*numbers: int) -> Ledger:
    return begin("tank/home").added(entry(number) for number in numbers)


def offered(number: int, **more: Any) -> Snapshot:
    return replace(Snapshot("tank/home", f"s{number}", number, 50 + number, 1000 + number), **more)


def knows(node: str, *numbers: int, role: str = "member") -> Witness:
    return Witness(node, role, replace(ledger(*numbers).head, hash=ledger(*numbers).head.hash[:32]))


class TestSortingOut:
    def test_what_is_listed_and_what_is_not(self) -> None:
        found = sort_out(ledger(1, 2), [offered(1), offered(2), offered(3)], encrypted=True)
        assert [one.guid for one in found.listed] == [1, 2]
        assert [one.guid for one in found.unlisted] == [3]
        assert found.wrong == ()

    def test_without_a_list_nothing_is_listed_and_nothing_contradicts(self) -> None:
        found = sort_out(None, [offered(1)], encrypted=True)
        assert (found.listed, len(found.unlisted), found.wrong) == ((), 1, ())

    @pytest.mark.parametrize(
        ("claim", "encrypted", "why"),
        [
            ({"name": "s9"}, True, "what it calls @s9 was sent as @s1"),
            ({"creation": 9999}, True, "was not taken when it says"),
            ({}, False, "was encrypted when it was sent"),
        ],
    )
    def test_an_older_one_under_a_newer_name_or_time_or_in_plaintext_contradicts_it(
        self, claim: dict[str, Any], encrypted: bool, why: str
    ) -> None:
        found = sort_out(ledger(1, 2), [offered(1, **claim)], encrypted=encrypted)
        assert (found.listed, found.unlisted) == ((), ())
        assert why in found.wrong[0]

    def test_plaintext_that_was_sent_so_is_listed_so(self) -> None:
        plain = begin("tank/home").added([entry(1, ivset=None, key=None)])
        assert len(sort_out(plain, [offered(1)], encrypted=False).listed) == 1
        since = sort_out(plain, [offered(1)], encrypted=True)
        assert (len(since.unlisted), since.wrong) == (1, ())

    def test_sent_plain_and_encrypted_since_it_comes_back_as_either(self) -> None:
        both = begin("tank/home").added([entry(1, ivset=None, key=None), entry(1)])
        for encrypted in (False, True):
            assert len(sort_out(both, [offered(1)], encrypted=encrypted).listed) == 1
        assert expected(both, 1, None, encrypted=False) == Expected()
        assert expected(both, 1, None).to_ivset == 7001

    def test_of_two_ciphertexts_that_were_sent_either_may_come(self) -> None:
        both = begin("tank/home").added([entry(1), entry(1, ivset=7777)])
        assert expected(both, 1, None).to_ivset is None


class TestWhatAStreamMustSay:
    def test_the_ivsets_of_both_ends_and_a_key_that_went_out(self) -> None:
        found = ledger(1, 2).added([entry(3, key=OLD_KEY)])
        assert expected(found, 2, 1) == Expected(7002, 7001, (OLD_KEY, KEY))
        assert expected(found, 2, None) == Expected(7002, None, (OLD_KEY, KEY))

    def test_nothing_of_what_is_not_on_the_list(self) -> None:
        assert expected(ledger(1), 9, 1) == Expected()
        assert expected(None, 1, None) == Expected()


class TestAge:
    def test_nobody_but_the_keeper_can_tell(self) -> None:
        accounts = [Account(ledger(1, 2), "cloud", (knows("cloud", 1, 2, role="vault"),))]
        found = age(accounts, 1002, "cloud")
        assert (found.state, found.by) == ("unwitnessed", ())
        assert "nobody but cloud" in found.why

    def test_another_has_heard_of_it_and_of_nothing_newer(self) -> None:
        accounts = [Account(ledger(1, 2), "cloud", (knows("cloud", 1, 2), knows("laptop", 1, 2)))]
        assert age(accounts, 1002, "cloud") == Age("witnessed", 1002, (("laptop", 5000),))

    def test_another_that_was_away_since_witnesses_nothing(self) -> None:
        accounts = [Account(ledger(1, 2), "cloud", (knows("laptop", 1),))]
        found = age(accounts, 1002, "cloud")
        assert (found.state, found.by) == ("unwitnessed", (("laptop", 5000),))

    def test_another_has_heard_of_newer_ones(self) -> None:
        accounts = [Account(ledger(1), "cloud", (knows("laptop", 1, 2),))]
        assert age(accounts, 1001, "cloud") == Age("stale", 1002, (("laptop", 5000),), "newer ones were sent")

    def test_the_keeper_itself_can_speak_against_it(self) -> None:
        accounts = [Account(ledger(1), "cloud", (knows("cloud", 1, 2),))]
        assert age(accounts, 1001, "cloud").state == "stale"

    def test_the_list_has_newer_ones_though_nobody_remembers_a_head(self) -> None:
        assert age([Account(ledger(1, 2), "cloud")], 1001, "cloud").state == "stale"

    def test_what_an_heir_sent_counts_too(self) -> None:
        heir = begin("tank/home").added([entry(8)])
        accounts = [
            Account(ledger(1), "cloud"),
            Account(heir, "this host", (Witness("this host", "admin", heir.head),)),
        ]
        assert age(accounts, 1001, "cloud").state == "stale"
        assert age(accounts, 1008, "cloud").state == "witnessed"

    def test_another_list_of_that_length_was_seen(self) -> None:
        accounts = [Account(ledger(1, 2), "cloud", (knows("laptop", 1, 3),))]
        found = age(accounts, 1002, "cloud")
        assert (found.state, found.by) == ("forked", (("laptop", 5000),))

    def test_without_any_list_or_head_the_age_is_not_known(self) -> None:
        assert age([], 1002, "cloud").state == "unwitnessed"


def test_lists_of_owner_and_heir_are_looked_up_together() -> None:
    found = together(
        "tank/home", [Account(ledger(1), "cloud"), Account(ledger(2), "this host"), Account(None, "")]
    )
    assert found is not None
    assert found.lists(1, "s1", raw=True)
    assert found.lists(2, "s2", raw=True)
    assert together("tank/home", [Account(None, "")]) is None
