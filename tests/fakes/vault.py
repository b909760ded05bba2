"""A small mesh with a vault whose terms are agreed, lengthened and shortened: real objects, a false clock and ZFS."""

import itertools
import json
from pathlib import Path
from typing import Any

from mesh.link_errors import PeerRefused, Refusal
from node.decrees import Decrees
from node.key_archive import KeyArchive
from node.key_verbs import KeyApprovals
from node.peer_rules import judge
from node.promises import Promises
from node.replica_keeper import ReplicaKeeper
from node.replica_places import RECEIVED
from node.storage import Storage
from node.terms_desk import TermsDesk
from node.terms_verbs import TermsVerbs
from replication.guard import FLOOR_HOLD
from replication.target_clock import Reading
from replication.target_retention import Keep
from tests.fakes.mesh import Host, Street, request
from tests.fakes.zfs import FakeZfs

DAY, HOUR = 86400, 3600
BEGAN = 1_790_000_000
ROOT = "tank/meshkeep"
POLICY = Keep(30 * DAY, 0, 0, 0, 0, 0)


class World:
    """home, nas (admins) and pad (a member); cloud, a vault of 90 days, which stores for home and pad."""

    def __init__(self, path: Path) -> None:
        self.clock = [float(BEGAN)]
        self.booted, self.boot, self.error = BEGAN - DAY, "one", 0
        street = Street()
        self.hosts = {name: Host(path / name, street, self.clock) for name in ("home", "nas", "pad", "cloud")}
        self.zfs = FakeZfs(clock=lambda: self.wall, pools={"tank": 1 << 30})
        self.policy = POLICY
        self.words: list[str] = []
        self.decrees = {name: self._decrees(host) for name, host in self.hosts.items()}
        cloud = self.hosts["cloud"]
        self.storage = Storage(self.zfs, cloud.mesh.local, lambda: None)
        self.keys = KeyArchive(path / "keys")
        self.wake()

    def _decrees(self, host: Host) -> Decrees:
        return Decrees(host.mesh, heard=host.mesh.local.heard, now=lambda: self.clock[0])

    def wake(self) -> None:
        """The agents start; on cloud nothing is remembered but what is on its disk."""
        cloud = self.hosts["cloud"]
        self.promises = Promises(
            self.zfs,
            keep=lambda agreed: self.storage.keep(self.policy, agreed),
            words=self.decrees["cloud"].words,
            named=self.name_of,
        )
        self.keeper = ReplicaKeeper(
            self.zfs,
            terms=self.storage.terms,
            promises=self.promises,
            receiving=tuple,
            clock=lambda: Reading(self.wall, self.boot, int(self.clock[0]) - self.booted),
        )
        desk = TermsDesk(
            self.zfs,
            self.storage,
            self.promises,
            self.keeper,
            policy=lambda: self.policy,
            named=self.name_of,
            admitted=lambda: cloud.mesh.me().created,
            now=lambda: self.wall,
        )
        nothing: Any = None
        self.approvals = KeyApprovals(
            self.zfs,
            self.keys,
            terms=self.storage.terms,
            named=self.name_of,
            words=self.decrees["cloud"].approvals,
        )
        self.verbs = {
            name: TermsVerbs(
                host.mesh,
                desk if name == "cloud" else nothing,
                self.decrees[name],
                self.approvals,
                tell=self.tell,
            )
            for name, host in self.hosts.items()
        }
        for name, host in self.hosts.items():
            link: Any = _Wire(self, name)
            host.mesh.link = lambda link=link: link  # type: ignore[method-assign, misc]

    @property
    def wall(self) -> int:
        return int(self.clock[0]) + self.error

    def name_of(self, node: str) -> str:
        member = self.hosts["cloud"].mesh.view().members.get(node)
        return member.name if member else node

    def id(self, name: str) -> str:
        return self.hosts[name].mesh.identity.id

    def public(self, name: str) -> bytes:
        return self.hosts[name].mesh.identity.public

    async def begin(self) -> None:
        self.words = (await self.hosts["home"].init())["recovery_words"]
        for name, role in (("nas", "admin"), ("pad", "member"), ("cloud", "vault")):
            more = {"under": "tank", "floor_days": 90, "quota": 1 << 20} if role == "vault" else {}
            invite = await self.hosts["home"].invite(role=role, name=name, **more)
            await self.hosts[name].join(invite["invite"])
        await self.tell()
        await self.zfs.create(ROOT, {})
        for owner in ("home", "pad"):
            root = f"{ROOT}/{self.id(owner)}"
            await self.zfs.create(root, {"quota": str(1 << 20)})
            await self.zfs.create(f"{root}/tank", {})
            for name in ("a", "b", "c"):
                full = f"{root}/tank@{name}"
                await self.zfs.snapshot([full])
                await self.zfs.set(full, {RECEIVED: str(self.wall)})
                await self.zfs.hold(FLOOR_HOLD, [full])
        await self.keeper.tend()

    async def tell(self) -> None:
        """Everyone knows what everyone knows, as far as it is for them."""
        for _ in range(2):
            for one, other in itertools.permutations(self.hosts.values(), 2):
                if one.mesh.trust is None or other.mesh.trust is None:
                    continue
                view = one.mesh.view()
                viewer = view.members.get(other.mesh.identity.id)
                if viewer is not None:
                    items = [item.data for item in one.mesh.trust.all_signed() if view.visible(item, viewer)]
                    other.mesh.add(items)

    async def days(self, count: float) -> None:
        """Time passes, and every hour cloud looks."""
        for _ in range(int(count * 24)):
            self.clock[0] += HOUR
            await self.keeper.tend()

    def stored(self, owner: str) -> list[str]:
        return list(self.zfs.state.nodes[f"{ROOT}/{self.id(owner)}/tank"].snapshots)

    async def floor(self, owner: str = "home") -> tuple[int, str]:
        """In days, and whose it is."""
        found = await self.show("cloud")
        (one,) = (one["floor"] for one in found["owners"] if one["node"] == owner)
        return one["value"] // DAY, one["from"]

    async def waiting(self, owner: str = "home") -> dict[str, Any] | None:
        found = await self.show("cloud")
        (one,) = (one["waiting"] for one in found["owners"] if one["node"] == owner)
        return one

    async def show(self, at: str, **args: Any) -> dict[str, Any]:
        return await self.verbs[at].show(request(**args))

    async def extend(self, at: str, days: int) -> dict[str, Any]:
        return await self.verbs[at].extend(request(node="cloud", floor=days * DAY))

    async def ask(self, at: str = "nas", days: int = 7, owner: str = "home", **more: Any) -> dict[str, Any]:
        args = {"node": "cloud", "owner": owner, "floor": days * DAY, "words": self.words} | more
        found = await self.verbs[at].ask(request(**args))
        await self.keeper.tend()
        return found

    async def cancel(self, at: str, **args: Any) -> None:
        await self.verbs[at].cancel(request(**args))
        await self.keeper.tend()

    def codes(self, at: str) -> list[str]:
        found = self.keeper.problems() if at == "cloud" else []
        return [one.code for one in (*found, *self.decrees[at].problems())]


class _Wire:
    """As `mesh.link.Link`: cloud answers, by the caller's role, JSON in and out."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    async def call(
        self, address: str, verb: str, args: dict[str, Any], timeout: float = 30.0
    ) -> dict[str, Any]:
        cloud = self._world.hosts["cloud"].mesh
        assert address == cloud.address_of(cloud.identity.id)
        caller = cloud.view().members[self._world.id(self._name)]
        denied = judge(verb, caller.role, "vault")
        try:
            if denied is not None:
                raise Refusal(denied.code, denied.text, denied.hint, exit=7)
            nothing: Any = None
            answer = await self._world.verbs["cloud"].answers()[verb](
                caller, json.loads(json.dumps(args)), nothing
            )
        except Refusal as refusal:
            raise PeerRefused(refusal.code, str(refusal), refusal.hint, refusal.exit) from refusal
        return dict(json.loads(json.dumps(answer)))
