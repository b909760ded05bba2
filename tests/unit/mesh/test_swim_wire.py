"""The layout of the membership datagrams: what is made is read back, what is not ours is dropped."""

import contextlib
import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.swim import Peer, Swim, SwimConfig
from mesh.swim.transitions import Claim
from mesh.swim.wire import Kind, Message, Update, WireError, decode, encode, room

ids = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=16, max_size=16)
numbers = st.integers(0, 2**32 - 1)
updates = st.builds(Update, st.sampled_from(get_args(Claim)), ids, numbers, ids)
messages = st.builds(
    Message, st.sampled_from(get_args(Kind)), numbers, numbers, ids, st.lists(updates, max_size=20).map(tuple)
)

A, B = "a" * 16, "b" * 16


@given(messages)
def test_what_is_made_is_read_back(message: Message) -> None:
    assert decode(encode(message)) == message


def test_the_layout_is_fixed() -> None:
    message = Message("ack", 7, 3, A, (Update("suspect", B, 2, A),))
    assert encode(message).hex() == (
        "0101000000070000000300000000000000000000" + "01" + "0100000002" + "08421084210842108421" + "00" * 10
    )


@given(messages, st.data())
def test_a_damaged_datagram_is_read_as_another_or_refused(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(WireError):
        assert encode(decode(bytes(raw))) == bytes(raw)


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes_a_core(noise: bytes) -> None:
    core = Swim(A, random.Random(0))
    core.set_members({B: Peer()}, 0.0)
    core.outputs()
    core.receive(noise, B, 1.0)
    try:
        decode(noise)
    except WireError:
        assert core.dropped == {"malformed": 1}
        assert core.states()[B].state == "unknown"
        assert core.outputs() == []


@pytest.mark.parametrize("id", ["", "a" * 15, "A" * 16, "1" * 16, "ä" * 16, "a" * 24, "a" * 14 + "=="])
def test_an_id_of_another_form_has_no_place(id: str) -> None:
    with pytest.raises(WireError):
        encode(Message("ping", 1, 1, id))


def test_a_full_datagram_keeps_to_the_limit() -> None:
    limit = SwimConfig().max_datagram
    full = Message("ping", 1, 1, A, (Update("alive", B, 1, B),) * room(limit))
    assert limit - 25 < len(encode(full)) <= limit
