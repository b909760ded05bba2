"""``python3 -m red_team GROUP OPTIONS``: tries the attacks of a group. Prints their outcomes as one JSON list.

OPTIONS is JSON: ``only``, names of attacks; ``vault`` and ``other``, names of nodes.
"""

import asyncio
import json
import sys
from dataclasses import asdict

from .attack import tried
from .catalogue import GROUPS
from .flooding import half_a_stream
from .thief import Thief


async def main(group: str, options: dict[str, object]) -> None:
    thief = Thief.here()
    if group == "half":
        await half_a_stream(thief)
        return
    only = options.get("only")
    found = []
    for attack in GROUPS[group]:
        if only is None or attack.name == only:
            print(f"{attack.name} …", file=sys.stderr, flush=True)
            found.append(asdict(await tried(attack, thief)))
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
