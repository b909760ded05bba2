"""The source's side of `rotate`: asking the target to keep an old replica aside, by the rule or by a person's word."""

import logging

from mesh.link import Link
from node.job import Job
from replication.history import OnDivergence, SourceHistory, TargetState
from replication.rotation import MOST_OFFERED
from replication.steps import Rotate

log = logging.getLogger(__name__)


def chosen(job: Job, there: TargetState | None) -> OnDivergence:
    """What the rule says, or a person said of the very replica that ends with what the target has now."""
    newest = there.oldest_first()[-1].guid if there and there.snapshots else None
    return "rotate" if newest is not None and job.rotate_once == newest else job.rule.on_divergence


async def keep_aside(link: Link, address: str, job: Job, source: SourceHistory, step: Rotate) -> None:
    """Ask the target, which judges for itself whether nothing leads on from what it has.

    Raises what a link raises. Whatever lies below goes along until the new replica is stored: so the job is noted as
    not stored before it is asked, and none of those begins anew.
    """
    marks = [(mark.createtxg, mark.guid) for mark in source.bookmarks]
    versions = sorted([*marks, *((one.createtxg, one.guid) for one in source.snapshots)])
    history = sorted({guid for _, guid in versions[-MOST_OFFERED:]})
    job.stored, job.rotate_once = False, None
    args = {
        "dataset": job.dataset,
        "newest": step.newest_guid,
        "history": history,
        "raw": source.encrypted,
    }
    told = await link.call(address, "replica.rotate", args)
    log.warning("%s -> %s: the old replica is kept aside as %s", job.dataset, job.target, told.get("aside"))
