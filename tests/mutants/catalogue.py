"""All mutants."""

from tests.mutants.attacking import ATTACKING
from tests.mutants.beginning import BEGINNING
from tests.mutants.chains import CHAINS
from tests.mutants.faults import FAULTS
from tests.mutants.forgetting import FORGETTING
from tests.mutants.governing import GOVERNING
from tests.mutants.keeping import KEEPING
from tests.mutants.keys import KEYS
from tests.mutants.policy import POLICY
from tests.mutants.proving import PROVING
from tests.mutants.records import RECORDS
from tests.mutants.returning import RETURNING
from tests.mutants.rooting import ROOTING
from tests.mutants.serving import SERVING
from tests.mutants.trusting import TRUSTING

MUTANTS = (
    *ATTACKING,
    *FAULTS,
    *BEGINNING,
    *CHAINS,
    *FORGETTING,
    *GOVERNING,
    *POLICY,
    *KEEPING,
    *KEYS,
    *PROVING,
    *RECORDS,
    *RETURNING,
    *ROOTING,
    *TRUSTING,
    *SERVING,
)
