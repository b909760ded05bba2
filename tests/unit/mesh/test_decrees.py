"""Words of the recovery key and against them: who can sign which, for which node, and of several which counts."""

import itertools
from dataclasses import replace

import pytest

from mesh.decrees import LONGEST, SHORTEST, ApproveKey, Decree, Shorten, Veto
from mesh.identity import Identity, mesh_id
from mesh.objects import Admission, BadObject, Genesis, Opaque, Signed, Tombstone, open_signed, seal, sign
from mesh.trust import MAX_VETOES, Added, Known, Outcome, Rejected, Stale, Trust, Waiting

GENESIS, HOME, NAS, CLOUD, PAD, THIEF = (
    Identity.from_seed(letter * 32) for letter in (b"g", b"h", b"n", b"c", b"p", b"t")
)
MESH, OTHER = mesh_id(GENESIS.public), mesh_id(THIEF.public)
DAY = 86400
SHORTEN = Shorten(GENESIS.public, CLOUD.public, HOME.public, 10, 1, 7 * DAY)
APPROVE = ApproveKey(GENESIS.public, CLOUD.public, HOME.public, 10, 1, "tank/home", b"\1" * 32, b"\2" * 32)
VETO = Veto(HOME.public, CLOUD.public, HOME.public, 10, 1, b"\3" * 32)
SIGNERS = {Shorten: GENESIS, ApproveKey: GENESIS, Veto: HOME}


def signed(value: Decree, by: Identity | None = None, mesh: bytes = MESH) -> bytes:
    return sign(by or SIGNERS[type(value)], mesh, value).data


def mesh() -> Trust:
    """home and nas are admins, pad a member, cloud a vault."""
    trust = Trust(MESH)
    trust.add(sign(GENESIS, MESH, Genesis(GENESIS.public, "fog", 1)).data)
    trust.add(admitted(HOME, "home", "admin", GENESIS))
    for node, name, role in ((NAS, "nas", "admin"), (PAD, "pad", "member"), (CLOUD, "cloud", "vault")):
        trust.add(admitted(node, name, role, HOME))
    return trust


def admitted(node: Identity, name: str, role: str, by: Identity) -> bytes:
    value = Admission(by.public, node.public, role, 1, bytes(8), name)  # type: ignore[arg-type]
    return sign(by, MESH, value).data


class TestAnObject:
    @pytest.mark.parametrize("value", [SHORTEN, APPROVE, VETO])
    def test_is_read_back_as_it_was_signed(self, value: Decree) -> None:
        assert open_signed(signed(value), MESH).value == value

    @pytest.mark.parametrize("value", [SHORTEN, APPROVE, VETO])
    def test_is_nothing_in_another_mesh(self, value: Decree) -> None:
        with pytest.raises(BadObject, match="not for this mesh"):
            open_signed(signed(value), OTHER)

    @pytest.mark.parametrize("value", [SHORTEN, APPROVE, VETO])
    def test_is_nothing_with_any_byte_changed(self, value: Decree) -> None:
        data = signed(value)
        for place in range(len(data)):
            with pytest.raises(BadObject):
                open_signed(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], MESH)

    def test_is_nothing_under_the_signature_of_another(self) -> None:
        """The floor of one and the signature of the other, or the body of one as another type."""
        one, other = signed(SHORTEN), signed(replace(SHORTEN, floor=SHORTEST))
        for data in (one[:-64] + other[-64:], bytes([one[0], 17]) + one[2:], bytes([one[0], 18]) + one[2:]):
            with pytest.raises(BadObject):
                open_signed(data, MESH)

    @pytest.mark.parametrize("by", [HOME, THIEF, CLOUD])
    @pytest.mark.parametrize("value", [SHORTEN, APPROVE])
    def test_of_the_recovery_key_is_signed_by_nobody_else(self, value: Decree, by: Identity) -> None:
        """Neither under its own name, nor under that of the recovery key."""
        with pytest.raises(BadObject, match="only the recovery key"):
            signed(replace(value, genesis_public=by.public), by)  # type: ignore[call-arg]
        body = open_signed(signed(value), MESH)
        with pytest.raises(BadObject, match="signature"):
            open_signed(seal(by, MESH, value.kind, body.data[4:-64]), MESH)

    @pytest.mark.parametrize("floor", [0, SHORTEST - 1, LONGEST + 1])
    def test_has_a_floor_that_can_be_one(self, floor: int) -> None:
        with pytest.raises(BadObject):
            signed(replace(SHORTEN, floor=floor))

    def test_of_a_type_of_a_later_version_is_carried_on_also_from_the_recovery_key(self) -> None:
        trust = mesh()
        data = seal(GENESIS, MESH, 99, GENESIS.public + b"something new")
        assert isinstance(trust.add(data), Added)
        (item,) = (one for one in trust.all_signed() if isinstance(one.value, Opaque))
        view = trust.view()
        seen = {m.name: view.visible(item, m) for m in view.active()}
        assert seen == {"home": True, "nas": True, "pad": True, "cloud": False}


class TestOfSeveral:
    def test_the_highest_version_counts_in_whatever_order_they_come(self) -> None:
        values = [replace(SHORTEN, version=version, floor=version * DAY) for version in (1, 2, 3)]
        for order in itertools.permutations(values):
            trust = mesh()
            for value in order:
                trust.add(signed(value))
            assert [one.value for one in trust.decrees()] == [values[-1]]

    def test_an_old_one_played_again_is_stale(self) -> None:
        trust = mesh()
        old, new = signed(SHORTEN), signed(replace(SHORTEN, version=11, floor=90 * DAY))
        assert [type(trust.add(data)) for data in (old, new, old, new)] == [Added, Added, Stale, Known]

    def test_of_one_version_all_choose_the_same(self) -> None:
        values = [replace(SHORTEN, floor=days * DAY) for days in (1, 2, 3, 4)]
        chosen = set()
        for order in itertools.permutations(values):
            trust = mesh()
            for value in order:
                trust.add(signed(value))
            chosen |= {one.value for one in trust.decrees()}
        assert len(chosen) == 1

    def test_about_another_owner_target_or_dataset_stands_beside_it(self) -> None:
        trust = mesh()
        others: list[Decree] = [
            SHORTEN,
            replace(SHORTEN, owner_public=PAD.public),
            replace(SHORTEN, target_public=NAS.public),
            APPROVE,
            replace(APPROVE, dataset="tank/other"),
            VETO,
        ]
        for value in others:
            assert isinstance(trust.add(signed(value)), Added)
        assert [one.value for one in trust.decrees()] == others

    def test_all_outlive_a_restart(self) -> None:
        before, after = mesh(), Trust(MESH)
        for value in (SHORTEN, APPROVE, VETO):
            before.add(signed(value))
        for item in before.all_signed():
            assert isinstance(after.add(item.data), Added)
        assert {one.oid for one in after.decrees()} == {one.oid for one in before.decrees()}


class TestAVeto:
    def test_of_an_admin_is_stored_and_of_anyone_else_waits(self) -> None:
        trust = mesh()

        def by(who: Identity) -> Outcome:
            return trust.add(signed(replace(VETO, issuer_public=who.public), who))

        assert isinstance(by(HOME), Added)
        assert isinstance(by(NAS), Added)
        assert isinstance(by(GENESIS), Added)
        assert [type(by(who)) for who in (PAD, CLOUD, THIEF)] == [Waiting] * 3

    def test_of_one_who_is_made_an_admin_later_counts_then(self) -> None:
        trust = mesh()
        trust.add(signed(replace(VETO, issuer_public=PAD.public), PAD))
        trust.add(admitted(PAD, "pad", "admin", HOME))
        assert [one.signer for one in trust.decrees()] == [PAD.public]

    def test_takes_nobody_elses_room(self) -> None:
        trust = mesh()
        for number in range(MAX_VETOES):
            owner = number.to_bytes(32, "big")
            assert isinstance(trust.add(signed(replace(VETO, owner_public=owner))), Added)
        assert isinstance(trust.add(signed(VETO)), Rejected)
        assert isinstance(trust.add(signed(replace(VETO, issuer_public=NAS.public), NAS)), Added)
        assert isinstance(trust.add(signed(SHORTEN)), Added)


class TestWhoIsGivenIt:
    @pytest.mark.parametrize(
        ("value", "target", "seen"),
        [
            (SHORTEN, CLOUD, {"home", "nas", "pad", "cloud", "phone"}),
            (SHORTEN, NAS, {"home", "nas", "pad", "phone"}),
            (APPROVE, CLOUD, {"home", "nas", "pad", "cloud"}),
            (VETO, CLOUD, {"home", "nas", "pad", "cloud", "phone"}),
        ],
    )
    def test_the_node_that_is_told_and_all_that_could_object(
        self, value: Decree, target: Identity, seen: set[str]
    ) -> None:
        trust = mesh()
        phone, gone = Identity.from_seed(b"f" * 32), Identity.from_seed(b"x" * 32)
        trust.add(admitted(phone, "phone", "client", HOME))
        trust.add(admitted(gone, "gone", "member", HOME))
        trust.add(sign(HOME, MESH, Tombstone(HOME.public, gone.public, 2)).data)
        outcome = trust.add(signed(replace(value, target_public=target.public)))
        assert isinstance(outcome, Added)
        item: Signed[object] = outcome.item
        view = trust.view()
        given = {m.name for m in view.members.values() if view.visible(item, m)}  # type: ignore[arg-type]
        assert given == seen
