"""What a command costs before it does anything: shells start one at every TAB."""

import subprocess
import sys
from functools import partial

from tests.bench.measure import OURS, Row, Taken, cpu, rows

MAIN = "import sys; from node.cli import main; sys.exit(main())"


def startup(quick: bool) -> list[Row]:
    """`version`, and `status` up to where it would ask the agent, beside an interpreter that does nothing."""
    runs = 5 if quick else 15
    nothing = Taken("python3 -c pass", cpu(lambda: _run("pass"), runs))
    found = []
    for words in (["version"], ["status", "--help"]):
        ours = Taken(OURS, cpu(partial(_run, MAIN, *words), runs))
        found += rows(f"meshkeep {' '.join(words)}", "CPU ms", [ours, nothing])
    return found


def _run(code: str, *words: str) -> None:
    subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.DEVNULL)
