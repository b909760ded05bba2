"""Pure: which NFS exports the settings ask for, and the exports(5) text that says so.

All accesses are squashed by default, to the owner of the dataset's top directory. With sec=sys a server
believes every uid that a client claims, so without squashing, root on any permitted node would be every user
here. Squashed to its owner, a person's home reads and writes as that person from their laptop, whatever uid
they have there. A directory that root owns is mapped to nobody, never to root: whoever wants root's files
served says ``squash = "root"`` (uids are believed, but not root) or ``"none"`` (root too), and trusts that
node's root.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from node.errors import MeshkeepError
from node.settings import ShareRule
from node.settings_model import Squash
from zfs.model import Dataset

NOBODY = 65534
MANAGED = "# managed by meshkeep: edits are lost\n"
_FSID_SPACE = uuid.UUID("5f0b4b0e-6d5b-5c7e-9a3c-1d1f6e8f0a11")
_SAFE = re.compile(rb"[A-Za-z0-9/._:@%+=,~-]")


@dataclass(frozen=True, slots=True)
class Client:
    """One permitted node by its mesh address, and whom its accesses act as (for what is squashed)."""

    address: str
    rw: bool
    squash: Squash
    uid: int = NOBODY
    gid: int = NOBODY


@dataclass(frozen=True, slots=True)
class Export:
    """One shared dataset."""

    dataset: str
    path: str
    fsid: str
    clients: tuple[Client, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A share, or one node of it, that is not served now, and why."""

    dataset: str
    reason: str


def fsid(guid: int) -> str:
    """The fsid of a dataset: from its guid, so that file handles survive a reboot and a renamed pool."""
    return str(uuid.uuid5(_FSID_SPACE, str(guid)))


def exports_text(exports: Iterable[Export]) -> str:
    """The text of the managed exports(5) file, one line for each path and client, in a stable order.

    Raises ValueError for a path that this file cannot express.
    """
    lines = [
        f"{_escaped(export.path)} {client.address}({_options(export, client)})"
        for export in sorted(exports, key=lambda export: export.path)
        for client in sorted(export.clients, key=lambda client: ip_address(client.address).packed)
    ]
    return MANAGED + "".join(f"{line}\n" for line in lines)


def granted(text: str) -> set[tuple[str, str]]:
    """The (path, address) pairs in the text of a managed file, the path as it is written there."""
    return set(re.findall(r"^(/\S*) ([^\s(]+)\(", text, re.MULTILINE))


def leaving_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Comments for a managed file: (path, address) pairs whose access is being taken away."""
    return "".join(f"# leaving: {path} {address}\n" for path, address in sorted(pairs))


def leaving(text: str) -> set[tuple[str, str]]:
    """The pairs that `leaving_text` wrote."""
    return set(re.findall(r"^# leaving: (/\S*) (\S+)$", text, re.MULTILINE))


def without(text: str, address: str) -> str:
    """The text of a managed file without what it grants to *address* and without who is leaving."""
    lines = text.splitlines(keepends=True)
    return MANAGED + "".join(line for line in lines if line[0] == "/" and f" {address}(" not in line)


def desired(
    shares: Sequence[ShareRule],
    datasets: Mapping[str, Dataset],
    mountpoints: Mapping[str, str | None],
    addresses: Mapping[str, str],
    identity: Callable[[ShareRule, str], tuple[int, int]],
) -> tuple[list[Export], list[Skipped]]:
    """The exports that the *shares* ask for now, and what cannot be.

    *datasets*, *mountpoints* and *addresses* are by name; *identity* gives the (uid, gid) that a share's squashed
    accesses at a mountpoint act as and may raise MeshkeepError.
    """
    clients: dict[str, list[Client]] = {}
    skipped = []
    for share in shares:
        mountpoint = mountpoints.get(share.dataset) or ""
        reason = _not_served(share.dataset, datasets.get(share.dataset), mountpoint)
        if reason:
            skipped.append(Skipped(share.dataset, reason))
            continue
        try:
            uid, gid = identity(share, mountpoint)
        except MeshkeepError as error:
            skipped.append(Skipped(share.dataset, error.what))
            continue
        for node in share.to:
            if node not in addresses:
                skipped.append(Skipped(share.dataset, f"{node} is not in the mesh"))
                continue
            client = Client(addresses[node], share.access == "rw", share.squash, uid, gid)
            clients.setdefault(share.dataset, []).append(client)
    exports = [
        Export(name, mountpoints[name] or "", fsid(datasets[name].guid), tuple(found))
        for name, found in clients.items()
    ]
    return exports, skipped


def _not_served(name: str, dataset: Dataset | None, mountpoint: str) -> str:
    if dataset is None:
        return f"there is no dataset {name}"
    if dataset.kind != "filesystem":
        return f"{name} is a volume: only filesystems can be shared"
    if not mountpoint.startswith("/"):
        return f"{name} has no mountpoint"
    if not dataset.mounted:
        locked = " (its key is not loaded)" if dataset.keystatus == "unavailable" else ""
        return f"{name} is not mounted{locked}"
    return ""


def _options(export: Export, client: Client) -> str:
    squash = {"all": "root_squash,all_squash", "root": "root_squash", "none": "no_root_squash"}[client.squash]
    options = ["rw" if client.rw else "ro", "sync", "no_subtree_check", "secure", "mountpoint"]
    options += [f"fsid={export.fsid}", "sec=sys", squash]
    if client.squash != "none":
        options += [f"anonuid={client.uid}", f"anongid={client.gid}"]
    return ",".join(options)


def _escaped(path: str) -> str:
    # A literal backslash followed by digits would be taken for an escape by exportfs, however it is written.
    if not path.startswith("/") or "\\" in path:
        raise ValueError(f"{path!r} cannot be exported")
    raw = path.encode(errors="surrogateescape")
    return "".join(chr(byte) if _SAFE.match(bytes([byte])) else f"\\{byte:03o}" for byte in raw)


def client_address(info: str) -> str | None:
    """The address in a /proc/fs/nfsd/clients/ID/info file, without port and brackets."""
    match = re.search(r'^address: "\[?([^\]"]+?)\]?:\d+"$', info, re.MULTILINE)
    return match[1] if match else None
