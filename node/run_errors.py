"""What a person is told of a run that failed, and how long it takes to know why it did."""

from collections.abc import Awaitable, Callable
from typing import Any

from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable
from node.errors import Exit, MeshkeepError
from node.job import Job
from replication import errors as transfer_errors

SETTLE = 10.0
"""Seconds in which a target says why it ended a stream."""


async def peer_knows_better(
    finish: Callable[..., Awaitable[dict[str, Any]]], error: transfer_errors.TransferFailed
) -> Exception:
    """The sender only sees a closed connection; why it was closed is what the receiver says last."""
    if isinstance(error, transfer_errors.Cancelled):
        return error
    try:
        await finish(timeout=SETTLE)
    except PeerRefused as refused:
        return refused
    except (PeerUnreachable, LinkTimeout):
        return error
    return error


def _key_changed(job: Job, error: transfer_errors.KeyChanged) -> MeshkeepError:
    told = error.__cause__
    command = told.hint if isinstance(told, PeerRefused) and told.hint else "meshkeep key pending"
    return MeshkeepError(
        f"cannot replicate {job.dataset} to {job.target}: key changed",
        code=error.code,
        exit=Exit.REFUSED,
        why=f"{error.text}\n"
        f"if you changed it, say so at the console of {job.target}; if you did not, somebody else did",
        hint=f"on {job.target}, as root: {command}",
    )


def explain(job: Job, error: Exception) -> tuple[str, MeshkeepError]:
    """The state a job is in after *error*, and what a person is told."""
    what = f"cannot replicate {job.dataset} to {job.target}"
    match error:
        case MeshkeepError():
            return ("blocked" if error.exit is Exit.REFUSED else "failed"), error
        case PeerUnreachable() | LinkTimeout():
            return "waiting", MeshkeepError(
                f"{what}: {job.target} is not reachable",
                code="peer_unreachable",
                exit=Exit.NO_PEER,
                why=str(error),
                hint="meshkeep status",
            )
        case PeerRefused(code="target_full") | transfer_errors.TargetFull():
            return "blocked", MeshkeepError(
                f"{what}: no room on {job.target}",
                code="target_full",
                why=str(error),
                hint=f"raise the quota or add disks on {job.target}; replication goes on by itself",
            )
        case PeerRefused(exit=Exit.FAILED):
            return "retrying", MeshkeepError(f"{what}: {error.text}", code=error.code, hint=error.hint)
        case PeerRefused():
            return "blocked", MeshkeepError(
                f"{what}: {error.text}", code=error.code, exit=Exit.REFUSED, hint=error.hint
            )
        case transfer_errors.KeyChanged():
            return "blocked", _key_changed(job, error)
        case transfer_errors.Permanent():
            return "blocked", MeshkeepError(f"{what}: {error.text}", code=error.code, exit=Exit.REFUSED)
        case transfer_errors.TransferFailed():
            return "retrying", MeshkeepError(f"{what}: {error.text}", code=error.code)
        case _:
            return "failed", MeshkeepError(f"{what}: {error}", code="zfs_failed")
