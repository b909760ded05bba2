"""Why a transfer failed, one class per cause, by remedy: a transient one is tried again, a permanent one not.

None of them leaves the target with less than it had: a receive adds one snapshot or nothing, and what
came of a stream that was cut short stays there to be resumed.
"""

from typing import ClassVar

from zfs import errors as zfs


class TransferFailed(Exception):
    """`code` is stable and crosses process borders; `text` says what happened."""

    code: ClassVar[str] = "failed"

    def __init__(self, text: str = "") -> None:
        super().__init__(text or (self.__doc__ or "").splitlines()[0])
        self.text = str(self)


class Transient(TransferFailed):
    """Trying again later can help, after making a new plan."""

    code = "transient"


class Permanent(TransferFailed):
    """Trying again is useless until a person has changed something."""

    code = "permanent"


class PeerGone(Transient):
    """The other side closed the connection or fell silent."""

    code = "peer_gone"


class Interrupted(Transient):
    """The stream ended too early or arrived damaged. What came before that is kept and can be resumed."""

    code = "interrupted"


class Cancelled(Transient):
    """The transfer was stopped on request. What had arrived is kept and can be resumed."""

    code = "cancelled"


class TargetFull(Transient):
    """There is no room on the target (pool, quota or reservation). What had arrived is kept."""

    code = "target_full"


class Busy(Transient):
    """The dataset is in use: another receive, a clone, or a hold."""

    code = "busy"


class PlanStale(Transient):
    """What the plan counted on is not there any more. Nothing was changed; a new plan is needed."""

    code = "plan_stale"


class PoolGone(Transient):
    """A pool is suspended, faulted or not imported."""

    code = "pool_unavailable"


class WorkerDied(Transient):
    """The transfer worker ended without saying how. What had arrived is kept."""

    code = "worker_died"


class WorkerHangs(Transient):
    """The transfer worker hangs in the kernel and cannot be ended; a suspended pool does that."""

    code = "worker_hangs"


class ZfsFailed(Transient):
    """ZFS failed with an error that has no class of its own; the text carries its words."""

    code = "zfs_failed"


class NotAsListed(Permanent):
    """What came back is not what its source has listed as sent. Nothing of it reached ZFS."""

    code = "not_as_listed"


class KeyChanged(Permanent):
    """The stream carries other key material than the replica is pinned to. Nothing was received."""

    code = "key_changed"


class StreamRefused(Permanent):
    """The stream is not as announced, or a record of it is not in order. Nothing from there on reached ZFS."""

    code = "stream_refused"


class Diverged(Permanent):
    """The stream does not fit the target's newest snapshot. Nothing was changed."""

    code = "diverged"


class TargetModified(Permanent):
    """Something wrote to the replica since its newest snapshot. Nothing was changed."""

    code = "target_modified"


class NotPermitted(Permanent):
    """The worker may not do that. Nothing was changed."""

    code = "not_permitted"


class ReadOnly(Permanent):
    """The pool or dataset is read-only. Nothing was changed."""

    code = "read_only"


class KeyUnavailable(Permanent):
    """The dataset's encryption key is not loaded, and this stream would need it. Nothing was changed."""

    code = "key_unavailable"


class Unsupported(Permanent):
    """This version of OpenZFS, this pool or this kernel cannot do it. Nothing was changed."""

    code = "unsupported"


class BadJob(Permanent):
    """The worker was started with a job that makes no sense. Nothing was changed."""

    code = "bad_job"


_ZFS_CAUSES: tuple[tuple[type[zfs.ZfsError], type[TransferFailed]], ...] = (
    (zfs.NoSpace, TargetFull),
    (zfs.NotFound, PlanStale),
    (zfs.AlreadyExists, PlanStale),
    (zfs.Busy, Busy),
    (zfs.NotPermitted, NotPermitted),
    (zfs.ReadOnly, ReadOnly),
    (zfs.PoolUnavailable, PoolGone),
    (zfs.BadStream, Interrupted),
    (zfs.StreamMismatch, Diverged),
    (zfs.DestinationModified, TargetModified),
    (zfs.KeyUnavailable, KeyUnavailable),
    (zfs.WrongKey, KeyUnavailable),
    (zfs.Unsupported, Unsupported),
)


def of_zfs(error: zfs.ZfsError) -> TransferFailed:
    """The cause that an error of the door stands for."""
    cause = next((ours for theirs, ours in _ZFS_CAUSES if isinstance(error, theirs)), ZfsFailed)
    return cause(str(error))


def _leaves(base: type[TransferFailed]) -> list[type[TransferFailed]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _leaves(child))]


_BY_CODE = {cause.code: cause for cause in _leaves(TransferFailed)}


def is_code(code: str) -> bool:
    """Whether it is that of a class here."""
    return code in _BY_CODE


def of_code(code: str, text: str) -> TransferFailed:
    """The inverse of ``error.code``; an unknown code (a newer worker or peer) is transient."""
    return _BY_CODE.get(code, Transient)(text)
