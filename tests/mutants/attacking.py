"""Bugs by which a source could stop a vault's pool, drown what it keeps, or get at its other programs."""

from tests.mutants.mutant import Mutant

_RECORDS = "tests/unit/replication/test_records.py"

ATTACKING = (
    Mutant(
        "a block may lie where its object's levels do not reach",
        "replication/records.py",
        "if size != block or offset % block or offset >= end:",
        "if size != block or offset % block:",
        _RECORDS,
    ),
    Mutant(
        "an object may have a last block that nothing can point to",
        "replication/records.py",
        "if last >= blocks:",
        "if last > blocks:",
        _RECORDS,
    ),
    Mutant(
        "what was described in one block of dnodes is good for all others",
        "replication/records.py",
        "        self._shapes.clear()\n",
        "",
        _RECORDS,
    ),
    Mutant(
        "a dataset may be too small for its objects",
        "zfs/stream.py",
        "in_block * pointers << bits >= MAX_OBJECT",
        "in_block * pointers << bits > 0",
        "tests/unit/zfs/test_stream.py",
    ),
    Mutant(
        "many manifests in a second count on into the next days",
        "node/manifest_store.py",
        "    return newest + 1 if (newest + 1) // DAY == newest // DAY else newest\n",
        "    return newest + 1\n",
        "tests/unit/node/test_manifests.py",
    ),
    Mutant(
        "a vault's other programs are open to the mesh",
        "node/membership.py",
        'if self.my_role() == "vault" else None',
        'if self.my_role() == "client" else None',
        "tests/unit/node/test_vault_firewall.py",
    ),
    Mutant(
        "one node may have as much worked on at a time as it asks",
        "mesh/link_server.py",
        "        await turn.take()\n",
        "",
        "tests/unit/mesh/test_link.py",
    ),
    Mutant(
        "a stream that runs is in the way of its owner's questions",
        "mesh/link_server.py",
        "        self._begun()\n",
        "",
        "tests/unit/mesh/test_link.py",
    ),
)
