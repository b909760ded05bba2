"""`python -m tests.mutants [WORD…]`: all mutants, or those whose text has one of the words."""

import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import DoesNotApply, Mutant
from tests.mutants.runner import ROOT, copy_tree, run, run_tests

JOBS = max(1, min(4, os.cpu_count() or 1))
BASELINE_S = 900


def main(words: Sequence[str]) -> int:
    """0 if the tests pass as they are and every mutant was caught."""
    chosen = [m for m in MUTANTS if not words or any(word in f"{m.breaks} {m.file}" for word in words)]
    rotten = 0
    for mutant in chosen:
        try:
            mutant.check(ROOT)
        except DoesNotApply as error:
            rotten += 1
            print(f"DOES NOT APPLY  {mutant.breaks}\n                {error}")
    if rotten:
        print(f"{rotten} patches do not apply any more: the code moved on, and tests/mutants must follow")
        return 1
    with tempfile.TemporaryDirectory(prefix="meshkeep-mutants-") as scratch:
        return _baseline(chosen, Path(scratch)) or _all(chosen, Path(scratch))


def _baseline(chosen: Sequence[Mutant], scratch: Path) -> int:
    """Tests that fail anyway would catch anything."""
    tree = scratch / "as-it-is"
    copy_tree(tree)
    tests = sorted({mutant.tests for mutant in chosen})
    shares = [share for start in range(JOBS) if (share := tests[start::JOBS])]
    with ThreadPoolExecutor(JOBS) as pool:
        for code, said in pool.map(lambda share: run_tests(tree, share, BASELINE_S), shares):
            if code != 0:
                print(f"the tests do not pass without any mutant (exit code {code}):\n{said}")
                return 1
    return 0


def _all(chosen: Sequence[Mutant], scratch: Path) -> int:
    caught = survived = 0
    for result in run(chosen, scratch, JOBS):
        caught += result.caught
        survived += not result.caught
        print(f"{'caught  ' if result.caught else 'SURVIVED'}  {result.mutant.file}: {result.mutant.breaks}")
        if result.why:
            print(f"          {result.why}")
        sys.stdout.flush()
    print(f"{caught} caught, {survived} survived")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
