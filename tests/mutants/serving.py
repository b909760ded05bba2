"""Bugs that would answer, store or show what they should not: node."""

from tests.mutants.mutant import Mutant

_PROTECTION = "tests/unit/node/test_protection.py"
_RULES = "tests/unit/node/test_peer_rules.py"
_OFFERS = "tests/unit/node/test_offers.py"
_SETTINGS = "tests/unit/node/test_settings.py"
_NFS = "tests/unit/node/test_nfs.py"
_REPLICAS = "tests/unit/node/test_replicas.py"
_REPLICATOR = "tests/unit/node/test_replicator.py"
_CHAINS = "tests/unit/node/test_chains.py"
_GUARD_ORDER = "tests/unit/node/test_guard_order.py"
_RIGHTS = "tests/unit/node/test_replica_rights.py"
_MANIFESTS = "tests/unit/node/test_manifests.py"
_RESTORE_HOST = "tests/unit/node/test_restore_host.py"
_RESTORE = "tests/unit/node/test_restore.py"

SERVING = (
    Mutant(
        "protected as of is later than the receipt: a sender's clock is believed",
        "node/protection.py",
        "moment = min(moment, received)",
        "moment = max(moment, received)",
        _PROTECTION,
    ),
    Mutant(
        "protected as of moves on although data was written since",
        "node/protection.py",
        "if source and written == 0 and int",
        "if source and int",
        _PROTECTION,
    ),
    Mutant(
        "a vault may read what others store",
        "node/peer_rules.py",
        '"replica.send": Verb(_FULL, _STORES',
        '"replica.send": Verb(_STORES, _STORES',
        _RULES,
    ),
    Mutant(
        "a verb that is in no table is allowed",
        "node/peer_rules.py",
        '        return Denied(\n            "refused_for_peers"',
        '        return None and Denied(\n            "refused_for_peers"',
        _RULES,
    ),
    Mutant(
        "true counts as the guid 1",
        "node/offers.py",
        "if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_64:",
        "if not isinstance(value, int) or not 0 < value <= _MAX_64:",
        _OFFERS,
    ),
    Mutant(
        "anything that is not nothing announces a raw stream",
        "node/offers.py",
        'return cls(dataset, args.get("raw") is True,',
        'return cls(dataset, bool(args.get("raw")),',
        _OFFERS,
    ),
    Mutant(
        "a mistyped key of the configuration is ignored",
        "node/settings_model.py",
        'extra="forbid"',
        'extra="ignore"',
        _SETTINGS,
    ),
    Mutant(
        "root on any permitted node is every user here",
        "node/exports.py",
        '"all": "root_squash,all_squash"',
        '"all": "root_squash"',
        _NFS,
    ),
    Mutant(
        "an export takes requests from any program of the other host",
        "node/exports.py",
        '"no_subtree_check", "secure"',
        '"no_subtree_check", "insecure"',
        _NFS,
    ),
    Mutant(
        "a share that is not mounted serves the directory below it",
        "node/exports.py",
        "    if not dataset.mounted:\n",
        "    if not dataset.mounted and dataset.keystatus:\n",
        _NFS,
    ),
    Mutant(
        "a vault stores plaintext",
        "node/replicas.py",
        "if self._only_raw() and not offer.raw:",
        "if self._only_raw() and not offer.raw and offer.from_guid:",
        _REPLICAS,
    ),
    Mutant(
        "a stored snapshot is received over under its name",
        "node/replicas.py",
        "if step.name in names:",
        "if step.name in guids:",
        _REPLICAS,
    ),
    Mutant(
        "success is reported although the snapshot is not here",
        "node/receipts.py",
        "return [step for step in self._offer.steps if step.to_guid not in self._given]",
        "return []",
        _REPLICAS,
    ),
    Mutant(
        "a received snapshot is not held, so its owner's zfs destroy -r takes it",
        "node/receipts.py",
        "await self._zfs.hold(FLOOR_HOLD, names)",
        "await self._zfs.hold(FLOOR_HOLD, [])",
        _CHAINS,
    ),
    Mutant(
        "a node reads the replicas of another",
        "node/replicas.py",
        "if wanted.owner not in owners:",
        "if not wanted.owner:",
        _REPLICAS,
    ),
    Mutant(
        "a full target is filled to the last byte",
        "node/replicas.py",
        "if offer.size > available:",
        "if offer.size > 2 * available + 1:",
        _REPLICATOR,
    ),
    Mutant(
        "the receiving user may destroy what it received",
        "node/replica_places.py",
        '("create", "mount", "receive:append")',
        '("create", "mount", "receive:append", "destroy")',
        _RIGHTS,
    ),
    Mutant(
        "the wrapped key of a replica is not pinned",
        "node/replicas.py",
        "            pinned=pinned,\n            user=",
        "            pinned=None,\n            user=",
        _REPLICAS,
    ),
    Mutant(
        "a hold is released before the bookmark that takes its place is made",
        "node/bases.py",
        "            async with asyncio.TaskGroup() as group:\n                if make:\n",
        "            if change.release:\n"
        "                await self._zfs.release(change.tag, change.release)\n"
        "            async with asyncio.TaskGroup() as group:\n                if make:\n",
        _GUARD_ORDER,
    ),
    Mutant(
        "a stream goes out before both of its ends are kept",
        "node/chain.py",
        "to=[step.to.guid for step in chunk]",
        "to=[]",
        _REPLICATOR,
    ),
    Mutant(
        "of several replicas the oldest is restored",
        "node/copies.py",
        "return max(\n        (copy for copy in copies if copy.credible),",
        "return min(\n        (copy for copy in copies if copy.credible),",
        _RESTORE,
    ),
    Mutant(
        "a restore ends one snapshot too early",
        "node/copies.py",
        "[: self.snapshots.index(snapshot) + 1]",
        "[: self.snapshots.index(snapshot)]",
        _RESTORE,
    ),
    Mutant(
        "plaintext that a vault offers is taken for a copy",
        "node/copies.py",
        'return self.encrypted or self.peer.role != "vault"',
        "return True",
        _RESTORE,
    ),
    Mutant(
        "what is below a dataset that failed is restored into an empty place",
        "node/restore_host.py",
        'if one.state == "failed"]',
        'if one.state == "kept"]',
        _RESTORE_HOST,
    ),
    Mutant(
        "a restored host is whole though a node did not answer",
        "node/restore_host.py",
        "bool(self.found.silent) or any(",
        "any(",
        _RESTORE_HOST,
    ),
    Mutant(
        "a restored host is whole though snapshots were left out",
        "node/restore_host.py",
        "return self.state in DONE and not (vouched is not None and vouched.left_out)",
        "return self.state in DONE",
        _RESTORE_HOST,
    ),
    Mutant(
        "an admin opens a manifest for whoever asks",
        "node/manifest_desk.py",
        "if signer != self._mesh.view().members[owner].public:",
        "if False:",
        _MANIFESTS,
    ),
    Mutant(
        "a manifest that another node signed is believed",
        "node/manifests.py",
        "if opened.signer != view.members[owner].public:",
        "if False:",
        _MANIFESTS,
    ),
    Mutant(
        "vaults are readers of manifests",
        "node/manifests.py",
        'if one.role == "admin"}',
        'if one.role != "client"}',
        _MANIFESTS,
    ),
    Mutant(
        "a drill destroys what it did not make",
        "node/scratch.py",
        'if parent.endswith(f"/{FOLDER}") and properties.get(MARK) == "yes":',
        "if True:",
        "tests/unit/node/test_drill.py",
    ),
    Mutant(
        "a restore moves a mountpoint unasked",
        "node/manifest_apply.py",
        '"mountpoint", "canmount", "sharenfs"',
        '"canmount", "sharenfs"',
        "tests/unit/node/test_restore_verbs.py",
    ),
)
