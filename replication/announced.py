"""Is this BEGIN record the announced stream, under the pinned key? Pure; judged before ZFS sees a byte.

A raw stream overwrites the replica's wrapped key, and ZFS only looks at the key's guid: one stream with
another wrap makes every older snapshot unopenable. So other key material than the pinned one is refused here.
"""

import base64
from dataclasses import dataclass

from replication.errors import KeyChanged, NotAsListed, StreamRefused, TransferFailed
from replication.jobs import ReceiveJob
from zfs.stream import (
    BadStreamHeader,
    Begin,
    KeyMaterial,
    crypt_payload,
    holds_all_objects,
    read_begin,
    resume_point,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the record offers, and why it is refused (None if it is not)."""

    begin: str = ""
    key_fingerprint: str | None = None
    refusal: TransferFailed | None = None


def payload_size(header: bytes) -> int:
    """Bytes of payload behind the header. Raises StreamRefused; what is too large is refused, not read."""
    try:
        return read_begin(header).payload_size
    except BadStreamHeader as error:
        raise StreamRefused(f"the stream has no proper BEGIN record: {error}") from error


@dataclass(frozen=True, slots=True)
class Announced:
    """What one stream was announced as, and the fingerprint of the key it must come under (None: any).

    `keys` and the ivset guids are what its source has listed, if it has: see `ReceiveJob` and `ReceiveStep`.
    """

    to_guid: int
    from_guid: int | None
    raw: bool
    resuming: bool
    key_fingerprint: str | None
    to_ivset: int | None = None
    from_ivset: int | None = None
    keys: tuple[str, ...] = ()


def announced(job: ReceiveJob, number: int, pin: str | None) -> Announced:
    """The step of this number, under the key *pin*."""
    step = job.steps[number]
    return Announced(
        to_guid=step.to_guid,
        from_guid=step.from_guid,
        raw=job.raw,
        resuming=job.resuming and number == 0,
        key_fingerprint=pin,
        to_ivset=step.to_ivset,
        from_ivset=step.from_ivset,
        keys=job.keys,
    )


def judge(header: bytes, payload: bytes, job: Announced) -> Judged:
    """Compare with what was announced. Raises StreamRefused where it cannot even be read."""
    try:
        begin = read_begin(header)
        key = crypt_payload(payload)
        resumes = resume_point(payload) is not None
        whole = holds_all_objects(payload)
    except BadStreamHeader as error:
        raise StreamRefused(f"the BEGIN record is malformed: {error}") from error
    fingerprint = key.fingerprint() if key else None
    wrong = _wrong_kind(begin) or _not_as_announced(begin, job, resumes) or _wrong_key_presence(begin, key)
    wrong = wrong or ("" if whole else "its list of objects ends before the last one that there may be")
    refusal: TransferFailed | None = StreamRefused(wrong) if wrong else None
    if not refusal and job.key_fingerprint is not None and fingerprint != job.key_fingerprint:
        refusal = KeyChanged(
            f"the stream carries key material {_short(fingerprint)}, "
            f"the replica is pinned to {_short(job.key_fingerprint)}"
        )
    if not refusal and (unlike := _not_as_listed(key, job)):
        refusal = NotAsListed(unlike)
    return Judged(base64.b64encode(payload).decode("ascii"), fingerprint, refusal)


def _wrong_kind(begin: Begin) -> str:
    """Only single streams of one whole snapshot get through."""
    if begin.compound:
        return "it is a package of several streams"
    if begin.redacted:
        return "it is redacted"
    if begin.dedup:
        return "it is deduplicated"
    if begin.clone:
        return "it would make a clone"
    if begin.kind == "other":
        return "it is neither of a filesystem nor of a volume"
    if begin.unknown:
        return f"it needs features that are unknown here ({begin.unknown:#x})"
    return ""


def _not_as_announced(begin: Begin, job: Announced, resumes: bool) -> str:
    if begin.raw != job.raw:
        return f"it is {_raw(begin.raw)}, but was announced {_raw(job.raw)}"
    if begin.to_guid != job.to_guid:
        return f"it is of snapshot {begin.to_guid}, but {job.to_guid} was announced"
    if begin.from_guid != job.from_guid:
        began, announced = begin.from_guid or "nothing", job.from_guid or "nothing"
        return f"it begins at {began}, but was announced from {announced}"
    if begin.resuming != job.resuming or resumes != job.resuming:
        return (
            f"it {'goes on with' if begin.resuming else 'begins'} a stream, which was not what was announced"
        )
    return ""


def _wrong_key_presence(begin: Begin, key: KeyMaterial | None) -> str:
    if begin.raw and key is None:
        return "it is raw and carries no key material"
    if not begin.raw and key is not None:
        return "it is not raw and carries key material"
    return ""


def _not_as_listed(key: KeyMaterial | None, job: Announced) -> str:
    """Another ivset guid under the right snapshot's guid is other ciphertext, and another key opens to other people."""
    if key is None:
        return "" if job.to_ivset is None else "it is not encrypted, but was when it was sent"
    if job.keys and key.fingerprint() not in job.keys:
        return (
            f"it carries key material {_short(key.fingerprint())}, under which nothing of this is listed as sent; "
            "if the key was changed at home since, --accept-unlisted takes it, and the passphrase then decides"
        )
    if job.to_ivset is not None and key.to_ivset_guid != job.to_ivset:
        return f"its blocks are of IV set {key.to_ivset_guid}, but those that were sent are of {job.to_ivset}"
    if job.from_guid is None or job.from_ivset is None or key.from_ivset_guid == job.from_ivset:
        return ""
    return f"it builds on IV set {key.from_ivset_guid}, but what was sent builds on {job.from_ivset}"


def _raw(raw: bool) -> str:
    return "raw" if raw else "not raw"


def _short(fingerprint: str | None) -> str:
    return fingerprint[:16] if fingerprint else "none"
