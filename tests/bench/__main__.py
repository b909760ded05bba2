"""Prints the tables and writes build/bench.json."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.cores import planner, trust
from tests.bench.guest import guest
from tests.bench.measure import Row
from tests.bench.plane import plane
from tests.bench.startup import startup
from tests.bench.tick import tick

BENCHES: dict[str, Callable[[bool], list[Row]]] = {
    "planner": planner,
    "trust": trust,
    "policy": tick,
    "startup": startup,
    "plane": plane,
    "guest": guest,
}
OUT = Path("build/bench.json")


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; a quick run is to see that it works, its numbers are for nobody."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    parser.add_argument("--only", choices=BENCHES, action="append", metavar="NAME", help=", ".join(BENCHES))
    options = parser.parse_args(arguments)
    found: list[Row] = []
    for name in options.only or BENCHES:
        found += BENCHES[name](options.quick)
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    Console().print(table(found))
    return 0


def table(found: Sequence[Row]) -> Table:
    """One line a row, a rule between works."""
    drawn = Table("work", "tool", "runs", "median", "ratio to ours")
    for number, row in enumerate(found):
        first = not number or found[number - 1].work != row.work
        value = f"{row.median:.3g}" if row.median < 100 else f"{row.median:,.0f}"
        last = number + 1 == len(found) or found[number + 1].work != row.work
        cells = (
            row.work if first else "",
            row.tool,
            str(row.runs),
            f"{value} {row.unit}",
            f"{row.ratio:.2f}",
        )
        drawn.add_row(*cells, end_section=last)
    return drawn


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
