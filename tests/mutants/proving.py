"""Bugs by which a copy would be called proven that is not, a drill would not run, or mending would do harm."""

from tests.mutants.mutant import Mutant

_DRILL = "tests/unit/node/test_drill.py"
_SCHEDULE = "tests/unit/node/test_drill_schedule.py"
_ROUNDS = "tests/unit/node/test_drill_rounds.py"
_FETCH = "tests/unit/node/test_file_fetch.py"
_DOCTOR = "tests/unit/node/test_doctor.py"

PROVING = (
    Mutant(
        "a copy that was received and never opened is proven",
        "node/drill.py",
        '        if report["state"] == PROVEN:\n',
        '        if report["state"]:\n',
        _DRILL,
    ),
    Mutant(
        "a snapshot of the same name is taken for the original",
        "node/drill.py",
        "        here = next((one for one in snapshots if one.guid == copy.newest.guid), None)\n",
        "        here = next((one for one in snapshots if one.name == copy.newest.name), None)\n",
        _DRILL,
    ),
    Mutant(
        "a copy whose files are others than the original's is proven",
        "node/drill.py",
        "    if seen.different:\n",
        "    if not seen.files and seen.different:\n",
        _DRILL,
    ),
    Mutant(
        "a link in a copy leads to the files of this host",
        "node/beneath.py",
        "_WAY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "_WAY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        _FETCH,
    ),
    Mutant(
        "a drill fills the pool",
        "node/scratch.py",
        "        if needed > room:\n",
        "        if needed > room * 100:\n",
        _DRILL,
    ),
    Mutant(
        "a proof dated in the future puts off every drill",
        "node/drill_schedule.py",
        "at > now + AHEAD else",
        "at < 0 else",
        _SCHEDULE,
    ),
    Mutant(
        "a copy that nobody could open is not overdue",
        "node/drill_rounds.py",
        "        late = [case for case in cases if case not in failed and overdue(case, now)]\n",
        "        late = [case for case in cases if case not in (*failed, *closed) and overdue(case, now)]\n",
        _ROUNDS,
    ),
    Mutant(
        "a key file that everybody may read is used",
        "node/drill_rounds.py",
        "    if mode & 0o077:\n",
        "    if mode & 0o002:\n",
        _ROUNDS,
    ),
    Mutant(
        "a copy that does not open is called fresh",
        "node/replication_check.py",
        "Level.CRITICAL if one.wanting else Level.WARNING",
        "Level.OK",
        _ROUNDS,
    ),
    Mutant(
        "doctor opens what a link in our directory points at",
        "node/doctor.py",
        "        if not stat.S_ISLNK(mode) and mode & 0o077:\n",
        "        if mode & 0o077:\n",
        _DOCTOR,
    ),
    Mutant(
        "doctor takes the names of a mesh away that this host is in",
        "node/doctor.py",
        "        if agent.joined is False and BEGIN in text.splitlines():\n",
        "        if BEGIN in text.splitlines():\n",
        _DOCTOR,
    ),
)
