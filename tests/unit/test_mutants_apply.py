"""The seeded bugs of tests/mutants/ fit the code as it is: a patch that no longer applies proves nothing."""

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import DoesNotApply, Mutant
from tests.mutants.runner import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks.replace(" ", "_"))
def test_it_applies(mutant: Mutant) -> None:
    mutant.check(ROOT)


@pytest.mark.parametrize("old", ["not in it", "import"])
def test_one_that_does_not_fit_exactly_once_is_told(old: str) -> None:
    with pytest.raises(DoesNotApply, match="times, not once"):
        Mutant("", "policy/due.py", old, "x", "tests/unit/policy/test_due.py").check(ROOT)


def test_one_that_makes_no_python_is_told() -> None:
    with pytest.raises(DoesNotApply, match="no Python"):
        Mutant("", "policy/due.py", "elif last < slot:", "elif:", "tests/unit/policy/test_due.py").check(ROOT)
