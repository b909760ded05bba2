"""Many membership cores under one virtual clock and network: the same seed, the same run, to the byte.

The cores are those of `mesh.swim`, unchanged; the network knows what WireGuard adds. No socket, no clock, no sleep.
"""

from mesh.simulation.experiment import Experiment, Outcome, run
from mesh.simulation.world import Seen, Weather, World, node_id

__all__ = ["Experiment", "Outcome", "Seen", "Weather", "World", "node_id", "run"]
