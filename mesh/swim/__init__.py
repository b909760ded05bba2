"""SWIM membership as a sans-IO core: datagrams and time in, datagrams and events out."""

from mesh.swim.core import Swim
from mesh.swim.model import Event, MemberState, Peer, Rng, SwimConfig

__all__ = ["Event", "MemberState", "Peer", "Rng", "Swim", "SwimConfig"]
