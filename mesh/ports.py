"""The port numbers of the mesh. A source port below RESERVED shows that the agent of a host speaks."""

WIREGUARD = 51820
"""UDP, on every underlay address: the WireGuard of the mesh."""

DOOR = 51821
"""UDP, on every underlay address: the throw-away WireGuard an invite is redeemed through."""

MESH = 801
"""UDP for gossip and TCP for requests and streams, on the mesh address only."""

JOIN = 802
"""TCP, inside the door only."""

RESERVED = 1024
"""Below this only root (or who root lets) may bind: a peer's source port must be."""

LINK_SOURCES = range(600, RESERVED)
"""Where outgoing links take their source port from."""
