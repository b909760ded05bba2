"""Signed objects: what only the recovery key may say, said by the source's own identity, again, or about others."""

from dataclasses import replace

from mesh.codec import Writer
from mesh.decrees import ApproveKey, Shorten, write_approve_key, write_shorten
from mesh.objects import Genesis, Record, Report, Tombstone, seal, sign
from mesh.sync import SignedItem

from .attack import Attacks
from .thief import Thief

attack = Attacks("swearing")

NOT_TAKEN = "not taken"
LATER = 1 << 40


async def pushed(thief: Thief, *objects: bytes) -> str:
    """Whether the vault took any of them as new."""
    items = [SignedItem("00", "trust", thief.identity.id, 0, one).as_json() for one in objects]
    told = await thief.ask("mesh.push", {"items": items})
    return NOT_TAKEN if told["new"] == 0 else f"{told['new']} taken"


def _shorten(thief: Thief, public: bytes) -> Shorten:
    vault, me = thief.member(thief.vault).public, thief.identity.public
    return Shorten(public, vault, me, LATER, 0, 3600)


def _genesis(thief: Thief) -> bytes:
    return next(
        one.value.genesis_public for one in thief.trust.all_signed() if isinstance(one.value, Genesis)
    )


@attack(NOT_TAKEN)
async def shorten_by_own_word(thief: Thief) -> str:
    """The word that shortens a floor, signed by the source; in its own name, and in that of the recovery key."""
    made = []
    for public in (thief.identity.public, _genesis(thief)):
        out = Writer()
        write_shorten(out, _shorten(thief, public))
        made.append(seal(thief.identity, thief.mesh, Shorten.kind, out.done()))
    return await pushed(thief, *made)


@attack(NOT_TAKEN)
async def approve_the_own_key(thief: Thief) -> str:
    """The word that lets a changed key in, signed by the source; in its own name, and in that of the recovery key."""
    made = []
    for public in (thief.identity.public, _genesis(thief)):
        vault, me = thief.member(thief.vault).public, thief.identity.public
        value = ApproveKey(public, vault, me, LATER, 0, thief.dataset, b"a" * 32, b"b" * 32)
        out = Writer()
        write_approve_key(out, value)
        made.append(seal(thief.identity, thief.mesh, ApproveKey.kind, out.done()))
    return await pushed(thief, *made)


@attack(NOT_TAKEN)
async def replay_what_was_said(thief: Thief) -> str:
    """Every admission and decree that was ever signed in this mesh, once more; one that was opposed, too."""
    said = [one for one in thief.trust.all_signed() if not isinstance(one.value, Record | Report)]
    assert any(isinstance(one.value, Shorten) for one in said)
    return await pushed(thief, *(one.data for one in said))


@attack(NOT_TAKEN)
async def speak_for_the_vault(thief: Thief) -> str:
    """A record and a report of the vault, by which it would have another key and hold nothing, signed by the source."""
    vault = thief.member(thief.vault)
    assert isinstance(vault.record, Record)
    made = []
    for value in (replace(vault.record, version=LATER), Report(vault.public, LATER, b"{}")):
        body = sign(thief.identity, thief.mesh, replace(value, node_public=thief.identity.public)).data[4:-64]
        made.append(seal(thief.identity, thief.mesh, value.kind, vault.public + body[32:]))
    return await pushed(thief, *made)


@attack(NOT_TAKEN)
async def words_that_were_altered(thief: Thief) -> str:
    """Genuine objects with a bit changed anywhere, of another type, cut short, and of another mesh."""
    objects = [one.data for one in thief.trust.all_signed()]
    bits = [
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for data in objects
        for at in (1, 3, 40, len(data) - 1)
    ]
    gone = Tombstone(thief.identity.public, thief.member(thief.vault).public, 0)
    other = sign(thief.identity, b"m" * len(thief.mesh), gone)
    return await pushed(thief, *bits, *(data[:-1] for data in objects), other.data)
