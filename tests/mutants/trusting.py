"""Bugs that would let in, believe or expose whom they should not: mesh."""

from tests.mutants.mutant import Mutant

_OBJECTS = "tests/unit/mesh/test_objects.py"
_TRUST = "tests/unit/mesh/test_trust.py"
_INVITE = "tests/unit/mesh/test_invite.py"
_IMPOSTORS = "tests/unit/mesh/test_impostors.py"
_FRAMES = "tests/unit/mesh/test_wg_frames.py"
_JOIN = "tests/unit/mesh/test_join.py"
_STORE = "tests/unit/mesh/test_store.py"
_FIREWALL = "tests/unit/mesh/test_firewall.py"
_PEERS = "tests/unit/mesh/test_wg_peers.py"
_SWIM = "tests/unit/mesh/test_swim_core.py"
_SYNC = "tests/unit/mesh/test_sync.py"

OBJECTS = (
    Mutant(
        "signatures are not checked",
        "mesh/objects.py",
        "if not verify(signer, _message(type, mesh, body), signature):",
        "if not signer:",
        _OBJECTS,
    ),
    Mutant(
        "the signature's domain is dropped: what was signed elsewhere can be replayed here",
        "mesh/objects.py",
        'return b"meshkeep1" + bytes([type]) + mesh + body',
        "return bytes([type]) + mesh + body",
        _IMPOSTORS,
    ),
    Mutant(
        "an object of one mesh counts in another",
        "mesh/objects.py",
        'return b"meshkeep1" + bytes([type]) + mesh + body',
        'return b"meshkeep1" + bytes([type]) + body',
        _OBJECTS,
    ),
    Mutant(
        "a signed object can be passed off as one of another type",
        "mesh/objects.py",
        'return b"meshkeep1" + bytes([type]) + mesh + body',
        'return b"meshkeep1" + mesh + body',
        _OBJECTS,
    ),
    Mutant(
        "trailing bytes are accepted, so one object has many forms",
        "mesh/codec.py",
        "if self._at != len(self._data):",
        "if self._at > len(self._data):",
        _OBJECTS,
    ),
)

MEMBERS = (
    Mutant(
        "tombstones are ignored: who was evicted stays",
        "mesh/chains.py",
        "return not any(isinstance(ender.value, Tombstone) for ender in self.enders[-1])",
        "return True",
        _TRUST,
    ),
    Mutant(
        "certificates of plain members, which may issue none, fill the tables",
        "mesh/trust.py",
        "if not by_genesis and item.signer not in self._admins:",
        "if not by_genesis and item.signer not in self._admitted:",
        _IMPOSTORS,
    ),
    Mutant(
        "whom a member admitted is in the mesh",
        "mesh/chains.py",
        "[chain for chain in found if chain.admin and len(chain.steps) < MAX_CHAIN]",
        "[chain for chain in found if len(chain.steps) < MAX_CHAIN]",
        _IMPOSTORS,
    ),
    Mutant(
        "an admin evicts those above it",
        "mesh/chains.py",
        "return ender.signer in chain.nodes and chain.keeps(ender, chain.nodes.index(ender.signer))",
        "return True",
        _TRUST,
    ),
    Mutant(
        "what an evicted admin issued stays valid without being kept",
        "mesh/chains.py",
        "return all(certificate.oid in ender.value.keep for ender in self.enders[at])",
        "return True",
        _TRUST,
    ),
    Mutant(
        "an older record replaces a newer one",
        "mesh/trust.py",
        "if stored and stored[0].value.version > item.value.version:",
        "if stored and stored[0].value.version < item.value.version:",
        _TRUST,
    ),
    Mutant(
        "an evicted node still reads its replicas",
        "mesh/trust.py",
        "return member is not None and member.active and self.owner_of(root) == caller",
        "return member is not None and self.owner_of(root) == caller",
        _IMPOSTORS,
    ),
    Mutant(
        "the heir of an heir does not own what the first one left",
        "mesh/trust.py",
        "        while (member := self.members.get(node)) is not None and",
        "        if (member := self.members.get(node)) is not None and",
        _TRUST,
    ),
    Mutant(
        "a vault gets the reports of nodes that it does not serve",
        "mesh/trust.py",
        'return viewer.role == "vault" and author.id in served',
        'return viewer.role == "vault"',
        _TRUST,
    ),
    Mutant(
        "a vault gets the records of other vaults and of clients",
        "mesh/trust.py",
        'return isinstance(item.value, Record) and author.role in ("admin", "member")',
        "return isinstance(item.value, Record)",
        _TRUST,
    ),
    Mutant(
        "records are asked for when the other side's are older",
        "mesh/sync.py",
        "if node not in other or version > other[node]",
        "if node not in other or version < other[node]",
        _SYNC,
    ),
    Mutant(
        "records are handed over before the admissions by which they are judged",
        "mesh/sync.py",
        "key=lambda item: _ORDER[item.kind])",
        "key=lambda item: -_ORDER[item.kind])",
        _SYNC,
    ),
)

DOOR = (
    Mutant(
        "a used invite admits a second node",
        "mesh/invite.py",
        "if invite.used_by is not None:",
        "if invite.used_by is not None and now < invite.created:",
        _INVITE,
    ),
    Mutant(
        "a revoked invite admits",
        "mesh/invite.py",
        "    if invite.revoked:\n        return Refuse",
        "    if invite.revoked and now >= invite.expires:\n        return Refuse",
        _INVITE,
    ),
    Mutant(
        "an expired invite admits",
        "mesh/invite.py",
        'if now >= invite.expires:\n        return Refuse("expired"',
        'if now >= invite.expires + 3600:\n        return Refuse("expired"',
        _INVITE,
    ),
    Mutant(
        "a mistyped invite is taken for a good one",
        "mesh/invite.py",
        "if len(data) != length or base32(data) != text or _checksum(data[:-2]) != data[-2:]:",
        "if len(data) != length or base32(data) != text:",
        _INVITE,
    ),
    Mutant(
        "the door's key does not depend on the issuer",
        "mesh/invite.py",
        "both = secret + issuer_door_public",
        "both = secret + bytes(32)",
        _IMPOSTORS,
    ),
    Mutant(
        "the joiner does not ask whether the issuer is an admin of the mesh",
        "mesh/join.py",
        '        if issuer is None or issuer.role != "admin" or not (issuer.active or replaced):\n',
        "        if issuer is None:\n",
        _IMPOSTORS,
    ),
    Mutant(
        "a node is admitted under a key that it does not have",
        "mesh/join.py",
        'if not verify(bound.node_public, bound.transcript("node"), _bytes(message, "signature", 64)):',
        'if not _bytes(message, "signature", 64):',
        _JOIN,
    ),
    Mutant(
        "the WireGuard key of the record is not the one that was bound",
        "mesh/join.py",
        "if value.wireguard_public != bound.wireguard_public:",
        "if not value.wireguard_public:",
        _JOIN,
    ),
    Mutant(
        "a name that is taken is given away again",
        "mesh/join.py",
        "if holder is not None and holder.id != invite.succeeds:",
        "if holder is not None and holder.id == invite.succeeds:",
        _JOIN,
    ),
    Mutant(
        "a key that was evicted comes back with a new invite",
        "mesh/join.py",
        'if known.state != "active":',
        'if known.state == "conflict":',
        _JOIN,
    ),
    Mutant(
        "that an invite is used is not on disk when the answer leaves",
        "mesh/store.py",
        "            self.add_invite(verdict.invite)\n",
        "            pass\n",
        _STORE,
    ),
    Mutant(
        "after a crash a record version is given out twice",
        "mesh/store.py",
        '            write_durably(self.path / "record.version", f"{self._reserved}\\n".encode())\n',
        "            pass\n",
        _STORE,
    ),
    Mutant(
        "a key file that others can read is used",
        "mesh/store.py",
        "& 0o077:",
        "& 0o007:",
        _STORE,
    ),
)

NETWORK = (
    Mutant(
        "a neighbour on the LAN can play a node by its address",
        "mesh/firewall.py",
        "            f'iifname != {{ \"lo\", {mesh} }} ip6 saddr {prefix} drop',\n",
        "",
        _FIREWALL,
    ),
    Mutant(
        "any user of the other host can speak for its agent",
        "mesh/firewall.py",
        '        f"meta l4proto {{ tcp, udp }} th dport {MESH} th sport >= {RESERVED} drop",\n',
        "",
        _FIREWALL,
    ),
    Mutant(
        "a vault may open connections to us",
        "mesh/firewall.py",
        '        "ip6 saddr @vaults drop",\n',
        "",
        _FIREWALL,
    ),
    Mutant(
        "strangers' traffic is forwarded into the mesh",
        "mesh/firewall.py",
        '            f"oifname {{ {mesh}, {door} }} drop",\n',
        "",
        _FIREWALL,
    ),
    Mutant(
        "the guest in the door reaches every port of the host",
        "mesh/firewall.py",
        'f"tcp dport {JOIN} accept", "drop")',
        'f"tcp dport {JOIN} accept")',
        _FIREWALL,
    ),
    Mutant(
        "an endpoint is written although the session is alive",
        "mesh/wireguard/peers.py",
        "    if not known.live(now):\n        known = replace(known, quiet_since",
        "    if True:\n        known = replace(known, quiet_since",
        _PEERS,
    ),
    Mutant(
        "an evicted peer stays on the device",
        "mesh/wireguard/peers.py",
        "for key in device.peers if key not in wanted",
        "for key in () if key not in wanted",
        _PEERS,
    ),
    Mutant(
        "a newcomer takes the address of an established peer",
        "mesh/wireguard/peers.py",
        "elif addresses[wish.allowed_ips] > 1 and not incumbent:",
        "elif addresses[wish.allowed_ips] > 2 and not incumbent:",
        _PEERS,
    ),
    Mutant(
        "what others say makes a node down",
        "mesh/swim/transitions.py",
        '("alive", ("suspect", "same")): "suspect"',
        '("alive", ("suspect", "same")): "down"',
        _SWIM,
    ),
    Mutant(
        "a node does not object to a suspicion of itself",
        "mesh/swim/core.py",
        "        self._post.incarnation = min(update.incarnation, MAX_INCARNATION) + 1\n",
        "",
        _SWIM,
    ),
    Mutant(
        "a vault is a witness for others",
        "mesh/swim/core.py",
        "if not member.quiet:  # nobody is witness",
        "if True:  # nobody is witness",
        _SWIM,
    ),
    Mutant(
        "a peer can make us read a frame of any length",
        "mesh/frames.py",
        "    if length > limit:\n",
        "    if length < 0:\n",
        _FRAMES,
    ),
    Mutant(
        "a frame may say one key twice",
        "mesh/frames.py",
        "if len(obj) != len(pairs):",
        "if len(obj) > len(pairs):",
        _FRAMES,
    ),
)

TRUSTING = (*OBJECTS, *MEMBERS, *DOOR, *NETWORK)
