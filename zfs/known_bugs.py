"""Which versions of OpenZFS are known to lose or lay open data at what this program does, and what to do. Pure.

Only what a version decides is here. What is in all versions is met by construction: raw only, keys pinned, no force, no
token believed, small roots without privileges (docs/security.md).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Version = tuple[int, int, int]
Use = Literal["any", "send_raw", "send_plain", "receive_raw", "receive_plain", "store", "bookmark_base"]
"""`store` is receiving for others, by a process without privileges."""
Severity = Literal["refuse", "warn"]

_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:\D|$)")
_BEGINNING: Version = (0, 0, 0)
_UPGRADE = "apt update && apt full-upgrade, then restart the host so that the new module is loaded"


def parse(text: str) -> Version | None:
    """``2.3.9-0+deb13u1`` -> (2, 3, 9); None for what is no version. A release candidate counts as its release."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


@dataclass(frozen=True, slots=True)
class Bug:
    """One known bug. `ranges` are pairs (first version that has it, first one of that line that does not).

    `issue` is where upstream tells of it. `uses` are those that it hurts.
    """

    code: str
    ranges: tuple[tuple[Version, Version], ...]
    uses: frozenset[Use]
    severity: Severity
    what: str
    issue: str
    advice: str = _UPGRADE

    def in_version(self, version: Version) -> bool:
        """Whether that version has it."""
        return any(first <= version < fixed for first, fixed in self.ranges)


def _uses(*uses: Use) -> frozenset[Use]:
    return frozenset(uses)


_SEND = _uses("send_raw", "send_plain")
_RECEIVE = _uses("receive_raw", "receive_plain")

BUGS = (
    Bug(
        "hole_birth",
        ((_BEGINNING, (0, 8, 0)),),
        _SEND,
        "refuse",
        "incremental streams leave out holes, so that the copy is another than the original",
        "openzfs#4809",
    ),
    Bug(
        "large_blocks_toggled",
        ((_BEGINNING, (2, 0, 0)),),
        _uses("send_plain", "receive_plain"),
        "refuse",
        "files are filled with zeros when streams with and without large blocks follow each other",
        "openzfs#6224",
    ),
    Bug(
        "ivset_missing_in_bookmarks",
        ((_BEGINNING, (2, 1, 6)),),
        _uses("bookmark_base"),
        "refuse",
        "bookmarks of encrypted datasets may lack what a raw stream that begins at them needs",
        "openzfs#14967",
    ),
    Bug(
        "raw_receive_panics",
        ((_BEGINNING, (2, 2, 0)),),
        _uses("receive_raw"),
        "refuse",
        "receiving raw streams panics, or what is restored by one cannot be mounted",
        "openzfs#14709, #13445, #10523, #12594",
    ),
    Bug(
        "plain_into_encrypted_panics",
        ((_BEGINNING, (2, 1, 7)),),
        _uses("receive_plain"),
        "refuse",
        "receiving a plain stream below an encrypted dataset whose key is not loaded panics",
        "openzfs#13598",
    ),
    Bug(
        "encrypted_send_errors",
        ((_BEGINNING, (2, 2, 8)), ((2, 3, 0), (2, 3, 3))),
        _uses("send_raw"),
        "refuse",
        "snapshots of encrypted datasets are found with permanent errors after they were sent",
        "openzfs#12014, #11688, #15837",
    ),
    Bug(
        "no_append_only_receive",
        ((_BEGINNING, (2, 3, 2)),),
        _uses("store"),
        "refuse",
        "a process without privileges cannot be allowed to add to replicas without being allowed to destroy them",
        "openzfs#17015",
    ),
    Bug(
        "holes_read_as_zeros",
        ((_BEGINNING, (2, 1, 14)), ((2, 2, 0), (2, 2, 2))),
        _uses("any"),
        "warn",
        "parts of files that were written moments ago may be read as zeros, and be copied so",
        "CVE-2023-49298",
    ),
    Bug(
        "block_cloning_reads",
        (((2, 2, 0), (2, 3, 9)), ((2, 4, 0), (2, 4, 2))),
        _uses("any"),
        "warn",
        "files that were cloned may be read wrongly",
        "fixes in 2.3.7, 2.4.2 and 2.3.9",
    ),
    Bug(
        "local_root",
        ((_BEGINNING, (2, 3, 9)), ((2, 4, 0), (2, 4, 4))),
        _uses("any"),
        "warn",
        "every user of this host can change pools from a user namespace",
        "CVE-2026-79619",
        f"{_UPGRADE}; until then: sysctl user.max_user_namespaces=0",
    ),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with this host's ZFS for one or more uses."""

    code: str
    severity: Severity
    uses: frozenset[Use]
    text: str
    advice: str

    def concerns(self, use: Use) -> bool:
        """Whether *use* is hurt by it."""
        return "any" in self.uses or use in self.uses


def troubles(userland: str, module: str) -> tuple[Trouble, ...]:
    """All that is known against these versions, what is refused first. A version that is none is told, not refused."""
    version = parse(module)
    found = list(_unequal(userland, module))
    if version is None:
        text = f"OpenZFS calls its module {module!r}, which is no version: whether it is safe is not known"
        return (*found, Trouble("version_unknown", "warn", _uses("any"), text, "zfs version"))
    found += [
        Trouble(
            bug.code,
            bug.severity,
            bug.uses,
            f"OpenZFS {module}: {bug.what} ({bug.issue}; {_fixed(bug)})",
            bug.advice,
        )
        for bug in BUGS
        if bug.in_version(version)
    ]
    return tuple(sorted(found, key=lambda one: one.severity))


def refusal(found: Iterable[Trouble], use: Use) -> Trouble | None:
    """The first for which *use* is refused."""
    return next((one for one in found if one.severity == "refuse" and one.concerns(use)), None)


def _fixed(bug: Bug) -> str:
    versions = ", ".join(".".join(map(str, fixed)) for _, fixed in bug.ranges)
    return f"not in {versions} and later"


def _unequal(userland: str, module: str) -> Iterable[Trouble]:
    """Programs and module that are not of one release do not understand each other."""
    programs, kernel = parse(userland), parse(module)
    if programs is None or kernel is None or programs == kernel:
        return
    apart = programs[:2] != kernel[:2] or (kernel == (2, 3, 1) and programs > kernel)
    yield Trouble(
        "versions_apart",
        "refuse" if apart else "warn",
        _SEND | _RECEIVE if apart else _uses("any"),
        f"the programs of OpenZFS are {userland}, its module is {module}"
        + (": they do not understand each other" if apart else ""),
        "restart the host, so that the module that was installed is loaded",
    )
