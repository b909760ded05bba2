"""Bugs that would send the wrong snapshots or lose their base: replication, zfs."""

from tests.mutants.mutant import Mutant

_PLAN = "tests/unit/replication/test_plan.py"
_GUARD = "tests/unit/replication/test_guard.py"
_TREE = "tests/unit/replication/test_tree.py"
_WINDOW = "tests/unit/replication/test_window.py"
_RULES = "tests/unit/node/test_replication_rules.py"
_LEFTOVERS = "tests/unit/node/test_leftovers.py"
_DATA_PLANE = "tests/unit/replication/test_data_plane.py"
_TRANSFER = "tests/unit/replication/test_transfer.py"
_STREAM = "tests/unit/zfs/test_stream.py"

PLANNER = (
    Mutant(
        "versions are matched by their names",
        "replication/plan.py",
        "(found := ours.get(snapshot.guid))",
        "(found := next((one for one in source.snapshots if one.name == snapshot.name), None))",
        _PLAN,
    ),
    Mutant(
        "a target that went on by itself is overwritten",
        "replication/plan.py",
        "    if ahead:\n",
        "    if len(ahead) > 1:\n",
        _PLAN,
    ),
    Mutant(
        "the base is the oldest common snapshot and not the newest",
        "replication/plan.py",
        "newest, base = max(common",
        "newest, base = min(common",
        _PLAN,
    ),
    Mutant(
        "bookmarks are no base, so pruning the source ends the replication",
        "replication/history.py",
        "{bookmark.guid: bookmark for bookmark in reversed(self.bookmarks)}",
        "{}",
        _PLAN,
    ),
    Mutant(
        "a plaintext dataset goes to a vault",
        "replication/plan.py",
        '(rule.target_role == "vault" or not rule.allow_plaintext)',
        "not rule.allow_plaintext",
        _PLAN,
    ),
    Mutant(
        "raw and plain streams of one replica are mixed",
        "replication/plan.py",
        "if there.snapshots and rule.raw != source.encrypted:",
        "if not there.snapshots and rule.raw != source.encrypted:",
        _PLAN,
    ),
    Mutant(
        "an encrypted dataset is sent in the clear",
        "replication/plan.py",
        "raw=source.encrypted, reasons=tuple(reasons))",
        "raw=False, reasons=tuple(reasons))",
        _PLAN,
    ),
    Mutant(
        "a dataset that is none of ours is received over",
        "replication/plan.py",
        "return conflicts.occupied(source, rule)",
        "return None",
        _PLAN,
    ),
    Mutant(
        "a stream that begins at another base is resumed",
        "replication/plan.py",
        "if state.from_guid != (base.guid if base else None):",
        "if state.from_guid is None and base:",
        _PLAN,
    ),
    Mutant(
        "a snapshot whose name another one has on the target is sent under that name",
        "replication/plan.py",
        'f"{snapshot.name}_{snapshot.guid:016x}" if snapshot.name in self._taken else snapshot.name',
        "snapshot.name",
        _PLAN,
    ),
    Mutant(
        "what was received after a resume is sent once more",
        "replication/plan.py",
        "start = first.to if isinstance(first, Resume) else base",
        "start = base",
        _PLAN,
    ),
)

GUARD = (
    Mutant(
        "the snapshot being sent gets no bookmark, so losing it loses the base",
        "replication/guard.py",
        "if guid in needed and guid not in marks",
        "if guid == common and guid not in marks",
        _GUARD,
    ),
    Mutant(
        "the snapshots of a running step are not held",
        "replication/guard.py",
        "busy = needed if to else set()",
        "busy = set[int]()",
        _GUARD,
    ),
    Mutant(
        "a target whose pool is not imported loses its cursor",
        "replication/guard.py",
        "    if common is None:\n        return Guard(tag, create, hold)\n",
        "",
        _GUARD,
    ),
    Mutant(
        "a bookmark that lies about its guid counts as ours and is destroyed",
        "replication/guard.py",
        "if match and int(match[2], 16) == bookmark.guid else None",
        "if match else None",
        _GUARD,
    ),
    Mutant(
        "the floor's hold counts as one for a target and is released",
        "replication/guard.py",
        "if match and tag != FLOOR_HOLD else None",
        "if match else None",
        _GUARD,
    ),
    Mutant(
        "another target's cursor is destroyed",
        "replication/guard.py",
        "for mark in source.bookmarks if cursor_of(mark) == target_id]",
        "for mark in source.bookmarks if cursor_of(mark)]",
        _GUARD,
    ),
    Mutant(
        "a hold for an absent target goes without a bookmark in its place",
        "replication/guard.py",
        "        if one.guid not in marked\n",
        "        if one.guid in marked\n",
        _GUARD,
    ),
    Mutant(
        "what is kept for a node that the mesh never had is released without asking",
        "replication/guard.py",
        "certain=False)",
        "certain=True)",
        _GUARD,
    ),
    Mutant(
        "a rule that was taken out by mistake loses its young cursor",
        "replication/guard.py",
        "if mark.creation >= old)",
        "if mark.creation < old)",
        _GUARD,
    ),
    Mutant(
        "an absent target pins snapshots for ever",
        "replication/guard.py",
        "return away > self.age or",
        "return away < 0 or",
        _GUARD,
    ),
)

RULES = (
    Mutant(
        "what a rule does not select is no base",
        "replication/plan.py",
        "    ours = source.by_guid()\n",
        "    ours = {\n"
        "        guid: one for guid, one in source.by_guid().items()\n"
        "        if not isinstance(one, Snapshot) or rule.selector.wants(one)\n"
        "    }\n",
        _PLAN,
    ),
    Mutant(
        "what a rule does not select is sent",
        "replication/plan.py",
        "if rule.selector.wants(one)]",
        "]",
        _PLAN,
    ),
    Mutant(
        "children go before their parents",
        "replication/tree.py",
        "for key in sorted(found, key=lambda key: (key[0].count",
        "for key in sorted(found, key=lambda key: (-key[0].count",
        _TREE,
    ),
    Mutant(
        "what is below an excluded dataset is sent",
        "replication/tree.py",
        "any(dataset == one or is_below(dataset, one) for one in self.exclude)",
        "any(dataset == one for one in self.exclude)",
        _TREE,
    ),
    Mutant(
        "a first stream runs outside of its window",
        "replication/window.py",
        "return self.start <= minute < self.end",
        "return self.start <= minute",
        _WINDOW,
    ),
    Mutant(
        "a child is sent before its parent is stored, and a placeholder blocks the parent for good",
        "node/runs.py",
        "if above is not None and not there.exists:",
        "if above is not None and there.exists:",
        _RULES,
    ),
    Mutant(
        "a paused rule forgets its base when the agent restarts",
        "node/replicator.py",
        "            await self._runs.recall(job)\n",
        "            pass\n",
        _RULES,
    ),
    Mutant(
        "a mistake in the configuration releases what its rules need",
        "node/leftovers.py",
        "        if nodes is None or not self._sound():\n            return ()\n",
        "        if nodes is None:\n            return ()\n",
        _LEFTOVERS,
    ),
)

STREAMS = (
    Mutant(
        "a stream of another snapshot than was announced is received",
        "replication/announced.py",
        "if begin.to_guid != job.to_guid:",
        "if begin.to_guid == 0:",
        _DATA_PLANE,
    ),
    Mutant(
        "a stream on another base than was announced is received",
        "replication/announced.py",
        "if begin.from_guid != job.from_guid:",
        "if begin.from_guid and not job.from_guid:",
        _DATA_PLANE,
    ),
    Mutant(
        "a plaintext stream is received where a raw one was announced",
        "replication/announced.py",
        "if begin.raw != job.raw:",
        "if begin.raw and not job.raw:",
        _DATA_PLANE,
    ),
    Mutant(
        "a stream with another wrapped key makes every older snapshot unopenable",
        "replication/announced.py",
        "job.key_fingerprint is not None and fingerprint != job.key_fingerprint",
        "job.key_fingerprint is not None and fingerprint is None",
        _DATA_PLANE,
    ),
    Mutant(
        "a package of several streams gets through",
        "replication/announced.py",
        "if begin.compound:",
        "if begin.compound and begin.redacted:",
        _DATA_PLANE,
    ),
    Mutant(
        "a refused stream reaches ZFS all the same",
        "replication/receiver.py",
        "            raise judged.refusal\n",
        "            pass\n",
        _DATA_PLANE,
    ),
    Mutant(
        "a worker that says it failed is taken for one that did not",
        "replication/transfer.py",
        "        if said.code:\n",
        "        if said.code and self._given_up:\n",
        _TRANSFER,
    ),
    Mutant(
        "the fingerprint of a wrapped key does not cover the master key",
        "zfs/stream.py",
        "for part in (self.master_key, self.hmac_key, self.iv, self.mac):",
        "for part in (self.hmac_key, self.iv, self.mac):",
        _STREAM,
    ),
    Mutant(
        "a damaged resume token is believed",
        "zfs/stream.py",
        "if fletcher4_first(packed) != int(match[1], 16):",
        "if fletcher4_first(packed) == 0:",
        _STREAM,
    ),
    Mutant(
        "a stream that makes a clone is taken for a plain one",
        "zfs/stream.py",
        "return bool(self.flags & 1)",
        "return bool(self.flags & 2)",
        _STREAM,
    ),
)

KEEPING = (*PLANNER, *GUARD, *RULES, *STREAMS)
