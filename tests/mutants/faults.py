"""Bugs in keeping the base that only a crash at the right moment shows."""

from tests.mutants.mutant import Mutant

_MATRIX = "tests/unit/faults/test_matrix.py"
_TROUBLES = "tests/unit/faults/test_troubles.py"

FAULTS = (
    Mutant(
        "the newest snapshot of a crash stays without its hold and receipt until there is another",
        "node/replicas.py",
        "        await self._hold_all(replica)  # of the newest there may never be another stream\n",
        "",
        _MATRIX,
    ),
    Mutant(
        "only the last step of a chunk is kept at home",
        "node/chain.py",
        "to=[step.to.guid for step in chunk]",
        "to=[step.to.guid for step in chunk[-1:]]",
        _MATRIX,
    ),
    Mutant(
        "the base and the step under way are bookmarked and not held",
        "node/bases.py",
        "                if change.hold:\n",
        "                if change.hold and not make:\n",
        _TROUBLES,
    ),
    Mutant(
        "what a crash left held at home is held for ever where there is nothing to send",
        "node/runs.py",
        "        if await self._bases.keep(kept, peer.id, common=common, to=cut_short) is kept:\n",
        "        if kept is not None:\n",
        _MATRIX,
    ),
    Mutant(
        "a newer target's word of a partial stream ends the replication to it",
        "node/target_states.py",
        'resume=_resume(answer.get("resume")),',
        'resume=None if answer.get("resume") is None else ResumeState(**answer["resume"]),',
        _TROUBLES,
    ),
    Mutant(
        "an answer without sense is remembered, and makes none for ever",
        "node/target_states.py",
        "        except (KeyError, TypeError, ValueError) as error:  # remembered, it would make no sense for ever\n"
        '            return PeerBroke(address, f"its answer makes no sense: {error!r}")\n'
        "        self._remember(",
        "        except (KeyError, TypeError, ValueError):\n            pass\n        self._remember(",
        _TROUBLES,
    ),
)
