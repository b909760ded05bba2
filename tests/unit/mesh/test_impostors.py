"""Who is no longer, not yet or never what he says he is, and what was signed for something else."""

import pytest

from mesh.codec import from_base64, to_base64
from mesh.identity import Identity, mesh_id, verify
from mesh.invite import Invite, derive_door
from mesh.join import Bound, Joiner, Refused, Send
from mesh.objects import Admission, BadObject, Genesis, Tombstone, open_signed, sign
from mesh.trust import Added, Trust, Waiting

GENESIS, HOME, NEXT, NAS, NEW = (Identity.from_seed(letter.encode() * 32) for letter in "ghxnw")
MESH = mesh_id(GENESIS.public)
WIREGUARD, DOOR = b"W" * 32, b"D" * 32


def admission(by: Identity, node: Identity, name: str, role="member", **more) -> bytes:
    return sign(by, MESH, Admission(by.public, node.public, role, 1, bytes(8), name, **more)).data


BEGINNING = (
    sign(GENESIS, MESH, Genesis(GENESIS.public, "fog", 1)).data,
    admission(GENESIS, HOME, "home", "admin"),
    admission(HOME, NAS, "nas"),
)


def known(*more: bytes) -> Trust:
    trust = Trust(MESH)
    for data in (*BEGINNING, *more):
        trust.add(data)
    return trust


class TestSignatures:
    """The layout in `mesh.objects`: "meshkeep1" | type | mesh id | body."""

    def test_what_is_signed_names_the_program_the_type_and_the_mesh(self) -> None:
        data = BEGINNING[0]
        body, signature = data[4:-64], data[-64:]
        assert verify(GENESIS.public, b"meshkeep1" + data[1:2] + MESH + body, signature)

    @pytest.mark.parametrize("said", [b"", b"\1", b"meshkeep2\1", b"mk-join1-issuer\0"])
    def test_a_signature_that_was_made_for_something_else_is_refused(self, said: bytes) -> None:
        data = BEGINNING[0]
        signature = GENESIS.sign(said + MESH + data[4:-64])
        with pytest.raises(BadObject, match="signature"):
            open_signed(data[:-64] + signature, MESH)


class TestReaders:
    def test_a_member_reads_its_own_root_and_no_other(self) -> None:
        view = known().view()
        assert view.may_read_root(NAS.id, NAS.id)
        assert not view.may_read_root(NAS.id, HOME.id)
        assert not view.may_read_root(NEW.id, NEW.id)

    def test_one_that_was_evicted_reads_nothing_any_more(self) -> None:
        view = known(sign(HOME, MESH, Tombstone(HOME.public, NAS.public, 2)).data).view()
        assert not view.may_read_root(NAS.id, NAS.id)

    def test_one_that_was_succeeded_leaves_its_root_to_its_heir(self) -> None:
        view = known(admission(HOME, NEXT, "nas", succeeds=NAS.public)).view()
        assert view.may_read_root(NEXT.id, NAS.id)
        assert not view.may_read_root(NAS.id, NAS.id)

    def test_an_heir_that_was_evicted_reads_neither(self) -> None:
        gone = sign(HOME, MESH, Tombstone(HOME.public, NEXT.public, 3)).data
        view = known(admission(HOME, NEXT, "nas", succeeds=NAS.public), gone).view()
        assert not view.may_read_root(NEXT.id, NAS.id)
        assert not view.may_read_root(NEXT.id, NEXT.id)


class TestAdmitters:
    def test_what_a_plain_member_admits_is_not_even_stored(self) -> None:
        trust = known()
        assert isinstance(trust.add(admission(NAS, NEW, "new")), Waiting)
        assert NEW.id not in trust.view().members
        assert len(list(trust.all_signed())) == len(BEGINNING)

    def test_until_it_becomes_an_admin(self) -> None:
        trust = known(admission(NAS, NEW, "new"))
        assert isinstance(trust.add(admission(HOME, NAS, "nas", "admin")), Added)
        assert trust.view().members[NEW.id].active

    def test_one_that_was_made_an_admin_by_an_evicted_one_admits_nobody(self) -> None:
        """It was an admin, so its certificates are stored; it is a member now, so none of them stands."""
        trust = known(
            admission(HOME, NEXT, "next", "admin"),
            admission(NEXT, NAS, "nas", "admin"),
            sign(HOME, MESH, Tombstone(HOME.public, NEXT.public, 2)).data,
        )
        assert isinstance(trust.add(admission(NAS, NEW, "new")), Added)
        assert trust.view().members[NAS.id].role == "member"
        new = trust.view().members.get(NEW.id)
        assert new is None or not new.active


class TestIssuers:
    """A joiner gives its proof to nobody but an admin of the mesh that its invite names."""

    def answer(self, issuer: Identity, *objects: bytes) -> list:
        token = Invite(b"s" * 16, "member", created=1000, expires=4600).token(MESH, DOOR, ())
        joiner = Joiner(NEW, WIREGUARD, token, "new", b"j" * 16, now=2000)
        (hello,) = joiner.start()
        assert isinstance(hello, Send)
        bound = Bound(
            mesh_id=MESH,
            secret=token.secret,
            node_public=NEW.public,
            wireguard_public=WIREGUARD,
            name="new",
            node_nonce=from_base64(hello.message["nonce"]),
            issuer_public=issuer.public,
            issuer_nonce=b"i" * 16,
        )
        challenge = {
            "kind": "challenge",
            "issuer": to_base64(issuer.public),
            "nonce": to_base64(b"i" * 16),
            "objects": [to_base64(data) for data in objects],
            "signature": to_base64(issuer.sign(bound.transcript("issuer"))),
        }
        return joiner.receive(challenge)

    def test_an_admin_gets_it(self) -> None:
        (proof,) = self.answer(HOME, *BEGINNING)
        assert isinstance(proof, Send)
        assert proof.message["kind"] == "proof"

    @pytest.mark.parametrize("issuer", [NAS, NEW, NEXT], ids=["member", "itself", "stranger"])
    def test_nobody_else_does(self, issuer: Identity) -> None:
        (refused,) = self.answer(issuer, *BEGINNING)
        assert isinstance(refused, Refused)
        assert refused.code == "bad_issuer"

    def test_an_admin_that_was_evicted_does_not(self) -> None:
        gone = sign(GENESIS, MESH, Tombstone(GENESIS.public, HOME.public, 2)).data
        (refused,) = self.answer(HOME, *BEGINNING, gone)
        assert isinstance(refused, Refused)
        assert refused.code == "bad_issuer"


class TestDoors:
    def test_one_secret_opens_no_door_of_another_issuer(self) -> None:
        one, two = derive_door(b"s" * 16, DOOR), derive_door(b"s" * 16, b"E" * 32)
        assert one.private != two.private
        assert one.psk != two.psk
        assert one.guest_address != two.guest_address
        assert one.issuer_address != two.issuer_address
