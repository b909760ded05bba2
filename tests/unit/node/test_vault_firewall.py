"""What a node's firewall leaves open to the mesh, by its role."""

from pathlib import Path

from tests.fakes.mesh import Host, Street


async def test_a_member_leaves_its_ports_as_they_are_and_a_vault_only_those_it_was_told(
    tmp_path: Path,
) -> None:
    street, clock = Street(), [1_800_000_000.0]
    home = Host(tmp_path / "home", street, clock)
    await home.init()
    assert home.mesh._rules([]).only is None
    home.mesh.my_role = lambda: "vault"  # type: ignore[method-assign]
    assert home.mesh._rules([]).only == frozenset()
    home.mesh._vault_ports = lambda: (22,)
    assert home.mesh._rules([]).only == {22}
