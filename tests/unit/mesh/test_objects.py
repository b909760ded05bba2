"""Signed objects and keys: what goes in comes out, and nothing else gets in."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.codec import Malformed, base32, from_base32, from_base64, to_base64
from mesh.endpoints import Endpoint, NamedEndpoint
from mesh.identity import (
    BadWords,
    Identity,
    clamp,
    genesis_from_words,
    mesh_address,
    mesh_id,
    mesh_prefix,
    new_recovery_words,
    node_id,
    valid_name,
    valid_node_id,
    wireguard_private,
    wireguard_public,
)
from mesh.objects import (
    MAX_BODY,
    MAX_EXPORTS,
    MAX_KEEP,
    MAX_OBJECT,
    Admission,
    BadObject,
    Export,
    Genesis,
    Opaque,
    Record,
    Report,
    Tombstone,
    open_signed,
    seal,
    sign,
)

GENESIS = Identity.from_seed(b"g" * 32)
HOME = Identity.from_seed(b"h" * 32)
OTHER = Identity.from_seed(b"o" * 32)
MESH = mesh_id(GENESIS.public)
ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point

KEEP = (b"\1" * 32, b"\2" * 32)
EXPORT = Export(7, "/home", "tank/home", True, (b"\3" * 32, b"\4" * 32))
ENDPOINTS = (Endpoint("192.0.2.7", 51820), Endpoint("2001:db8::7", 51820))
ADMISSION = Admission(HOME.public, OTHER.public, "member", 5, b"invited!", "nas", b"\5" * 32, KEEP)
RECORD = Record(
    HOME.public, 3, b"bootboot", b"\6" * 32, b"\7" * 32, 51820, "meshkeep 0.1", ENDPOINTS, (EXPORT,)
)
VALUES = [
    (GENESIS, Genesis(GENESIS.public, "fog", 1)),
    (HOME, ADMISSION),
    (HOME, replace(ADMISSION, succeeds=None, keep=())),
    (HOME, Tombstone(HOME.public, OTHER.public, 5, 1, KEEP)),
    (HOME, RECORD),
    (HOME, replace(RECORD, names=(NamedEndpoint("home.example.org", 51820),))),
    (HOME, Report(HOME.public, 9, b'{"datasets":[]}')),
]
SIGNED = [sign(identity, MESH, value) for identity, value in VALUES]


class TestRoundTrip:
    @pytest.mark.parametrize(("identity", "value"), VALUES)
    def test_what_was_signed_is_read_back(self, identity, value):
        signed = open_signed(sign(identity, MESH, value).data, MESH)
        assert signed.value == value
        assert signed.author == identity.id

    def test_the_id_of_an_object_does_not_depend_on_its_signature(self):
        data = SIGNED[1].data
        assert open_signed(data, MESH).oid == SIGNED[1].oid
        assert len({signed.oid for signed in SIGNED}) == len(SIGNED)

    def test_an_unknown_type_is_verified_and_carried_on(self):
        body = HOME.public + b"from the future"
        data = seal(HOME, MESH, 200, body)
        assert open_signed(data, MESH).value == Opaque(200, body)
        with pytest.raises(BadObject):
            open_signed(data[:-1] + bytes([data[-1] ^ 1]), MESH)


class TestForgery:
    @pytest.mark.parametrize("signed", SIGNED)
    def test_of_another_mesh(self, signed):
        with pytest.raises(BadObject, match="signature"):
            open_signed(signed.data, mesh_id(OTHER.public))

    @pytest.mark.parametrize("signed", SIGNED)
    def test_signed_by_another_key(self, signed):
        with pytest.raises(BadObject, match="signature"):
            open_signed(seal(OTHER, MESH, signed.type, signed.data[4:-64]), MESH)

    @pytest.mark.parametrize("signed", SIGNED)
    def test_with_trailing_bytes_or_cut_short(self, signed):
        for data in (signed.data + b"\0", signed.data[:-1], signed.data[:50], b""):
            with pytest.raises(BadObject):
                open_signed(data, MESH)

    @pytest.mark.parametrize("signed", SIGNED)
    def test_with_trailing_bytes_inside_the_signed_body(self, signed):
        identity = GENESIS if signed.signer == GENESIS.public else HOME
        with pytest.raises(BadObject, match=r"trailing|ascending|early"):
            open_signed(seal(identity, MESH, signed.type, signed.data[4:-64] + b"\0"), MESH)

    @pytest.mark.parametrize("signed", SIGNED)
    def test_under_another_type(self, signed):
        for other in range(256):
            if other != signed.type:
                with pytest.raises(BadObject, match="signature"):
                    open_signed(signed.data[:1] + bytes([other]) + signed.data[2:], MESH)

    @pytest.mark.parametrize("signed", SIGNED)
    def test_with_a_malleated_signature(self, signed):
        s = int.from_bytes(signed.data[-32:], "little") + ORDER
        with pytest.raises(BadObject, match="signature"):
            open_signed(signed.data[:-32] + s.to_bytes(32, "little"), MESH)

    def test_by_a_key_of_small_order(self):
        for point in (bytes(32), b"\1" + bytes(31)):
            body = point + bytes([0] * 40)
            with pytest.raises(BadObject, match="signature"):
                open_signed(b"\1\xc8" + len(body).to_bytes(2, "big") + body + b"\1" + bytes(63), MESH)

    def test_of_an_unknown_version(self):
        with pytest.raises(BadObject, match="version 2"):
            open_signed(b"\2" + SIGNED[0].data[1:], MESH)

    def test_of_five_thousand_random_mutations_none_gets_through(self):
        rng = random.Random(3)
        for _ in range(5000):
            original = rng.choice(SIGNED).data
            data = bytearray(original)
            for _ in range(rng.randint(1, 3)):
                how, at = rng.choice(["flip", "set", "drop", "insert"]), rng.randrange(len(data))
                if how == "flip":
                    data[at] ^= 1 << rng.randrange(8)
                elif how == "set":
                    data[at] = rng.randrange(256)
                elif how == "drop":
                    del data[at]
                else:
                    data.insert(at, rng.randrange(256))
            if bytes(data) != original:
                with pytest.raises(BadObject):
                    open_signed(bytes(data), MESH)

    @settings(max_examples=max(200, settings.default.max_examples), deadline=None)
    @given(st.integers(1, 5), st.binary(max_size=300))
    def test_a_validly_signed_body_that_fits_no_layout_is_refused_cleanly(self, type, rest):
        try:
            value = open_signed(seal(HOME, MESH, type, HOME.public + rest), MESH).value
        except BadObject:
            return
        identity = HOME
        assert sign(identity, MESH, value).data[4:-64] == HOME.public + rest, "there is one canonical form"


class TestLayouts:
    @pytest.mark.parametrize(
        "value",
        [
            replace(ADMISSION, name="Home"),
            replace(ADMISSION, name="-home"),
            replace(ADMISSION, name="a" * 33),
            replace(ADMISSION, name="evil\n"),
            replace(ADMISSION, succeeds=None),
            replace(ADMISSION, succeeds=OTHER.public),
            replace(ADMISSION, node_public=HOME.public),
            replace(ADMISSION, keep=KEEP[::-1]),
            replace(ADMISSION, keep=(KEEP[0], KEEP[0])),
            replace(ADMISSION, invite_id=b"short"),
            replace(ADMISSION, created=-1),
            replace(ADMISSION, created=2**64),
            replace(RECORD, software="bell\7"),
            replace(RECORD, software="\u202egnp.exe"),
            replace(RECORD, port=65536),
            replace(RECORD, endpoints=ENDPOINTS * 5),
            replace(RECORD, names=(NamedEndpoint("home.example.org", 1),) * 4),
            replace(RECORD, exports=(EXPORT,) * (MAX_EXPORTS + 1)),
            replace(RECORD, exports=(replace(EXPORT, path="/" + "a" * 255),)),
            replace(RECORD, exports=(replace(EXPORT, allowed=EXPORT.allowed[::-1]),)),
            Report(HOME.public, 1, bytes(48 * 1024 + 1)),
            Genesis(HOME.public, "fog", 1),
            replace(RECORD, node_public=OTHER.public),
        ],
    )
    def test_a_value_that_breaks_its_layout_is_not_signed(self, value):
        with pytest.raises(BadObject):
            sign(HOME, MESH, value)

    def test_the_longest_keep_list_and_report_fit(self):
        keep = tuple(number.to_bytes(32, "big") for number in range(MAX_KEEP))
        for value in (replace(ADMISSION, keep=keep), Report(HOME.public, 1, bytes(48 * 1024))):
            assert len(sign(HOME, MESH, value).data) <= MAX_OBJECT

    def test_a_record_of_more_than_64_kib_is_refused(self):
        allowed = tuple(number.to_bytes(32, "big") for number in range(32))
        export = replace(EXPORT, path="/" + "a" * 254, allowed=allowed)
        with pytest.raises(BadObject, match=str(MAX_BODY)):
            sign(HOME, MESH, replace(RECORD, exports=(export,) * MAX_EXPORTS))


class TestIdentity:
    def test_ids_and_addresses_follow_from_the_key(self):
        assert len(HOME.id) == 16
        assert node_id(HOME.public) == HOME.id
        assert valid_node_id(HOME.id)
        assert not valid_node_id(HOME.id.upper())
        assert mesh_prefix(MESH).endswith("::/48")
        assert mesh_address(MESH, HOME.id).startswith(mesh_prefix(MESH).removesuffix("::/48"))
        assert mesh_address(MESH, HOME.id) != mesh_address(MESH, OTHER.id)

    def test_known_answers_so_that_no_release_moves_an_address(self):
        assert MESH.hex() == "52df8bf52a7a39983ad3691517b7185fa2a12a8c13e6ab22c5698a74ab28e8d0"
        assert HOME.id == "gy43472dcqmwi5a6"
        assert mesh_address(MESH, HOME.id) == "fd52:df8b:f52a:3639:be7f:4314:1964:741e"
        assert SIGNED[1].oid.hex() == "0820b7549288c80e3368d2086f72f0beb24eb4f8414a0245122e7ec3c7ff587e"

    def test_a_repr_shows_no_secret(self):
        assert HOME.seed.hex() not in repr(HOME)
        assert repr(HOME) == f"Identity({HOME.id})"

    def test_wireguard_keys_are_those_of_rfc_7748(self):
        alice = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
        assert wireguard_public(alice) == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
        private = from_base64(wireguard_private(lambda size: b"\xff" * size))
        assert private == clamp(private)
        assert (private[0] & 7, private[31] >> 6) == (0, 1)

    @pytest.mark.parametrize(
        ("name", "valid"),
        [(name, True) for name in ("a", "a-1", "0", "a" * 32)]
        + [(name, False) for name in ("", "a" * 33, "-a", "a-", "A", "a.b", "a\n", "é")],
    )
    def test_names(self, name, valid):
        assert valid_name(name) is valid

    @given(st.binary(max_size=40))
    def test_texts_have_one_form(self, data):
        assert from_base32(base32(data)) == data
        assert from_base64(to_base64(data)) == data

    def test_texts_of_another_form_are_refused(self):
        for text in ("a", "mf", "AA", "a=", "é"):
            with pytest.raises(Malformed):
                from_base32(text)


class TestRecoveryWords:
    def test_they_hold_the_genesis_key(self):
        words = new_recovery_words(lambda size: b"g" * size)
        assert len(words) == 24
        assert genesis_from_words(words).public == GENESIS.public
        assert genesis_from_words([word.upper() for word in words]).public == GENESIS.public

    def test_a_slip_of_the_pen_is_noticed(self):
        words = new_recovery_words(lambda size: bytes(range(size)))
        with pytest.raises(BadWords, match=r"word 3 \(abandom\)"):
            genesis_from_words([*words[:2], "abandom", *words[3:]])
        with pytest.raises(BadWords, match="24 words, not 23"):
            genesis_from_words(words[:-1])
        with pytest.raises(BadWords, match="swapped"):
            genesis_from_words([words[1], words[0], *words[2:]])
