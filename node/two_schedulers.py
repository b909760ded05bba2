"""What sanoid, where it is at work, has too is left to it. Pure."""

from node.rulebook import some, without
from node.sanoid_timer import UNIT, UNKNOWN, OtherScheduler, stop_command
from policy.rules import Resolution
from policy.tick import Notice


def aside(resolution: Resolution, other: OtherScheduler) -> tuple[Resolution, list[Notice]]:
    """*resolution* without what *other* manages, or without everything if that cannot be told; and why."""
    ours = {name for name, one in resolution.chosen.items() for name in (name, *one.along)}
    theirs = ours if other.trouble else ours & other.datasets
    if not theirs:
        return resolution, []
    why = f"left to sanoid: {other.how}"
    stop = stop_command(other.how)
    if other.trouble:
        text = (
            f"{other.how}, and what it manages cannot be told, but sanoid may run all the same: every dataset is "
            f"left to it, nothing is taken or pruned, until that is mended or sanoid is stopped: {other.trouble}"
        )
        told = Notice("sanoid_unknown", "", text, f"meshkeep policy test /etc/sanoid; {stop}")
    elif other.how == UNKNOWN:
        text = f"{UNKNOWN}: until it can, {some(theirs)}, which it would manage too, are left alone"
        told = Notice("sanoid_unknown", min(theirs), text, f"systemctl is-active {UNIT}")
    else:
        text = f"{other.how} and manages {some(theirs)} too: they are left to sanoid, one scheduler is enough"
        told = Notice("two_schedulers", min(theirs), text, f"meshkeep config import-sanoid; {stop}")
    return without(resolution, theirs, why), [told]
