"""All mutants."""

from tests.mutants.keeping import KEEPING
from tests.mutants.serving import SERVING
from tests.mutants.trusting import TRUSTING

MUTANTS = (*KEEPING, *TRUSTING, *SERVING)
