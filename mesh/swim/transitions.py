"""All transitions of a member's state, in one table.

Only the node itself raises its incarnation. A claim *alive* or *left* comes from the node, though others pass
it on; *suspect* is what anyone may say; *down* is no claim: it is the end of our own suspicion. Evidence is
either a claim with its incarnation compared to the one we hold, or something we saw:

    heard     any message from the node itself: it exists, though it may not hear us
    answered  it acknowledged our probe, directly or through a helper: it is there
    missed    it did not answer a probe, nor through helpers
    expired   our suspicion ran out unrefuted (or, for a quiet node, nothing was heard for long)

What is not in the table changes nothing. A suspicion of a node we never met is not ours to hold. A leaving
node may still answer, so only a newer incarnation brings back one that left.
"""

from typing import Literal

from mesh.swim.model import State

Claim = Literal["alive", "suspect", "left"]
Age = Literal["older", "same", "newer"]
Evidence = tuple[Claim, Age] | Literal["heard", "answered", "missed", "expired"]

TABLE: dict[tuple[State, Evidence], State] = {
    ("unknown", "heard"): "alive",
    ("unknown", "answered"): "alive",
    ("unknown", ("alive", "same")): "alive",
    ("unknown", ("alive", "newer")): "alive",
    ("unknown", ("left", "same")): "left",
    ("unknown", ("left", "newer")): "left",
    ("alive", "missed"): "suspect",
    ("alive", "expired"): "down",
    ("alive", ("suspect", "same")): "suspect",
    ("alive", ("suspect", "newer")): "suspect",
    ("alive", ("left", "same")): "left",
    ("alive", ("left", "newer")): "left",
    ("suspect", "answered"): "alive",
    ("suspect", "expired"): "down",
    ("suspect", ("alive", "newer")): "alive",
    ("suspect", ("left", "same")): "left",
    ("suspect", ("left", "newer")): "left",
    ("down", "answered"): "alive",
    ("down", ("alive", "newer")): "alive",
    ("down", ("left", "same")): "left",
    ("down", ("left", "newer")): "left",
    ("left", ("alive", "newer")): "alive",
}


def after(state: State, evidence: Evidence) -> State:
    """The state that follows; the same one where the evidence changes nothing."""
    return TABLE.get((state, evidence), state)


def age(claimed: int, held: int) -> Age:
    """How the incarnation of a claim compares to the one we hold."""
    if claimed == held:
        return "same"
    return "newer" if claimed > held else "older"
