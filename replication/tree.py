"""Rules over trees: which datasets each rule means, and who goes first. Pure.

A replica lies below its parent's replica. Where the parent's is not there yet, the target makes an empty placeholder
for it, and nothing can be received over that without force: so whoever has a rule goes before what lies below it.
An encryption root is an ancestor of what inherits its key, and comes first by the same order.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from zfs.names import is_below


@dataclass(frozen=True, slots=True)
class Branch:
    """What a rule covers: *root*, and with *recursive* what lies below it, without *exclude* and what is below them."""

    root: str
    target: str
    recursive: bool = False
    exclude: tuple[str, ...] = ()

    def covers(self, dataset: str) -> bool:
        """Whether *dataset* is meant."""
        if dataset == self.root:
            return True
        if not self.recursive or not is_below(dataset, self.root):
            return False
        return not any(dataset == one or is_below(dataset, one) for one in self.exclude)


def expand(
    branches: Iterable[Branch], present: Collection[str], passed_over: Collection[str] = ()
) -> dict[tuple[str, str], Branch]:
    """The branch for each (dataset, target), parents before children; where several cover one, the nearest.

    A root is in it whether it is present or not: that it is missing is for its own job to say. *passed_over* are trees
    that no recursion goes into, such as the replicas that this node keeps for others.
    """
    found: dict[tuple[str, str], Branch] = {}
    for branch in sorted(branches, key=lambda one: one.root.count("/")):
        found[branch.root, branch.target] = branch
        if not branch.recursive:
            continue
        for dataset in present:
            if branch.covers(dataset) and not any(_within(dataset, one) for one in passed_over):
                found[dataset, branch.target] = branch
    return {key: found[key] for key in sorted(found, key=lambda key: (key[0].count("/"), key))}


def _within(dataset: str, root: str) -> bool:
    return dataset == root or is_below(dataset, root)
