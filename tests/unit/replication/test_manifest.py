"""One value, one form; whatever else arrives is refused, however it is broken."""

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication import manifest as module
from replication.ledger import Entry, begin
from replication.manifest import BadManifest, DatasetFacts, Manifest, decode, digest, encode

HOME = DatasetFacts(
    "tank/home", "filesystem", "tank/home", "/home", {"compression": "zstd", "com.example:a": "b\tc"}
)
MAIL = DatasetFacts("tank/home/mail", "filesystem", "tank/home", None, {})
WHOLE = Manifest(
    "abcdefgh234567ab", "home", "host.example", 1_800_000_000, (HOME, MAIL), {"meshkeep.toml": "x = 1\n"}
)


def document(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(encode(WHOLE)))
    return found | more


def packed(raw: Any) -> bytes:
    return zlib.compress(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode())


def test_comes_back_as_it_was() -> None:
    assert decode(encode(WHOLE)) == WHOLE
    assert WHOLE.facts("tank/home/mail") == MAIL
    assert WHOLE.facts("tank") is None


def test_says_the_same_whenever_it_was_made_and_whatever_the_order() -> None:
    later = replace(WHOLE, made=WHOLE.made + 1, datasets=WHOLE.datasets[::-1])
    assert digest(later) == digest(WHOLE)
    assert encode(replace(WHOLE, datasets=WHOLE.datasets[::-1])) == encode(WHOLE)


@pytest.mark.parametrize(
    "change",
    [
        {"node": "other"},
        {"hostname": "other"},
        {"files": {"meshkeep.toml": "x = 2\n"}},
        {"datasets": (HOME,)},
        {"datasets": (replace(HOME, properties={"compression": "lz4"}), MAIL)},
        {"datasets": (replace(HOME, mountpoint="/srv"), MAIL)},
        {"datasets": (replace(HOME, encryption_root="tank"), MAIL)},
    ],
)
def test_every_change_counts(change: dict[str, Any]) -> None:
    assert digest(replace(WHOLE, **change)) != digest(WHOLE)


BAD_VALUES: list[dict[str, Any]] = [
    {"owner": "home"},
    {"owner": ""},
    {"node": "a b"},
    {"hostname": "a\x1b[2J"},
    {"made": -1},
    {"made": 1 << 40},
    {"datasets": (HOME, HOME)},
    {"datasets": (replace(HOME, name="tank/../x"),)},
    {"datasets": (replace(HOME, name="-o"),)},
    {"datasets": (replace(HOME, encryption_root="x@y"),)},
    {"datasets": (replace(HOME, kind="pool"),)},
    {"datasets": (replace(HOME, properties={"-o x": "y"}),)},
    {"datasets": (replace(HOME, properties={"a=b": "y"}),)},
    {"datasets": (replace(HOME, properties={"a": "y\0"}),)},
    {"datasets": (replace(HOME, properties={"a": "y" * 8192}),)},
    {"datasets": (replace(HOME, properties={f"a{n}": "" for n in range(201)}),)},
    {"datasets": (replace(HOME, mountpoint="/a\0"),)},
    {"datasets": tuple(replace(MAIL, name=f"tank/{n}") for n in range(2001))},
    {"files": {"/etc/passwd": ""}},
    {"files": {"conf.d/../x.toml": ""}},
    {"files": {"conf.d/.x.toml": ""}},
    {"files": {"conf.d/x/y.toml": ""}},
    {"files": {"conf.d/x.toml\n": ""}},
    {"files": {"meshkeep.toml": "\0"}},
    {"files": {"meshkeep.toml": "x" * (256 * 1024 + 1)}},
    {"files": {f"conf.d/{n}.toml": "" for n in range(65)}},
]


@pytest.mark.parametrize("bad", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_what_is_out_of_bounds_is_neither_written_nor_read(
    bad: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(WHOLE, **bad)
    with pytest.raises(BadManifest):
        encode(broken)
    with monkeypatch.context() as patch:  # as one would write it who keeps to no bounds
        patch.setattr(module, "_check", lambda _: None)
        data = zlib.compress(module._plain(broken), 9)
    with pytest.raises(BadManifest):
        decode(data)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        packed([]),
        packed({}),
        packed(document(version=2)),
        packed(document(version=True)),
        packed(document(made=1.5)),
        packed(document(made=True)),
        packed(document(owner=None)),
        packed(document(datasets={})),
        packed(document(datasets=["x"])),
        packed(document(files=[])),
        packed(document(files={"meshkeep.toml": 1})),
        packed(document(more=1)),
        zlib.compress(json.dumps(document()).encode()),
        zlib.compress(json.dumps(document(), sort_keys=True, separators=(",", ":")).encode() + b" "),
        encode(WHOLE)[:-1],
        encode(WHOLE) + b"x",
        zlib.compress(b"[" * 100_000),
        zlib.compress(b" " * (module.MAX_PLAIN + 1)),
        zlib.compress(b"\xff"),
        b"x" * (module.MAX_ENCODED + 1),
    ],
)
def test_any_other_form_is_refused(bad: bytes) -> None:
    with pytest.raises(BadManifest):
        decode(bad)


LISTS = (
    begin("tank/a").added([Entry(7, "s", 1, 2, "ab" * 32, None, "cloud", 3)]),
    begin("tank/b").added(
        Entry(n, f"s{n}", n, n * 0x9E3779B97F4A7C15 % 2**64, None, n, "nas", n) for n in range(3)
    ),
)


def test_the_lists_of_what_was_sent_come_back() -> None:
    whole = replace(WHOLE, sent=LISTS)
    assert decode(encode(whole)) == whole
    assert digest(whole) != digest(WHOLE)


def test_one_without_lists_is_what_an_earlier_version_reads() -> None:
    assert b'"version":1' in zlib.decompress(encode(WHOLE))
    assert b'"sent"' not in zlib.decompress(encode(WHOLE))
    assert b'"version":2' in zlib.decompress(encode(replace(WHOLE, sent=LISTS)))


def test_where_there_is_no_room_the_newest_entries_go_along_and_the_head_stays() -> None:
    many = begin("tank/c").added(
        Entry(n * 0x9E3779B97F4A7C15 % 2**64, f"s{n}", n, n * 0xBF58476D1CE4E5B9 % 2**64, None, n, "nas", n)
        for n in range(1, 20_000)
    )
    fitted = module.fitted(replace(WHOLE, sent=(many,)))
    assert len(encode(fitted)) <= module.MAX_ENCODED
    (one,) = fitted.sent
    assert 1000 < len(one.entries) < 20_000
    assert one.head == many.head
    assert module.fitted(replace(WHOLE, sent=LISTS)).sent == LISTS


@pytest.mark.parametrize("bad", [1, {}, [1], [{"dataset": "tank/a"}]])
def test_what_is_no_list_makes_it_no_manifest(bad: object) -> None:
    with pytest.raises(BadManifest):
        decode(packed(document(version=2, sent=bad)))


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(b" " * (100 << 20), 9)
    assert len(bomb) < module.MAX_ENCODED
    with pytest.raises(BadManifest, match="too long"):
        decode(bomb)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for broken in (data, zlib.compress(data)):
        with pytest.raises(BadManifest):
            decode(broken)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9][a-z0-9:+._-]{0,20}", fullmatch=True), st.text(max_size=50), max_size=8
    )
)
def test_whatever_people_set_comes_back(properties: dict[str, str]) -> None:
    clean = {name: value.replace("\0", "") for name, value in properties.items()}
    whole = replace(WHOLE, datasets=(replace(HOME, properties=clean),))
    assert decode(encode(whole)) == whole
