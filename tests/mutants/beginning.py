"""Bugs of the first days: copies, seeds and keys that are believed without proof, and data that is left behind."""

from tests.mutants.mutant import Mutant

_ADOPT = "tests/unit/node/test_adopt.py"
_SEED = "tests/unit/node/test_seed.py"
_ENCRYPT = "tests/unit/node/test_encrypt.py"
_KEYS = "tests/unit/node/test_key_sheet.py"
_DNS = "tests/unit/node/test_resolver.py"

BEGINNING = (
    Mutant(
        "a copy that has gone its own way is adopted",
        "node/adopt_rules.py",
        "    if base is not None and newest.guid != base.guid:",
        "    if base is None:",
        _ADOPT,
    ),
    Mutant(
        "an adopted copy takes whatever key comes first",
        "node/adopt.py",
        "            await self._pin(owner, part)",
        "            await self._zfs.inherit(part.name, KEY)",
        _ADOPT,
    ),
    Mutant(
        "an interrupted adoption forgets how it was",
        "node/adopt_rules.py",
        "    was = dict(earlier) if isinstance(earlier, dict) else {}",
        "    was = {}",
        _ADOPT,
    ),
    Mutant(
        "a seed is whoever's that is named in it",
        "node/seed.py",
        "        if self._public(index.owner) != index.public:",
        "        if not index.public:",
        _SEED,
    ),
    Mutant(
        "a damaged stream reaches ZFS",
        "node/seed.py",
        "== (piece.size, piece.sha256)",
        "!= (0, piece.sha256)",
        _SEED,
    ),
    Mutant(
        "what is written while a dataset is copied is left behind",
        "node/encrypt.py",
        "            await self._snapshot(state)\n"
        "            await self._catch_up(state, progress)\n"
        "            source, made",
        "            source, made",
        _ENCRYPT,
    ),
    Mutant(
        "a copy that was not compared takes the place of what a person renamed",
        "node/encrypt.py",
        "if left and not state.compared:",
        "if False:",
        _ENCRYPT,
    ),
    Mutant(
        "a copy that differs takes the dataset's place",
        "node/encrypt.py",
        "        if told.differ:",
        "        if told.differ and limit is None and not told.files:",
        _ENCRYPT,
    ),
    Mutant(
        "a dataset that cannot be exchanged stays read-only",
        "node/encrypt.py",
        "                await self._note(state)\n                await self._thaw(state)",
        "                await self._note(state)",
        _ENCRYPT,
    ),
    Mutant(
        "a key is written over what is there",
        "node/key_sheet.py",
        "os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
        "os.O_CREAT | os.O_NOFOLLOW",
        _KEYS,
    ),
    Mutant(
        "a DNS that is dead takes the addresses away",
        "node/resolver.py",
        "        if usable and set(usable) != set(known.addresses):",
        "        if set(usable) != set(known.addresses):",
        _DNS,
    ),
)
