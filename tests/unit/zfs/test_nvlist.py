"""Reading nvlists: what ZFS packs is read in either encoding and order; anything else is refused."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.nvlist import Fields, Typed, native, xdr
from zfs.nvlist import MAX_DEPTH, MAX_SIZE, BadNvlist, Nvlist, decode

NAMES = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=12
)


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low = -(1 << (bits - 1)) if signed else 0
    return st.integers(low, low + (1 << bits) - 1)


def typed(kind: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Typed]:
    return values.map(lambda value: Typed(kind, value))


SIZES = {3: (16, True), 4: (16, False), 5: (32, True), 6: (32, False), 7: (64, True), 8: (64, False),
         22: (8, True), 23: (8, False)}  # fmt: skip
ARRAYS = {11: 3, 12: 4, 13: 5, 14: 6, 15: 7, 16: 8, 25: 22}

SCALARS = [typed(kind, integers(bits, signed=signed)) for kind, (bits, signed) in SIZES.items()]
LISTS = [
    typed(kind, st.lists(integers(SIZES[of][0], signed=SIZES[of][1]), max_size=5).map(tuple))
    for kind, of in ARRAYS.items()
]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.just(True),
    typed(21, st.booleans()),
    NAMES,
    st.binary(max_size=40),
    typed(10, st.binary(max_size=40)),
    typed(17, st.lists(NAMES, max_size=4).map(tuple)),
    typed(24, st.lists(st.booleans(), max_size=4).map(tuple)),
    *SCALARS,
    *LISTS,
)
FIELDS: st.SearchStrategy[Fields] = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=5),
    lambda inner: st.dictionaries(NAMES, inner | st.lists(inner, max_size=3), max_size=3),
    max_leaves=6,
)


def plain(fields: Fields) -> Nvlist:
    """What reading *fields* should give."""

    def value(one: object) -> Any:
        inner = one.value if isinstance(one, Typed) else one
        if isinstance(inner, dict):
            return plain(inner)
        return tuple(map(plain, inner)) if isinstance(inner, list) else inner

    return {name: value(one) for name, one in fields.items()}


@given(FIELDS)
def test_every_type_is_read_back_from_either_encoding_and_byte_order(fields: Fields) -> None:
    expected = plain(fields)
    assert decode(native(fields, "<")) == expected
    assert decode(native(fields, ">")) == expected
    assert decode(xdr(fields)) == expected


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_read_but_never_worse(data: bytes) -> None:
    for head in (b"", b"\0\1\0\0", b"\1\1\0\0", b"\0\1\0\0\0\0\0\0\1\0\0\0"):
        with contextlib.suppress(BadNvlist):
            decode(head + data)


SAMPLE: Fields = {
    "toguid": 7,
    "toname": "tank/a@b",
    "rawok": True,
    "keys": {"iv": b"123456789012", "n": (1, 2)},
}


@pytest.mark.parametrize("packed", [native(SAMPLE, "<"), native(SAMPLE, ">"), xdr(SAMPLE)])
def test_every_cut_is_refused(packed: bytes) -> None:
    for size in range(len(packed)):
        with pytest.raises(BadNvlist):
            decode(packed[:size])
    with pytest.raises(BadNvlist, match="after the end"):
        decode(packed + b"\0")


@pytest.mark.parametrize("packed", [native(SAMPLE, "<"), xdr(SAMPLE)])
def test_every_flipped_byte_is_refused_or_read_but_never_worse(packed: bytes) -> None:
    for index in range(len(packed)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(packed)
            changed[index] ^= flip
            with contextlib.suppress(BadNvlist):
                decode(bytes(changed))


def test_a_name_twice_is_refused_because_the_kernel_might_take_the_other() -> None:
    once = native({"a": 1})
    pair = once[12:-4]
    with pytest.raises(BadNvlist, match="twice"):
        decode(once[:12] + pair + pair + bytes(4))


def test_nesting_and_size_are_bounded() -> None:
    nested: Fields = {}
    for _ in range(MAX_DEPTH):
        nested = {"a": nested}
    assert decode(native(nested)) == nested
    for packed in (native({"a": nested}), xdr({"a": nested})):
        with pytest.raises(BadNvlist, match="nested deeper"):
            decode(packed)
    with pytest.raises(BadNvlist, match="more than"):
        decode(bytes(MAX_SIZE + 1))


def test_too_many_pairs_are_refused() -> None:
    crowd: Fields = {str(number): True for number in range(5000)}
    for packed in (native(crowd), xdr(crowd)):
        with pytest.raises(BadNvlist, match="pairs"):
            decode(packed)


@pytest.mark.parametrize("head", [b"\2\1\0\0", b"\0\2\0\0", b"", b"\0\1\0"])
def test_an_unknown_header_is_refused(head: bytes) -> None:
    with pytest.raises(BadNvlist):
        decode(head)
