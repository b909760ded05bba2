"""Bugs that would let a target be told by the wrong one, too soon or twice: floors, vetoes, keys approved afar."""

from tests.mutants.mutant import Mutant

_DECREES = "tests/unit/mesh/test_decrees.py"
_PURE = "tests/unit/replication/test_terms.py"
_TERMS = "tests/unit/node/test_terms.py"
_KEYS = "tests/unit/node/test_key_by_recovery.py"
_WRAPS = "tests/unit/node/test_wrap_rounds.py"

GOVERNING = (
    Mutant(
        "an admin signs what only the recovery key may",
        "mesh/objects.py",
        "if isinstance(value, Shorten | ApproveKey) and mesh_id(value.genesis_public) != mesh:",
        "if isinstance(value, ApproveKey) and mesh_id(value.genesis_public) != mesh:",
        _DECREES,
    ),
    Mutant(
        "an old word of the recovery key displaces a newer one",
        "mesh/trust.py",
        "if old is not None and (old.value.version, item.oid) > (item.value.version, old.oid):",
        "if old is not None and item.oid > old.oid:",
        _DECREES,
    ),
    Mutant(
        "a word of the recovery key takes effect at once",
        "replication/terms.py",
        "if waiting is None or marks.jump or left(waiting, marks, now):",
        "if waiting is None or marks.jump:",
        _PURE,
    ),
    Mutant(
        "seven days pass by setting the clock",
        "replication/terms.py",
        "return max(0, NOTICE - (now - marks.counted(waiting.since)))",
        "return max(0, NOTICE - (now - waiting.since))",
        _PURE,
    ),
    Mutant(
        "a word of the recovery key can be played again",
        "replication/terms.py",
        "if ask is not None and ask.version > agreed.done and _newer(ask, waiting):",
        "if ask is not None and _newer(ask, waiting):",
        _PURE,
    ),
    Mutant(
        "another word goes on with the days of the one before",
        "replication/terms.py",
        "waiting = Waiting(ask.oid, ask.version, ask.floor, since)",
        "waiting = Waiting(ask.oid, ask.version, ask.floor, waiting.since if waiting else since)",
        _PURE,
    ),
    Mutant(
        "an agreement that cannot be read is none",
        "replication/terms.py",
        'DAMAGED = Agreed(FOREVER, "damaged")',
        'DAMAGED = Agreed(SHORTEST, "damaged")',
        _PURE,
    ),
    Mutant(
        "a word that is heard while the clock is set back is old at once",
        "node/promises.py",
        "since = max(now, marks.last.wall)",
        "since = now",
        _TERMS,
    ),
    Mutant(
        "gaps in the clock are forgotten before the seven days are over",
        "node/replica_keeper.py",
        "now, longest = self._clock(), max(longest, NOTICE)",
        "now = self._clock()",
        _TERMS,
    ),
    Mutant(
        "a floor is shortened from afar by who may lengthen it",
        "node/terms_desk.py",
        "        for owner in roots:\n            self._refuse_shorter(",
        "        for owner in roots[:0]:\n            self._refuse_shorter(",
        _TERMS,
    ),
    Mutant(
        "the veto of one who was shut out counts",
        "node/decrees.py",
        'member.active and member.role == "admin"',
        'member.role == "admin"',
        _TERMS,
    ),
    Mutant(
        "an approval of the recovery key is good for any vault",
        "node/decrees.py",
        "            for one in self._approvals()\n            if one.value.target_public == me\n",
        "            for one in self._approvals()\n",
        _KEYS,
    ),
    Mutant(
        "an approval of the recovery key is good more than once",
        "node/key_verbs.py",
        'return (pinned.source, pinned.value) == ("local", word.pinned) and word.version > known',
        'return (pinned.source, pinned.value) == ("local", word.pinned)',
        _KEYS,
    ),
    Mutant(
        "a wrap goes that a stored snapshot came under",
        "replication/wraps.py",
        "for fingerprint in (*one.under.values(), one.pinned)}",
        "for fingerprint in (one.pinned,)}",
        _WRAPS,
    ),
    Mutant(
        "wraps go although it is not known under which a snapshot came",
        "replication/wraps.py",
        "not lying.partial and all(lying.under.values())",
        "not lying.partial",
        _WRAPS,
    ),
    Mutant(
        "a wrap goes that a replica kept aside came under",
        "node/wrap_rounds.py",
        "may_go(archived, in_place, lying.values())",
        "may_go(archived, in_place)",
        _WRAPS,
    ),
)
