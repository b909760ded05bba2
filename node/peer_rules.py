"""What a peer may ask of this node, by its role and ours. Pure; checked where a request arrives.

docs/security.md prints this table. A verb that is not in it is refused, whoever asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["admin", "member", "vault", "client"]

_FULL: frozenset[Role] = frozenset({"admin", "member"})
_ALL_BUT_VAULT: frozenset[Role] = frozenset({"admin", "member", "client"})


@dataclass(frozen=True, slots=True)
class Verb:
    """Who may ask it (`callers`), and which roles answer it (`answered_by`)."""

    callers: frozenset[Role]
    answered_by: frozenset[Role]
    about: str


_STORES: frozenset[Role] = frozenset({"admin", "member", "vault"})

VERBS: Mapping[str, Verb] = {
    "mesh.sync": Verb(_ALL_BUT_VAULT, frozenset({*_STORES, "client"}), "exchange signed objects"),
    "mesh.push": Verb(_ALL_BUT_VAULT, frozenset({*_STORES, "client"}), "offer signed objects"),
    "replica.state": Verb(_FULL, _STORES, "what is stored of one dataset of the caller's"),
    "replica.states": Verb(_FULL, _STORES, "what is stored of many datasets of the caller's"),
    "replica.list": Verb(_FULL, _STORES, "all that is stored of the caller's"),
    "replica.receive": Verb(_FULL, _STORES, "store snapshots more, below the caller's own root"),
    "replica.abort": Verb(_FULL, _STORES, "drop a partly received stream of the caller's"),
    "replica.rotate": Verb(
        _FULL, _STORES, "keep a replica that nothing leads on from aside under another name"
    ),
    "replica.wraps": Verb(_FULL, _STORES, "give the archived wrapped keys of a replica to its owner"),
    "replica.send": Verb(_FULL, _STORES, "send a stored snapshot back to its owner"),
    "replica.recognise": Verb(
        _FULL, frozenset({"admin", "member"}), "which of some guids are snapshots of a dataset"
    ),
    "manifest.put": Verb(_FULL, _STORES, "keep the caller's own sealed manifest"),
    "manifest.get": Verb(_FULL, _STORES, "give a sealed manifest back to its owner"),
    "sent.heads": Verb(_FULL, _STORES, "what the caller, or whom it succeeds, last said that it had sent"),
    "manifest.open": Verb(_FULL, frozenset({"admin"}), "open a manifest for the node that inherits it"),
    "terms.show": Verb(_FULL, _STORES, "on what terms the caller's is kept; for an admin, everyone's"),
    "terms.extend": Verb(_FULL, _STORES, "keep the caller's own for longer, never shorter"),
    "key.offered": Verb(_FULL, _STORES, "keys that wait for a word of the recovery key"),
}


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request is refused."""

    code: str
    text: str
    hint: str


def judge(verb: str, caller: Role, me: Role) -> Denied | None:
    """None if *caller* may ask *verb* of a node whose role is *me*."""
    rule = VERBS.get(verb)
    if rule is None:
        if me == "vault":
            return Denied(
                "vault_refuses",
                f"a vault stores, lists and sends back; it does nothing else, so {verb!r} is refused",
                "to remove replicas, use the vault's own console",
            )
        return Denied(
            "refused_for_peers",
            f"no peer may ask {verb!r}: what lies on a node is changed by that node alone",
            "run the command on that node",
        )
    if me not in rule.answered_by:
        return Denied("role_refuses", f"a {me} does not answer {verb!r}", "")
    if caller not in rule.callers:
        return Denied("role_may_not", f"a {caller} may not ask {verb!r} ({rule.about})", "")
    return None
