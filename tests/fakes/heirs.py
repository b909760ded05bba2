"""Four hosts in one mesh with the manifests between them, and a fifth that may come in the place of the first."""

import asyncio
from pathlib import Path
from typing import Any

from mesh.link_errors import PeerRefused, PeerUnreachable, Refusal
from node.copies import keepers
from node.manifest_store import ManifestStore
from node.manifests import Manifests
from tests.fakes.mesh import BEGAN, Host, Street, Wires
from tests.fakes.pair import PASSPHRASE
from tests.fakes.zfs import FakeZfs

ROLES = {"laptop": "admin", "nas": "member", "cloud": "vault"}
NAMES = ("home", *ROLES, "phoenix")


class Line:
    """As `mesh.link.Link` over a host's wire; `away` does not answer."""

    def __init__(self, world: "World", wire: Any) -> None:
        self._world, self._wire = world, wire

    async def call(
        self, address: str, verb: str, args: dict[str, Any], timeout: float = 30
    ) -> dict[str, Any]:
        if address in {self._world.address(name) for name in self._world.away}:
            raise PeerUnreachable(address, "no route")
        try:
            answer: dict[str, Any] = await self._wire.call(address, verb, args)
        except Refusal as error:
            raise PeerRefused(error.code, error.text, error.hint, error.exit) from error
        if verb == "manifest.get" and answer["data"] and self._world.twisted is not None:
            return self._world.twisted(answer)
        return answer


class World:
    """home (founder) replicates to cloud and nas; laptop is an admin; phoenix is in no mesh yet."""

    def __init__(self, path: Path) -> None:
        self.path, self.street, self.clock = path, Street(), [float(BEGAN)]
        self.hosts = {name: Host(path / name, self.street, self.clock) for name in NAMES}
        self.wires = Wires(self.hosts.values())
        self.away: set[str] = set()
        self.twisted: Any = None
        self.words: list[str] = []
        self.zfs = FakeZfs(clock=lambda: self.clock[0])
        self.rules: list[tuple[str, str]] = [("tank/home", "cloud"), ("tank/home", "nas")]
        self.config = path / "etc"
        (self.config / "conf.d").mkdir(parents=True)
        (self.config / "meshkeep.toml").write_text("# policies\n")
        for host in self.hosts.values():
            line: Any = Line(self, host.mesh.link())
            host.mesh.link = lambda line=line: line  # type: ignore[method-assign, misc]

    async def begin(self) -> None:
        self.words = (await self.hosts["home"].init())["recovery_words"]
        for name, role in ROLES.items():
            await self.admit("home", name, role=role, name=name)
        for name in ROLES:
            await self.wires.compare("home", name)
        await self.zfs.create(
            "tank/home", {"compression": "zstd", "mountpoint": "/home"}, passphrase=PASSPHRASE
        )
        await self.zfs.set("tank/home", {"com.example:a": "b", "meshkeep:state": "x"})

    async def admit(self, issuer: str, guest: str, **terms: Any) -> None:
        invite = await self.hosts[issuer].invite(**terms)
        await self.hosts[guest].join(invite["invite"])
        await asyncio.gather(*self.street.talks)

    async def burn(self) -> None:
        """home is lost; phoenix succeeds it, admitted by laptop."""
        await self.hosts["laptop"].mesh._publish()  # with an address to dial
        await self.admit("laptop", "phoenix", role="member", succeeds="home")
        for name in ("nas", "cloud"):
            await self.wires.compare("laptop", name)
        self.away.add("home")

    def address(self, name: str) -> str:
        mesh = self.hosts["home"].mesh
        return mesh.address_of(self.hosts[name].mesh.identity.id)

    def id_of(self, name: str) -> str:
        return self.hosts[name].mesh.identity.id

    def manifests(self, name: str = "home") -> Manifests:
        return Manifests(
            self.zfs,
            self.hosts[name].mesh,
            self.path / name,
            rules=lambda: self.rules,
            config=self.config,
            files=lambda: [self.config / "meshkeep.toml", *sorted((self.config / "conf.d").glob("*.toml"))],
            now=lambda: self.clock[0],
            hostname=lambda: "host.example",
        )

    def puts(self) -> list[str]:
        return [target for _, target, verb in self.wires.asked if verb == "manifest.put"]

    def stored(self, name: str, owner: str = "home") -> bytes:
        found = ManifestStore(self.hosts[name].path / "manifests").get(self.id_of(owner))
        assert found is not None
        return found.data

    async def fetched(self, name: str, **more: Any) -> Any:
        return await self.manifests(name).fetch(keepers(self.hosts[name].mesh), **more)

    async def ask(self, name: str, target: str, verb: str, **args: Any) -> dict[str, Any]:
        return await self.hosts[name].mesh.link().call(self.address(target), verb, args)
