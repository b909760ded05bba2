"""Only its readers open it, only its signer could have made it, and nothing altered passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.identity import Identity
from mesh.sealed import MAX_READERS, BadSeal, NotAReader, open_sealed, read_inside, readers_of, seal, unseal

MESH, OTHER = b"m" * 32, b"o" * 32
HOME, ADMIN, GENESIS, VAULT = (Identity.from_seed(bytes([number]) * 32) for number in range(1, 5))
READERS = (HOME.public, ADMIN.public, GENESIS.public)
BODY = b"what the streams do not carry"


def sealed(body: bytes = BODY) -> bytes:
    return seal(HOME, MESH, "manifest", body, READERS)


@pytest.mark.parametrize("reader", [HOME, ADMIN, GENESIS])
def test_each_reader_opens_it_and_knows_who_signed(reader: Identity) -> None:
    opened = open_sealed(sealed(), reader, MESH, "manifest")
    assert (opened.signer, opened.body) == (HOME.public, BODY)


def test_nobody_else_does_nor_finds_it_in_the_bytes() -> None:
    data = sealed()
    with pytest.raises(NotAReader):
        open_sealed(data, VAULT, MESH, "manifest")
    assert BODY not in data
    assert VAULT.public not in readers_of(data) == frozenset(READERS)


def test_each_time_it_looks_different() -> None:
    one, other = sealed(), sealed()
    assert one != other
    assert one[-16:] != other[-16:]


def test_what_one_reader_opened_another_verifies() -> None:
    inside = unseal(sealed(), ADMIN)
    assert read_inside(inside, MESH, "manifest").signer == HOME.public
    for broken in (
        b"",
        inside[:96],
        inside[:-1],
        inside[:-1] + bytes([inside[-1] ^ 1]),
        VAULT.public + inside[32:],
    ):
        with pytest.raises(BadSeal):
            read_inside(broken, MESH, "manifest")


@pytest.mark.parametrize(("mesh", "purpose"), [(OTHER, "manifest"), (MESH, "other")])
def test_it_is_for_one_mesh_and_one_purpose(mesh: bytes, purpose: str) -> None:
    with pytest.raises(BadSeal):
        open_sealed(sealed(), HOME, mesh, purpose)


def test_no_bit_of_it_can_be_changed_unseen() -> None:
    """Boxes of other readers apart: they are theirs to open."""
    data = sealed(b"x")
    own = data.index(HOME.public)
    for place in [*range(10), *range(own, own + 112), *range(10 + 3 * 112, len(data))]:
        broken = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(BadSeal):
            open_sealed(broken, HOME, MESH, "manifest")


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for broken in (data, b"mkseal1\0" + data, sealed()[: len(data)]):
        with pytest.raises(BadSeal):
            open_sealed(broken, HOME, MESH, "manifest")


def test_a_key_that_is_none_is_named_and_nothing_is_sealed_to_nobody() -> None:
    with pytest.raises(BadSeal):
        seal(HOME, MESH, "manifest", BODY, [b"\0" * 32])
    with pytest.raises(BadSeal):
        seal(HOME, MESH, "manifest", BODY, [b"short"])
    with pytest.raises(BadSeal):
        open_sealed(seal(HOME, MESH, "manifest", BODY, []), HOME, MESH, "manifest")
    many = b"mkseal1\0" + (MAX_READERS + 1).to_bytes(2, "big") + bytes(112 * (MAX_READERS + 1))
    with pytest.raises(BadSeal, match="readers"):
        readers_of(many)
