"""Bugs that would let a node feed back what was never sent to it, or hide that there was more."""

from tests.mutants.mutant import Mutant

_LEDGER = "tests/unit/replication/test_ledger.py"
_RETURNING = "tests/unit/replication/test_returning.py"
_VOUCHING = "tests/unit/node/test_vouching.py"
_SENT = "tests/unit/node/test_sent.py"
_TESTIMONY = "tests/unit/node/test_testimony.py"

RETURNING = (
    Mutant(
        "an entry does not vouch for those before it",
        "replication/ledger.py",
        "_digest(bytes.fromhex(head.hash) + content)",
        "_digest(content)",
        _LEDGER,
    ),
    Mutant(
        "an older snapshot comes back under the name of a newer one",
        "replication/returning.py",
        "fitting = [entry for entry in entries if entry.name == one.name]",
        "fitting = list(entries)",
        _RETURNING,
    ),
    Mutant(
        "other ciphertext comes back under the guid of a snapshot",
        "replication/announced.py",
        "if job.to_ivset is not None and key.to_ivset_guid != job.to_ivset:",
        "if job.to_ivset is None and key.to_ivset_guid != job.to_ivset:",
        _VOUCHING,
    ),
    Mutant(
        "a snapshot comes back under another wrapped key",
        "replication/announced.py",
        "if job.keys and key.fingerprint() not in job.keys:",
        "if job.keys and not key.fingerprint():",
        _VOUCHING,
    ),
    Mutant(
        "what the list says of a stream does not reach who receives it",
        "node/restore.py",
        "keys=expected.keys,",
        "keys=(),",
        _VOUCHING,
    ),
    Mutant(
        "a list that another node has seen otherwise is believed",
        "replication/returning.py",
        "return had is not None and not names(had, witness.head)",
        "return had is None and not names(witness.head, witness.head)",
        _RETURNING,
    ),
    Mutant(
        "the keeper witnesses its own copy",
        "replication/returning.py",
        "others = [one for one in told if one.node != keeper]",
        "others = told",
        _RETURNING,
    ),
    Mutant(
        "who was away since witnesses all the same",
        "replication/returning.py",
        "for one in others if one.head.as_of >= as_of)",
        "for one in others)",
        _RETURNING,
    ),
    Mutant(
        "what is known to be newer counts only where the keeper says so",
        "node/restore.py",
        "if not wanted.older and wanted.at is None and wanted.before is None:",
        "if wanted.older and wanted.at is None and wanted.before is None:",
        _VOUCHING,
    ),
    Mutant(
        "a target gives a snapshot the name that it likes",
        "node/sent.py",
        "if went.name == shown[one.guid]\n",
        "if went.name\n",
        _SENT,
    ),
    Mutant(
        "a head is believed whoever signed it",
        "node/testimony.py",
        "if signed.signer != public or not",
        "if not",
        _TESTIMONY,
    ),
)
