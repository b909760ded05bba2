"""Where those that replicate and restore find the nodes of the mesh."""

from dataclasses import dataclass
from typing import Protocol

from mesh.link import Link


@dataclass(frozen=True, slots=True)
class Peer:
    """An active node of the mesh, as jobs need it."""

    id: str
    name: str
    role: str
    address: str


class Directory(Protocol):
    """Where jobs find nodes."""

    def peer(self, name: str) -> Peer:
        """Raises MeshkeepError (not found) where no active node has that name."""
        ...

    def link(self) -> Link:
        """Raises MeshkeepError where this host is in no mesh."""
        ...
