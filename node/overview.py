"""Gathering what `status` shows: nodes from the mesh, datasets from here and from what the others report."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mesh.trust import Member
from node import status
from node.membership import Membership
from node.replicator import Replicator
from node.status import NodeLine, Problem, dataset_line
from node.version import version
from zfs import errors
from zfs.door import Zfs


class Overview:
    """`states` gives a node's state by id; `policied` the datasets that have a policy; `problems` more of them."""

    def __init__(
        self,
        zfs: Zfs,
        membership: Membership,
        replicator: Replicator,
        *,
        states: Callable[[], Mapping[str, str]],
        policied: Callable[[], Iterable[str]],
        problems: Callable[[], Iterable[Problem]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._zfs = zfs
        self._mesh = membership
        self._replicator = replicator
        self._states = states
        self._policied = policied
        self._problems = problems
        self._now = now

    async def status(self, _: object = None) -> dict[str, Any]:
        """The answer to the verb ``status``."""
        if not self._mesh.joined:
            return {
                "schema": status.SCHEMA,
                "mesh": None,
                "node": None,
                "version": version(),
                "nodes": [],
                "datasets": [],
                "problems": [problem.as_json() for problem in self._problems()],
            }
        view = self._mesh.view()
        me = view.members.get(self._mesh.identity.id)
        mine = await self.own_datasets() if me and me.active else []
        datasets = [*mine, *self._reported({line["name"] for line in mine})]
        return status.screen(
            mesh=view.mesh_name,
            node=me.name if me else self._mesh.identity.id,
            version=version(),
            nodes=[self._line(member) for member in view.active()],
            datasets=datasets,
            problems=[*self._problems(), *status.late(datasets, int(self._now()))],
        )

    def _line(self, member: Member) -> NodeLine:
        path, seen = self._mesh.path(member)
        here = member.id == self._mesh.identity.id
        return NodeLine(
            name=member.name,
            id=member.id,
            role=member.role,
            address=self._mesh.address_of(member.id),
            state="alive" if here else self._states().get(member.id, "unknown"),
            path=path,
            seen=int(self._now()) if here else seen,
        )

    async def own_datasets(self) -> list[dict[str, Any]]:
        """This node's datasets that have a policy or a replica."""
        me = self._mesh.me()
        if me.role in ("vault", "client"):
            return []
        lines = []
        jobs = self._replicator.jobs
        for name in sorted({*self._policied(), *(job.dataset for job in jobs)}):
            try:
                snapshots = await self._zfs.snapshots(name)
            except errors.NotFound:
                continue
            except errors.ZfsError:  # its pool is gone: where it is protected matters all the more
                snapshots = []
            replicas = [
                {
                    "node": job.target,
                    "as_of": job.as_of,
                    "state": job.state,
                    "late_after": job.rule.late_after,
                    "proven": self._mesh.local.proven(name, job.target),
                }
                for job in jobs
                if job.dataset == name
            ]
            newest = snapshots[-1].creation if snapshots else None
            lines.append(dataset_line(name, me.name, len(snapshots), newest, replicas))
        return lines

    def _reported(self, own: Iterable[str]) -> list[dict[str, Any]]:
        """What the other nodes last said. Of one that was succeeded, what its heir does not say itself."""
        view, trust = self._mesh.view(), self._mesh.trust
        assert trust is not None
        me = view.members.get(self._mesh.identity.id)
        spoken = {(me.name, name) for name in own} if me else set()
        lines = []
        members = sorted(view.members.values(), key=lambda m: (not m.active, -m.created))
        for member in members:
            report = trust.report_of(member.public)
            if (
                report is None
                or member.id == self._mesh.identity.id
                or member.state not in ("active", "succeeded")
            ):
                continue
            owner = view.members.get(view.owner_of(member.id), member)
            for line in status.read_report(report.value.body, owner.name):
                if (owner.name, line["name"]) not in spoken:
                    spoken.add((owner.name, line["name"]))
                    lines.append(line)
        return sorted(lines, key=lambda line: (line["node"], line["name"]))
