"""All attacks, by group, in the order in which they are tried."""

from . import asking, flooding, forging, sneaking, swearing
from .attack import Attack

GROUPS = {
    one.group: one.all
    for one in (
        asking.attack,
        forging.attack,
        swearing.attack,
        sneaking.attack,
        flooding.holding,
        flooding.attack,
        sneaking.leaving,
    )
}
ATTACKS: list[Attack] = [one for group in GROUPS.values() for one in group]
