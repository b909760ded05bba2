"""Bugs in judging the records of a stream, and in giving many steps to ZFS one after the other."""

from tests.mutants.mutant import Mutant

_RECORDS = "tests/unit/replication/test_records.py"
_DATA_PLANE = "tests/unit/replication/test_data_plane.py"
_BLOCKING = "tests/unit/replication/test_blocking.py"

RECORDS = (
    Mutant(
        "a block may be longer on the wire than it is",
        "replication/records.py",
        'bytes at {offset}, where blocks have at most {self._block}")\n        if packed > size:\n',
        'bytes at {offset}, where blocks have at most {self._block}")\n        if packed > _ALL:\n',
        _RECORDS,
    ),
    Mutant(
        "a record of another snapshot gets through",
        "replication/records.py",
        "        # Every few KiB one: in line what the others leave to functions.\n        if guid != self._guid:",
        "        if not guid:",
        _RECORDS,
    ),
    Mutant(
        "a type that lies beyond the tables of ZFS gets through",
        "replication/records.py",
        "*range(54)",
        "*range(64)",
        _RECORDS,
    ),
    Mutant(
        "a header that is not complete goes to ZFS unseen",
        "replication/records.py",
        "        self.position += at\n        return at\n",
        "        self.position += at\n        return size if not self.left and not self.ended else at\n",
        _RECORDS,
    ),
    Mutant(
        "the key of the first step does not pin the others",
        "replication/receiver.py",
        "            pin = pin or self._judged[0].key_fingerprint\n",
        "",
        _DATA_PLANE,
    ),
    Mutant(
        "what comes behind the last stream is not looked at",
        "replication/receiver.py",
        "        self._refuse_more()\n\n",
        "\n",
        _DATA_PLANE,
    ),
    Mutant(
        "after a step that failed the next one is tried",
        "replication/blocking.py",
        "                finally:\n                    os.close(fd)\n                self.done += 1\n",
        "                except ZfsError:\n                    pass\n"
        "                finally:\n                    os.close(fd)\n                self.done += 1\n",
        _BLOCKING,
    ),
)
