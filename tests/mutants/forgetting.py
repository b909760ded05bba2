"""Bugs that would make a target forget what it must keep, or keep what it may forget: retention of replicas."""

from tests.mutants.mutant import Mutant

_RETENTION = "tests/unit/replication/test_target_retention.py"
_KEEPER = "tests/unit/node/test_replica_keeper.py"

POLICY = (
    Mutant(
        "the age is that which the source claims, not that since receipt",
        "replication/target_retention.py",
        "received = min(one.counted, now)",
        "received = min(one.counted, now, one.snapshot.creation)",
        _RETENTION,
    ),
    Mutant(
        "a snapshot goes a second before the floor is over",
        "replication/target_retention.py",
        "if now - one.counted < keep.floor:",
        "if now - one.counted < keep.floor - 1:",
        _RETENTION,
    ),
    Mutant(
        "a later arrival displaces the first of its period",
        "replication/target_retention.py",
        "    for one in settled:\n        number",
        "    for one in reversed(settled):\n        number",
        _RETENTION,
    ),
    Mutant(
        "the windows are counted back from what just arrived",
        "replication/target_retention.py",
        "for name, place in _firsts(period, keep, settled):",
        "for name, place in _firsts(period, keep, arrived):",
        _RETENTION,
    ),
    Mutant(
        "one period fewer is kept than the policy says",
        "replication/target_retention.py",
        "last - number < count:",
        "last - number < count - 1:",
        _RETENTION,
    ),
    Mutant(
        "a creation in the future is believed",
        "replication/target_retention.py",
        "max(0, min(one.snapshot.creation, received))",
        "min(one.snapshot.creation, 2**34)",
        _RETENTION,
    ),
    Mutant(
        "one forged snapshot takes the place of the newest that stays for ever",
        "replication/target_retention.py",
        "kept[settled[-1].snapshot.name].append(",
        "kept[arrived[-1].snapshot.name].append(",
        _RETENTION,
    ),
    Mutant(
        "arrivals are ordered by what the source claims",
        "replication/target_retention.py",
        "key=lambda one: (one.snapshot.createtxg, one.snapshot.name)",
        "key=lambda one: (one.snapshot.creation, one.snapshot.name)",
        _RETENTION,
    ),
    Mutant(
        "the receipt of a slow clock makes a snapshot older than those before it",
        "replication/target_retention.py",
        "counted = max(counted, received)",
        "counted = received",
        _RETENTION,
    ),
    Mutant(
        "the base of a partly received stream goes",
        "replication/target_retention.py",
        "if snapshot.guid == base else guards",
        "if snapshot.createtxg == base else guards",
        _RETENTION,
    ),
    Mutant(
        "all that may go goes in one run",
        "replication/target_retention.py",
        "if verdict.goes and room == 0:",
        "if verdict.goes and room < -1000:",
        _RETENTION,
    ),
)

CLOCK = (
    Mutant(
        "a clock that is ahead of the uptime is believed",
        "replication/target_clock.py",
        'return "ahead" if gap > AHEAD and now.boot == marks.last.boot else ""',
        'return ""',
        _RETENTION,
    ),
    Mutant(
        "a clock that goes back is believed",
        "replication/target_clock.py",
        "if gap < -BEHIND or now.wall <",
        "if now.wall <",
        _RETENTION,
    ),
    Mutant(
        "a clock that lies before a receipt is believed",
        "replication/target_clock.py",
        "max(marks.since, newest_receipt)",
        "marks.since",
        _RETENTION,
    ),
    Mutant(
        "a jump is forgotten when the clock looks right again",
        "replication/target_clock.py",
        "    if marks.jump or jump:\n",
        "    if jump:\n",
        _RETENTION,
    ),
    Mutant(
        "small jumps add up to a floor that nobody waited for",
        "replication/target_clock.py",
        "return begun + sum(gap.seconds for gap in self.gaps if begun <= gap.until)",
        "return begun",
        _RETENTION,
    ),
    Mutant(
        "for what is older than the counting, time that nobody saw pass counts",
        "replication/target_clock.py",
        "for gap in self.gaps if begun <= gap.until)",
        "for gap in self.gaps if begun <= gap.until) - (begun - received)",
        _RETENTION,
    ),
    Mutant(
        "the time of the last boot counts as uptime of this one",
        "replication/target_clock.py",
        "up = now.up - before.up if now.boot == before.boot else now.up",
        "up = max(now.up - before.up, now.up)",
        _RETENTION,
    ),
    Mutant(
        "what was remembered is lost, and old receipts count as if nothing had been",
        "replication/target_clock.py",
        "return Marks(now, now.wall)",
        "return Marks(now, 0)",
        _KEEPER,
    ),
    Mutant(
        "after a step back the receipts of a clock in doubt count",
        "replication/target_clock.py",
        'if marks.jump == "behind" or not 0 <= gap < floor:',
        "if not 0 <= gap < floor:",
        _RETENTION,
    ),
)

KEEPER = (
    Mutant(
        "snapshots go although the clock has jumped",
        "node/replica_keeper.py",
        "going = [] if survey.marks.jump else [verdict",
        "going = [verdict",
        _KEEPER,
    ),
    Mutant(
        "an agent that starts again and again lets go each time",
        "node/replica_keeper.py",
        "return marks is None or bool(marks.jump) or not 0 <= elapsed(marks.last, now) < EVERY",
        "return True",
        _KEEPER,
    ),
    Mutant(
        "a round is noted only after it: a crash repeats it at once",
        "node/replica_keeper.py",
        "        await self._zfs.set(survey.root, {MARKS: dump(survey.marks)})\n        self._told(why",
        "        self._told(why",
        _KEEPER,
    ),
    Mutant(
        "a missing receipt is as old as time",
        "node/replica_keeper.py",
        "return self.now.wall if received is None else",
        "return 0 if received is None else",
        _KEEPER,
    ),
    Mutant(
        "a receipt inherited from the dataset counts for all its snapshots",
        "node/replica_keeper.py",
        "notes = await self._zfs.snapshot_property(dataset, RECEIVED) if seen.snapshots else {}",
        "notes = {one.name: (await self._zfs.get(one.full_name, [RECEIVED]))[RECEIVED].value "
        "for one in seen.snapshots}",
        _KEEPER,
    ),
    Mutant(
        "what a crash left without its hold stays bare",
        "node/replica_keeper.py",
        "bare = [one.full_name for one in staying if not one.holds]",
        "bare = [one.full_name for one in staying if one.holds < 0]",
        _KEEPER,
    ),
    Mutant(
        "what could not be destroyed has lost its hold",
        "node/replica_keeper.py",
        "            await self._zfs.hold(FLOOR_HOLD, list(kept))\n",
        "            pass\n",
        _KEEPER,
    ),
    Mutant(
        "a replica loses snapshots while a stream runs into it",
        "node/replica_keeper.py",
        "if replica.dataset in self._receiving():",
        "if replica.source in self._receiving():",
        _KEEPER,
    ),
    Mutant(
        "the hold of somebody else is taken for ours",
        "node/replica_keeper.py",
        "[tag for tag in tags if tag != FLOOR_HOLD]",
        "[tag for tag in tags if tag == '']",
        _KEEPER,
    ),
    Mutant(
        "the configuration shortens the floor that a vault's invite promised",
        "node/storage.py",
        "floor=max(policy.floor, least)",
        "floor=policy.floor or least",
        _KEEPER,
    ),
)

FORGETTING = (*POLICY, *CLOCK, *KEEPER)
