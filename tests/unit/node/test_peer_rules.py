"""Who may ask what: the table in the code, the table in the docs, and what is not in either."""

import itertools
from pathlib import Path

import pytest

from node.peer_rules import VERBS, judge

DOCS = Path(__file__).parents[3] / "docs" / "security.md"
ROLES = ("admin", "member", "vault", "client")


def test_the_docs_print_the_table_of_the_code() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    printed = {}
    for row in rows:
        verb, callers, answerers = (cell.strip() for cell in row.strip("|").split("|"))
        printed[verb.strip("`")] = (set(callers.split(", ")), set(answerers.split(", ")))
    assert printed == {name: (set(verb.callers), set(verb.answered_by)) for name, verb in VERBS.items()}


@pytest.mark.parametrize(("verb", "caller", "me"), list(itertools.product(VERBS, ROLES, ROLES)))
def test_a_verb_is_answered_exactly_where_the_table_says(verb: str, caller: str, me: str) -> None:
    rule = VERBS[verb]
    allowed = caller in rule.callers and me in rule.answered_by
    assert (judge(verb, caller, me) is None) == allowed  # type: ignore[arg-type]


@pytest.mark.parametrize("caller", ROLES)
def test_a_vault_may_ask_for_nothing_and_nothing_else_may_be_asked_of_it(caller: str) -> None:
    assert all(judge(verb, "vault", me) is not None for verb in VERBS for me in ROLES)  # type: ignore[arg-type]
    for verb in (
        "snapshot.destroy",
        "snapshot.take",
        "mount",
        "zfs",
        "replica.destroy",
        "replica.rename",
        "",
    ):
        denied = judge(verb, caller, "vault")  # type: ignore[arg-type]
        assert denied is not None
        assert denied.code == "vault_refuses"


def test_no_node_changes_what_lies_on_another() -> None:
    denied = judge("snapshot.destroy", "admin", "member")
    assert denied is not None
    assert "no peer may ask" in denied.text
