"""Bugs that would lose the thread where many steps and many datasets go together: chains, and looks that are shared."""

from tests.mutants.mutant import Mutant

_CHAINS = "tests/unit/node/test_chains.py"
_LOOKS = "tests/unit/node/test_looks.py"
_OFFERS = "tests/unit/node/test_offers.py"
_REPLICAS = "tests/unit/node/test_replicas.py"

CHAINS = (
    Mutant(
        "of a chain only the last snapshot is kept, and a part that arrives has no base",
        "node/chain.py",
        "to=[step.to.guid for step in chunk]",
        "to=[chunk[-1].to.guid]",
        _CHAINS,
    ),
    Mutant(
        "what a target did not find is taken for stored",
        "node/chain.py",
        "            if len(stored) < len(chunk):\n",
        "            if len(stored) > len(chunk):\n",
        _CHAINS,
    ),
    Mutant(
        "steps that do not go on from each other are one chain",
        "node/offers.py",
        "after.from_guid != before.to_guid",
        "after.from_guid == after.to_guid",
        _OFFERS,
    ),
    Mutant(
        "only the first step of a chain is judged",
        "node/replicas.py",
        "        for step in offer.steps:\n            if step.to_guid in guids:\n",
        "        for step in offer.steps[:1]:\n            if step.to_guid in guids:\n",
        _REPLICAS,
    ),
    Mutant(
        "a worker that died in a chain takes the holds of what it stored along",
        "node/receipts.py",
        "        if self.missing:  # a worker",
        "        if not self._offer.steps:  # a worker",
        _CHAINS,
    ),
    Mutant(
        "a snapshot made in the second of a look is never seen",
        "node/looks.py",
        "now >= changed + SETTLED and noted",
        "now >= changed and noted",
        _LOOKS,
    ),
    Mutant(
        "a listing from before a change of ours is remembered after it",
        "node/looks.py",
        "if self._changed.get(name, 0) > changes:",
        "if self._changed.get(name, 0) > changes + 1:",
        _LOOKS,
    ),
    Mutant(
        "who asks while an answer is on its way gets what was seen before",
        "node/looks.py",
        "await self._answer({name: self._waiting.pop(name) for name in names})",
        "await self._answer({name: self._waiting[name] for name in names})\n"
        "                for name in names:\n"
        "                    del self._waiting[name]",
        _LOOKS,
    ),
    Mutant(
        "another dataset under a known name has the snapshots of the first",
        "zfs/looking.py",
        "(was.guid, was.snapshots_changed) == (dataset.guid, dataset.snapshots_changed)",
        "was.snapshots_changed == dataset.snapshots_changed",
        _LOOKS,
    ),
    Mutant(
        "a list of snapshots that changed passes for the one that is known",
        "node/target_states.py",
        "and version == known.version:",
        "and version:",
        "tests/unit/node/test_target_states.py",
    ),
)
