"""Which wrapped keys of one replica may leave the archive: none that a stored snapshot may need. Pure.

A raw stream brings its wrapped key with it, and the archive has what an older one is put back from. So a wrap stays
while a snapshot that was received under it is stored, and all stay while that is not known of every snapshot.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

MOST = 16
"""Wraps of one replica that go in one round."""


@dataclass(frozen=True, slots=True)
class Lying:
    """What lies of one replica, in its place or aside: its snapshots with the fingerprint each was received under (""
    for not known), the pinned fingerprint, and whether a partly received stream waits to be gone on with.
    """

    under: Mapping[str, str]
    pinned: str | None
    partial: bool


def may_go(archived: Collection[str], lying: Lying, aside: Collection[Lying] = ()) -> list[str]:
    """The fingerprints of *archived* that nothing stored needs, at most `MOST`. *aside* are the old replicas that were
    kept aside: their wraps are in the same archive.
    """
    stored = [lying, *(one for one in aside if one.under or one.partial)]
    if not lying.under or not all(map(_known, stored)):
        return []
    needed = {fingerprint for one in stored for fingerprint in (*one.under.values(), one.pinned)}
    return sorted(one for one in archived if one not in needed)[:MOST]


def _known(lying: Lying) -> bool:
    return lying.pinned is not None and not lying.partial and all(lying.under.values())
