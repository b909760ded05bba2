import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.frames import BadFrame, ConnectionClosed, FrameTooLarge, decode_body, encode_frame, read_frame

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=5)


def read(data: bytes, limit: int = 1000):
    async def go():
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_frame(reader, limit)

    return asyncio.run(go())


@given(objects)
def test_what_was_encoded_is_read_back(obj):
    frame = encode_frame(obj)
    assert decode_body(frame[4:]) == obj
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4


def test_two_frames_in_one_stream_come_one_after_the_other():
    async def go():
        reader = asyncio.StreamReader()
        reader.feed_data(encode_frame({"n": 1}) + encode_frame({"n": 2}))
        reader.feed_eof()
        first, second = await read_frame(reader), await read_frame(reader)
        with pytest.raises(ConnectionClosed) as closed:
            await read_frame(reader)
        return first, second, closed.value.mid_frame

    assert asyncio.run(go()) == ({"n": 1}, {"n": 2}, False)


@pytest.mark.parametrize("cut", range(1, 10))
def test_an_end_inside_a_frame_is_told_apart_from_an_orderly_one(cut):
    with pytest.raises(ConnectionClosed) as closed:
        read(encode_frame({"a": 1})[:cut])
    assert closed.value.mid_frame


def test_a_frame_beyond_the_limit_is_refused_before_its_body_is_read():
    with pytest.raises(FrameTooLarge):
        read((1001).to_bytes(4, "big"))
    with pytest.raises(FrameTooLarge):
        encode_frame({"a": "x" * 100}, limit=50)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"nul", b"{}x", b'{"a":NaN}', b'{"a":1,"a":2}', b'{"a":"\xff"}', b"[" * 100_000],
)
def test_what_is_no_json_object_is_a_bad_frame(body):
    with pytest.raises(BadFrame):
        read(len(body).to_bytes(4, "big") + body, limit=200_000)


@pytest.mark.parametrize("obj", [{"a": float("nan")}, {"a": b"x"}, {"a": {1, 2}}, {"a": "\ud800"}])
def test_what_json_cannot_say_is_not_sent(obj):
    with pytest.raises(BadFrame):
        encode_frame(obj)
