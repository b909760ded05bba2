"""Bugs that would let somebody else than root at the target's console change the key that a replica is stored under."""

from tests.mutants.mutant import Mutant

_APPROVAL = "tests/unit/node/test_key_approval.py"
_OWN = "tests/unit/node/test_own_keys.py"

KEYS = (
    Mutant(
        "the stream that carries a key pins it",
        "node/receipts.py",
        "            if self.pinned is None:  # later",
        "            if True:  # later",
        _APPROVAL,
    ),
    Mutant(
        "a replica is bound to the key of the one above it",
        "node/replicas.py",
        '[KEY].source != "local":',
        '[KEY].source == "":',
        _APPROVAL,
    ),
    Mutant(
        "a full disk hides that a key changed",
        "node/replicas.py",
        "except OSError as trouble:",
        "except ValueError as trouble:",
        _APPROVAL,
    ),
    Mutant(
        "whatever waits is approved, also what came after root looked",
        "node/key_verbs.py",
        "if not chosen[0].fingerprint.startswith(fingerprint):",
        "if not fingerprint:",
        _APPROVAL,
    ),
    Mutant(
        "a letter of a fingerprint is enough",
        "node/key_verbs.py",
        "{{{SHORT},64}}",
        "{{1,64}}",
        _APPROVAL,
    ),
    Mutant(
        "everybody in the group may approve a key",
        "node/key_verbs.py",
        'api.register("key.approve", self.approve, access="root")',
        'api.register("key.approve", self.approve, access="group")',
        _APPROVAL,
    ),
    Mutant(
        "a key is approved although the old one could not be put back",
        "node/key_verbs.py",
        "if not self._keys.has(one.owner, one.dataset, one.pinned)]",
        "if not self._keys.has(one.owner, one.dataset, one.pinned) and not one.pinned]",
        _APPROVAL,
    ),
    Mutant(
        "a key is pinned before it is in the archive",
        "node/key_verbs.py",
        "            self._keys.keep(one.owner, one.dataset, one.fingerprint, one.payload)\n"
        "            await self._zfs.set(dataset, changes)\n",
        "            await self._zfs.set(dataset, changes)\n"
        "            self._keys.keep(one.owner, one.dataset, one.fingerprint, one.payload)\n",
        _APPROVAL,
    ),
    Mutant(
        "the keys of another node are approved along",
        "node/key_verbs.py",
        "return one.owner == other.owner and one.passphrase is not None and",
        "return one.passphrase is not None and",
        _APPROVAL,
    ),
    Mutant(
        "approving one key of an owner approves all",
        "node/key_verbs.py",
        "one.passphrase is not None and one.passphrase == other.passphrase",
        "one.passphrase is not None",
        _APPROVAL,
    ),
    Mutant(
        "the first key that was offered hides the next",
        "node/key_archive.py",
        "if known is not None and (known.fingerprint, known.pinned) == (offered.fingerprint, offered.pinned):",
        "if known is not None:",
        _APPROVAL,
    ),
    Mutant(
        "a node that offers many keys fills the disk",
        "node/key_archive.py",
        "others[: max(0, len(others) - PENDING_OF_ONE_OWNER + 1)]",
        "others[:0]",
        _APPROVAL,
    ),
    Mutant(
        "a node that offers many keys takes the place of another's",
        "node/key_archive.py",
        'self._root.glob(f"{owner}/*/{_PENDING}")',
        'self._root.glob(f"*/*/{_PENDING}")',
        _APPROVAL,
    ),
    Mutant(
        "a hint sends the owner nowhere",
        "node/run_errors.py",
        "told.hint if isinstance(told, PeerRefused) and told.hint else",
        "error.code if told is None else",
        _APPROVAL,
    ),
    Mutant(
        "a passphrase that is wrong is noted as verified",
        "node/own_keys.py",
        "        try:\n            await self._zfs.check_key(",
        "        try:\n            self._local.save_verified(key.root, int(self._now()))\n"
        "            await self._zfs.check_key(",
        _OWN,
    ),
    Mutant(
        "trying a passphrase loads the key",
        "node/own_keys.py",
        "await self._zfs.check_key(",
        "await self._zfs.load_key(",
        _OWN,
    ),
    Mutant(
        "a key that was tried is asked for again and again",
        "node/own_keys.py",
        "return self._local.verified().get(key.root)",
        "return self._local.verified().get(key.root + key.location)",
        _OWN,
    ),
)
