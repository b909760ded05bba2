"""What targets have of this host's datasets: asked of each in one request for all that want to know at the moment.

A target is not trusted to make sense, nor to say little.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mesh.link_errors import PeerBroke, PeerRefused
from node.directory import Directory, Peer
from node.looks import Batches
from node.offers import MAX_STATES
from replication.history import TargetSnapshot, TargetState
from zfs.model import ResumeState

REMEMBERED = 1 << 24
"""Bytes of lists of snapshots that are remembered, so that a target need not say again what has not changed."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The snapshots of one replica as JSON, and by what word the target knows that list again."""

    version: str
    snapshots: bytes


class TargetStates:
    """Asks ``replica.states``."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._addresses: dict[str, str] = {}
        self._asking: dict[str, Batches[dict[str, Any]]] = {}
        self._known: dict[tuple[str, str], _Known] = {}
        self._remembered = 0

    async def of(self, peer: Peer, dataset: str) -> dict[str, Any]:
        """As ``replica.state`` answers. Raises LinkError."""
        self._addresses[peer.id] = peer.address
        if peer.id not in self._asking:
            self._asking[peer.id] = Batches(partial(self._ask, peer.id))
        return await self._asking[peer.id].of(dataset)

    async def _ask(self, peer_id: str, datasets: Sequence[str]) -> Mapping[str, dict[str, Any] | Exception]:
        """In as many requests as the answers need."""
        address, link = self._addresses[peer_id], self._directory.link()
        found: dict[str, dict[str, Any] | Exception] = {}
        left = list(datasets)
        while left:
            known = {name: self._known.get((peer_id, name)) for name in left[:MAX_STATES]}
            asked = {name: one.version if one else None for name, one in known.items()}
            answer = await link.call(address, "replica.states", {"datasets": asked})
            states = answer.get("states")
            if not isinstance(states, dict) or not states or not states.keys() <= asked.keys():
                raise PeerBroke(address, "its answer is not about what was asked")
            for name, state in states.items():
                found[name] = self._taken(peer_id, address, name, state)
            left = [name for name in left if name not in found]
        return found

    def _taken(self, peer_id: str, address: str, name: str, state: object) -> dict[str, Any] | Exception:
        if not isinstance(state, dict):
            return PeerBroke(address, f"its answer makes no sense: {state!r}")
        refused = state.get("error")
        if isinstance(refused, dict):
            code, text, hint = (str(refused.get(key, "")) for key in ("code", "text", "try"))
            exit = refused.get("exit")
            return PeerRefused(code, text, hint, exit if isinstance(exit, int) else 7)
        key, version = (peer_id, name), state.get("version")
        known = self._known.get(key)
        if "snapshots" not in state and known is not None and version == known.version:
            return {**state, "snapshots": json.loads(known.snapshots)}
        try:
            target_state(state)
        except (KeyError, TypeError, ValueError) as error:  # remembered, it would make no sense for ever
            return PeerBroke(address, f"its answer makes no sense: {error!r}")
        self._remember(key, version, state.get("snapshots"))
        return state

    def _remember(self, key: tuple[str, str], version: object, snapshots: object) -> None:
        old = self._known.pop(key, None)
        self._remembered -= len(old.snapshots) if old else 0
        if not isinstance(version, str) or len(version) > 64 or not isinstance(snapshots, list):
            return
        text = json.dumps(snapshots, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        if self._remembered + len(text) <= REMEMBERED:
            self._known[key] = _Known(version, text)
            self._remembered += len(text)


def target_state(answer: Mapping[str, Any]) -> TargetState:
    """The answer to ``replica.state`` as the planner's value. Raises KeyError, TypeError, ValueError."""
    return TargetState(
        exists=bool(answer["exists"]),
        snapshots=tuple(
            TargetSnapshot(str(one["name"]), int(one["guid"]), int(one["createtxg"]), int(one["creation"]))
            for one in answer["snapshots"]
        ),
        resume=_resume(answer.get("resume")),
        key_root=None if answer.get("key_root") is None else str(answer["key_root"]),
    )


def _resume(said: Mapping[str, Any] | None) -> ResumeState | None:
    """What it says beyond that, as a later version may, is passed over."""
    if said is None:
        return None
    return ResumeState(
        to_guid=int(said["to_guid"]),
        from_guid=None if said["from_guid"] is None else int(said["from_guid"]),
        to_name=str(said["to_name"]),
        object=int(said["object"]),
        offset=int(said["offset"]),
        bytes=int(said["bytes"]),
        raw=bool(said["raw"]),
    )
