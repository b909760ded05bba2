"""Invites: the text survives pasting, says what is wrong with it, and is good for one node."""

import ipaddress
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.codec import Malformed, base32
from mesh.endpoints import Endpoint
from mesh.identity import Identity, x25519_public
from mesh.invite import (
    DOOR_PREFIX,
    MAX_ENDPOINTS,
    Accept,
    BadInvite,
    Invite,
    Refuse,
    Token,
    VaultTerms,
    derive_door,
    door_address,
    invite_id,
    judge,
)

SECRET = bytes(range(16))
DOOR = x25519_public(b"\x40" * 32)
MESH = b"m" * 32
ALICE = Identity.from_seed(b"a" * 32).id
BOB = Identity.from_seed(b"b" * 32).id
ENDPOINTS = (Endpoint("192.0.2.7", 51821), Endpoint("2001:db8::7", 51821))
INVITE = Invite(
    SECRET, "vault", created=1000, expires=4600, name="cloud", vault=VaultTerms("tank", 10**12, 30)
)
TOKEN = INVITE.token(MESH, DOOR, ENDPOINTS)


@st.composite
def tokens(draw):
    terms = draw(
        st.none()
        | st.builds(
            VaultTerms,
            st.sampled_from(["tank", "tank/a b/c"]),
            st.none() | st.integers(0, 2**64 - 1),
            st.none() | st.integers(0, 9999),
        )
    )
    return Token(
        mesh_id=draw(st.binary(min_size=32, max_size=32)),
        secret=draw(st.binary(min_size=16, max_size=16)),
        door_public=draw(st.binary(min_size=32, max_size=32)),
        role=draw(st.sampled_from(["admin", "member", "vault", "client"])),
        expires=draw(st.integers(0, 2**64 - 1)),
        endpoints=tuple(draw(st.lists(st.sampled_from(ENDPOINTS), max_size=MAX_ENDPOINTS))),
        name=draw(st.none() | st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")),
        vault=terms,
    )


class TestText:
    @given(tokens())
    def test_what_is_written_is_read(self, token):
        assert Token.parse(token.text) == token

    def test_line_breaks_spaces_and_capitals_do_not_matter(self):
        text = TOKEN.text
        assert Token.parse(f"  {text[:40]}\n{text[40:90]} {text[90:].upper()}\r\n") == TOKEN

    @pytest.mark.parametrize("text", ["", "hello", "mk-abc", "wg0", "mk1", "https://example.org/mk1-abc"])
    def test_something_else_is_not_an_invite(self, text):
        with pytest.raises(BadInvite, match="not an invite") as caught:
            Token.parse(text)
        assert caught.value.why == "not_an_invite"

    def test_another_version_says_so(self):
        with pytest.raises(BadInvite, match="version 2") as caught:
            Token.parse("mk2-" + TOKEN.text[4:])
        assert caught.value.why == "other_version"

    def test_every_truncation_says_so(self):
        for length in range(4, len(TOKEN.text)):
            with pytest.raises(BadInvite) as caught:
                Token.parse(TOKEN.text[:length])
            assert caught.value.why == "truncated"

    def test_every_typing_mistake_is_met(self):
        rng = random.Random(5)
        for at in range(4, len(TOKEN.text)):
            wrong = rng.choice([c for c in "abcdefghijklmnopqrstuvwxyz234567" if c != TOKEN.text[at]])
            with pytest.raises(BadInvite) as caught:
                Token.parse(TOKEN.text[:at] + wrong + TOKEN.text[at + 1 :])
            # the first characters hold version and length, so a slip there can look like either
            assert caught.value.why == "typo" or at < 9

    @pytest.mark.parametrize("stray", ["0", "1", "8", "=", "é", "."])
    def test_characters_that_are_never_in_an_invite_are_named(self, stray):
        with pytest.raises(BadInvite, match=f"no {'[.]' if stray == '.' else stray} in it") as caught:
            Token.parse(TOKEN.text[:50] + stray + TOKEN.text[51:])
        assert caught.value.why == "typo"

    def test_something_appended_is_a_typing_mistake(self):
        with pytest.raises(BadInvite) as caught:
            Token.parse(TOKEN.text + "aaaaaaaa")
        assert caught.value.why == "typo"

    @given(st.binary(max_size=200))
    def test_no_text_breaks_the_parser(self, data):
        with pytest.raises(BadInvite):
            Token.parse("mk1-" + base32(data))

    def test_an_expired_one_is_told_locally(self):
        assert TOKEN.check(4599) is TOKEN
        with pytest.raises(BadInvite, match="expired 400 seconds ago") as caught:
            TOKEN.check(5000)
        assert caught.value.why == "expired"

    def test_no_repr_shows_the_secret(self):
        keys = TOKEN.door()
        for secret in (SECRET, keys.private, keys.psk):
            for value in (INVITE, TOKEN, keys):
                assert repr(secret) not in repr(value)
                assert secret.hex() not in repr(value)


class TestDoor:
    def test_both_sides_derive_the_same(self):
        assert TOKEN.door() == derive_door(INVITE.secret, DOOR)

    def test_the_keys_are_a_pair_and_the_addresses_in_the_doors_prefix(self):
        keys = derive_door(SECRET, DOOR)
        assert x25519_public(keys.private) == keys.public
        for address in (keys.guest_address, keys.issuer_address):
            assert ipaddress.IPv6Address(address).packed[:6] == DOOR_PREFIX
        assert ipaddress.IPv6Network("fd6d:6b64:6f6f::/48").network_address.packed[:6] == DOOR_PREFIX
        assert len({keys.private, keys.public, keys.psk}) == 3

    def test_another_secret_gives_another_guest_at_the_same_door(self):
        one, two = derive_door(SECRET, DOOR), derive_door(b"x" * 16, DOOR)
        assert one.issuer_address == two.issuer_address == door_address(DOOR)
        assert one.guest_address != two.guest_address
        assert one.public != two.public
        assert one.psk != two.psk


class TestJudgement:
    def code(self, invite, node=ALICE, now=2000):
        verdict = judge(invite, node, now)
        return verdict.code if isinstance(verdict, Refuse) else verdict.invite

    def test_an_open_one_is_accepted_and_marked(self):
        assert self.code(INVITE) == replace(INVITE, used_by=ALICE)

    def test_another_node_finds_it_used(self):
        assert self.code(replace(INVITE, used_by=BOB)) == "used"
        assert BOB in judge(replace(INVITE, used_by=BOB), ALICE, 2000).text

    def test_the_same_node_may_again_even_later(self):
        used = replace(INVITE, used_by=ALICE)
        assert judge(used, ALICE, 2000) == Accept(used)
        assert judge(used, ALICE, 10**6) == Accept(used)

    def test_the_rest_is_refused(self):
        assert self.code(None) == "unknown"
        assert self.code(INVITE, now=4600) == "expired"
        assert self.code(replace(INVITE, revoked=True)) == "revoked"


class TestKeeping:
    @pytest.mark.parametrize(
        "invite",
        [
            INVITE,
            replace(INVITE, vault=VaultTerms("tank"), used_by=BOB, revoked=True),
            Invite(SECRET, "admin", 1, 2, succeeds=ALICE),
        ],
    )
    def test_what_is_written_is_read(self, invite):
        assert Invite.from_json(invite.to_json()) == invite

    @pytest.mark.parametrize(
        "change",
        [
            {"role": "king"},
            {"secret": "00"},
            {"secret": "zz"},
            {"secret": None},
            {"name": "No"},
            {"succeeds": "x"},
            {"vault": [1, 2, 3, 4]},
            {"role": "member"},
            {"more": 1},
        ],
    )
    def test_what_is_no_invite_is_refused(self, change):
        with pytest.raises(Malformed):
            Invite.from_json({**INVITE.to_json(), **change})

    def test_its_id_is_short_and_follows_from_the_secret(self):
        assert INVITE.id == TOKEN.id == invite_id(SECRET)
        assert len(INVITE.id) == 8
        assert SECRET.hex()[:8] != INVITE.id
