"""Where there is no way on that keeps everything: what is in the way, the evidence, and what a person can do.

A conflict is an outcome, not a fault: nothing was changed, and nothing will be until someone decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from replication.history import Rule, SourceHistory, TargetSnapshot

Kind = Literal[
    "plaintext_to_vault",
    "plaintext_to_member",
    "mode_changed",
    "target_occupied",
    "diverged",
    "no_common_base",
    "encryption_root_changed",
    "replica_root_changed",
]
REPLACED: frozenset[Kind] = frozenset({"diverged", "no_common_base", "mode_changed", "replica_root_changed"})
"""What ends when the replica that is there is kept aside."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Conflict:
    """`evidence` names what is in the way, one thing a line; `hint` is a command safe to paste, or empty.

    `newest` is the guid of the target's newest snapshot, where the replica as it is can not be gone on with.
    """

    kind: Kind
    evidence: tuple[str, ...]
    text: str
    hint: str = ""
    newest: int | None = None


def plaintext(source: SourceHistory, rule: Rule) -> Conflict:
    """An unencrypted dataset would leave this host in the clear."""
    to_vault = rule.target_role == "vault"
    why = (
        f"{rule.target} is a vault, and a vault gets ciphertext only"
        if to_vault
        else f"the rule does not allow plaintext to {rule.target}"
    )
    what_else = (
        "or choose a member as the target"
        if to_vault
        else "or allow plaintext for this rule if that is meant"
    )
    return Conflict(
        "plaintext_to_vault" if to_vault else "plaintext_to_member",
        (f"{source.dataset}: encryption=off",),
        f"{source.dataset} is not encrypted and {why}. Copy the data into an encrypted dataset, {what_else}.",
        f"zfs create -o encryption=on -o keyformat=passphrase {source.dataset}-encrypted",
    )


def mode_changed(source: SourceHistory, rule: Rule) -> Conflict:
    """The replica was begun in the other mode. Mixing makes every later raw stream fail (openzfs#8758)."""
    began, now = ("raw", "unencrypted") if rule.raw else ("unencrypted", "encrypted")
    return Conflict(
        "mode_changed",
        (f"{source.dataset} is {now}", f"its replica on {rule.target} was begun {began}"),
        f"The replica of {source.dataset} on {rule.target} was begun {began}, but the dataset is now {now}: "
        "it is another dataset under the same name. Replicate it under another name, or have the old replica "
        "kept aside.",
        _rotate(source, rule),
    )


def occupied(source: SourceHistory, rule: Rule) -> Conflict:
    """Something without a snapshot stands where the replica would go: mostly a placeholder, made for one below it."""
    evidence = f"the dataset exists on {rule.target} and has no snapshot"
    text = (
        f"A dataset without any snapshot stands on {rule.target} where the replica of {source.dataset} "
        "would go. A first stream would have to overwrite it, and nothing is ever overwritten. "
    )
    if not rule.nested:
        return Conflict("target_occupied", (evidence,), text + "Rename or remove it there.")
    below = ", ".join(rule.nested[:_SHOWN])
    return Conflict(
        "target_occupied",
        (evidence, *(f"the replica of {one} lies below it" for one in rule.nested[:_SHOWN])),
        f"{text}It is the placeholder that was made when {below} was sent before {source.dataset}. On "
        f"{rule.target}, rename it out of the way (zfs rename, the replicas below it move along and lose nothing); "
        f"{source.dataset} is sent then. After that rename the replicas that lay below it back to their places.",
    )


def diverged(source: SourceHistory, rule: Rule, common: str, ahead: Sequence[TargetSnapshot]) -> Conflict:
    """The target has snapshots behind the newest common one that did not come from this history."""
    return Conflict(
        "diverged",
        tuple(f"{one.name} (guid {one.guid}) on {rule.target} only" for one in ahead),
        f"{rule.target} went on without {source.dataset}: {_names(ahead)} came after {common}, the newest "
        "snapshot both have, and is not on the source. Either the source was rolled back, or something "
        "made a snapshot of the replica. Nothing is ever rolled back on the target.",
        _rotate(source, rule),
    )


def no_common_base(source: SourceHistory, rule: Rule, there: Sequence[TargetSnapshot]) -> Conflict:
    """Both sides have snapshots, and no guid is on both."""
    return Conflict(
        "no_common_base",
        tuple(f"{one.name} (guid {one.guid}) on {rule.target} only" for one in there),
        f"{source.dataset} and its replica on {rule.target} have no snapshot in common, and no bookmark of "
        f"{_names(there)} is left either. The replica stays as it is; it can be kept aside, and a new one "
        "begun in its place.",
        _rotate(source, rule),
    )


def replica_root(source: SourceHistory, rule: Rule, key_root: str) -> Conflict:
    """Somebody at the target made the replica inherit its key: a raw stream would leave it with a useless one."""
    return Conflict(
        "replica_root_changed",
        (f"on {rule.target} the encryption root of the replica is {key_root}",),
        f"On {rule.target} the replica of {source.dataset} was made to inherit the key of {key_root}. A raw stream "
        "would leave it with a key that opens nothing (openzfs#12614), so none is sent. The replica can be kept "
        "aside, and a new one begun in its place.",
        _rotate(source, rule),
    )


def _rotate(source: SourceHistory, rule: Rule) -> str:
    """Shows the evidence once more, and asks."""
    return f"meshkeep replicate rotate {source.dataset} {rule.target}"


def _names(snapshots: Sequence[TargetSnapshot]) -> str:
    shown = ", ".join(f"@{one.name}" for one in snapshots[-_SHOWN:])
    more = len(snapshots) - _SHOWN
    return f"{shown} and {more} older" if more > 0 else shown
