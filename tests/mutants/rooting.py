"""Bugs that would let an old replica be lost or hidden, a key be inherited that opens nothing, or a bad ZFS be used."""

from tests.mutants.mutant import Mutant

_MODEL = "tests/unit/replication/test_plan_model.py"
_ROTATION = "tests/unit/replication/test_rotation.py"
_ASIDE = "tests/unit/node/test_rotation.py"
_ROOTS = "tests/unit/replication/test_encryption_roots.py"
_DRIFT = "tests/unit/node/test_roots.py"
_WRAP = "tests/unit/node/test_wrap_back.py"

ROOTING = (
    Mutant(
        "a replica makes way without the rule saying so",
        "replication/plan.py",
        'if rule.on_divergence != "rotate":',
        'if rule.on_divergence == "never":',
        _MODEL,
    ),
    Mutant(
        "a replica makes way for nothing",
        "replication/plan.py",
        "if conflict.kind not in conflicts.REPLACED or not replacing:",
        "if conflict.kind not in conflicts.REPLACED:",
        _ROTATION,
    ),
    Mutant(
        "a replica is kept aside although the source leads on from it",
        "replication/rotation.py",
        "if lying.raw == request.raw and lying.newest in request.history and not lying.drifted:",
        "if False:",
        _ASIDE,
    ),
    Mutant(
        "who asks often enough has no end of old replicas",
        "replication/rotation.py",
        "if len(lying.aside) >= MOST:",
        "if len(lying.aside) > 1000:",
        _ASIDE,
    ),
    Mutant(
        "something is added to what was kept aside",
        "node/replicas.py",
        "        refuse_aside(offer.dataset)\n",
        "",
        _ASIDE,
    ),
    Mutant(
        "what lies below a replica that was kept aside is sent anew",
        "node/aside.py",
        "            if above in names and old in names:",
        "            if above in names and old not in names:",
        _ASIDE,
    ),
    Mutant(
        "a dataset inherits a key that was drawn another time",
        "replication/encryption_roots.py",
        "if not one.salt or (one.salt, one.iterations) != (root.salt, root.iterations):",
        "if not one.salt:",
        _ROOTS,
    ),
    Mutant(
        "a key is inherited while the old one is in use",
        "replication/encryption_roots.py",
        "    if one.loaded:\n",
        "    if not one:\n",
        _ROOTS,
    ),
    Mutant(
        "a child is taken for its parent by an inherited note",
        "replication/encryption_roots.py",
        "return int(match[2]) if match and int(match[1]) == dataset_guid else None",
        "return int(match[2]) if match else None",
        _ROOTS,
    ),
    Mutant(
        "a changed encryption root goes unnoticed",
        "node/roots.py",
        "        if conflict is not None:\n",
        "        if conflict is None:\n            return\n        if not conflict:\n",
        _DRIFT,
    ),
    Mutant(
        "a wrap that does not open is left in place",
        "node/wrap_back.py",
        "                if before is not None:\n",
        "                if before is None:\n",
        _WRAP,
    ),
    Mutant(
        "a version that is known to lose data is used all the same",
        "zfs/known_bugs.py",
        'if one.severity == "refuse" and one.concerns(use)',
        'if one.severity == "never" and one.concerns(use)',
        "tests/unit/node/test_version_gates.py",
    ),
)
