"""The pure cores at sizes beyond what most people have."""

from mesh.identity import Identity, mesh_id
from mesh.objects import Admission, Genesis, Record, Report, Value, open_signed, sign
from mesh.trust import Trust
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.plan import plan
from replication.steps import Plan
from tests.bench.measure import OURS, Row, Taken, cpu, rows
from zfs.model import Snapshot


def planner(quick: bool) -> list[Row]:
    """A replica that has all but the newest 100 of the source's snapshots."""
    count = 1_000 if quick else 10_000
    snapshots = tuple(Snapshot("tank/home", f"s{n}", 7 * n + 1, n, n) for n in range(count))
    there = tuple(TargetSnapshot(one.name, one.guid, one.createtxg, one.creation) for one in snapshots[:-100])
    source, target = SourceHistory("tank/home", snapshots, encrypted=True), TargetState(True, there)
    decided = plan(source, target, Rule("cloud", "vault", raw=True))
    assert isinstance(decided, Plan)
    assert len(decided.steps) == 100
    times = cpu(lambda: plan(source, target, Rule("cloud", "vault", raw=True)), 3)
    return rows(f"plan 100 steps, {count:,} snapshots", "CPU ms", [Taken(OURS, times)])


def trust(quick: bool) -> list[Row]:
    """50 nodes of which 8 are admins who all admitted everyone: about 500 objects."""
    runs = 3 if quick else 7
    mesh, objects = mesh_of_fifty()

    def learned() -> Trust:
        known = Trust(mesh)
        for data in objects:
            known.add(data)
        return known

    known = learned()
    assert len(known.view().active()) == 50
    views: list[float] = []
    for _ in range(runs):
        fresh = learned()
        views += cpu(fresh.view, 1)
    size = f"50 nodes, {len(objects)} objects"
    verified = cpu(lambda: [open_signed(data, mesh) for data in objects], runs)
    return [
        *rows(f"trust: all from nothing, {size}", "CPU ms", [Taken(OURS, cpu(learned, runs))]),
        *rows(f"trust: who is in the mesh, {size}", "CPU ms", [Taken(OURS, tuple(views))]),
        *rows(
            "verify and decode a signed object",
            "CPU ms",
            [Taken(OURS, tuple(one / len(objects) for one in verified))],
        ),
    ]


def mesh_of_fifty() -> tuple[bytes, list[bytes]]:
    """The mesh's id and its signed objects, in an order in which they can be stored."""
    genesis = _key("genesis")
    mesh = mesh_id(genesis.public)
    nodes = [_key(f"node{number}") for number in range(50)]
    admins = nodes[:8]
    objects: list[bytes] = []

    def say(by: Identity, value: Value) -> None:
        objects.append(sign(by, mesh, value).data)

    say(genesis, Genesis(genesis.public, "fifty", 1))
    for admin in admins:
        say(genesis, _admission(genesis, admin, nodes.index(admin), admin=True))
    for node in nodes[len(admins) :]:
        for admin in admins:
            say(admin, _admission(admin, node, nodes.index(node), admin=False))
    for node in nodes:
        say(node, Record(node.public, 1, bytes(8), node.public[::-1], node.public, 51820, "meshkeep"))
        say(node, Report(node.public, 1, bytes(1000)))
    return mesh, objects


def _key(name: str) -> Identity:
    return Identity.from_seed(name.encode().ljust(32, b"."))


def _admission(by: Identity, node: Identity, number: int, *, admin: bool) -> Admission:
    return Admission(
        issuer_public=by.public,
        node_public=node.public,
        role="admin" if admin else "member",
        created=1000 + number,
        invite_id=bytes(8),
        name=f"node{number}",
    )
