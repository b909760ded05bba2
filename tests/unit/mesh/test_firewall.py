import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from mesh.firewall import Firewall, FirewallError, FirewallRules, run_nft, table_text

RULES = FirewallRules(
    mesh_prefix="fd12:3456:789a::/48",
    mesh_interface="meshkeep0",
    door_interface="mkdoor0",
    peers=frozenset({"fd12:3456:789a::2", "fd12:3456:789a::1"}),
    vaults=frozenset({"fd12:3456:789a::2"}),
)

GOLDEN = """\
add table inet meshkeep
delete table inet meshkeep
table inet meshkeep {
	set peers {
		type ipv6_addr
		elements = { fd12:3456:789a::1, fd12:3456:789a::2 }
	}
	set vaults {
		type ipv6_addr
		elements = { fd12:3456:789a::2 }
	}
	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname != { "lo", "meshkeep0" } ip6 saddr fd12:3456:789a::/48 drop
		iifname != { "lo", "meshkeep0" } ip6 daddr fd12:3456:789a::/48 drop
	}
	chain input {
		type filter hook input priority -10; policy accept;
		iifname "meshkeep0" jump from_mesh
		iifname "mkdoor0" jump from_door
		iifname != { "lo", "meshkeep0" } meta l4proto { tcp, udp } th dport 2049 drop
	}
	chain from_mesh {
		ip6 saddr != fd12:3456:789a::/48 drop
		meta nfproto ipv4 drop
		ip6 saddr != @peers drop
		meta l4proto { tcp, udp } th dport 801 th sport >= 1024 drop
		ip6 saddr @vaults ct state established,related accept
		ip6 saddr @vaults udp dport 801 accept
		ip6 saddr @vaults drop
	}
	chain from_door {
		ct state established,related accept
		tcp dport 802 accept
		drop
	}
	chain forward {
		type filter hook forward priority -10; policy accept;
		iifname { "meshkeep0", "mkdoor0" } drop
		oifname { "meshkeep0", "mkdoor0" } drop
	}
	chain output {
		type filter hook output priority -10; policy accept;
		oifname != { "lo", "meshkeep0" } ip6 daddr fd12:3456:789a::/48 drop
		ip6 daddr fd12:3456:789a::/48 meta l4proto { tcp, udp } th dport 801 meta skuid != 0 drop
		oifname "mkdoor0" meta skuid != 0 drop
	}
}
"""


def test_the_table_is_this_text():
    assert table_text(RULES) == GOLDEN


def test_a_node_alone_has_empty_sets_and_hears_nobody():
    text = table_text(replace(RULES, peers=frozenset(), vaults=frozenset()))
    assert "elements" not in text
    assert "ip6 saddr != @peers drop" in text


def test_a_host_with_nfs_exports_of_its_own_keeps_them_open():
    assert "2049" not in table_text(replace(RULES, guard_nfs=False))


def test_a_vault_has_nothing_open_to_the_mesh_but_the_agent_and_what_it_was_told():
    lines = [
        "ct state established,related accept",
        "meta l4proto { tcp, udp } th dport 801 accept",
        "tcp dport { 22, 443 } accept",
        "meta l4proto != ipv6-icmp drop",
    ]
    text = table_text(replace(RULES, only=frozenset({443, 22})))
    assert "".join(f"\t\t{line}\n" for line in lines) + "\t}\n\tchain from_door" in text
    assert "tcp dport {" not in table_text(replace(RULES, only=frozenset()))


@pytest.mark.parametrize(
    "changes",
    [
        {"only": frozenset({0})},
        {"only": frozenset({1 << 16})},
        {"mesh_prefix": "fd12::/48 accept"},
        {"mesh_interface": 'eth0" accept #'},
        {"door_interface": ""},
        {"door_interface": "sixteen-letters0"},
        {"peers": frozenset({"fd12::1 } ; flush ruleset"})},
        {"vaults": frozenset({"10.0.0.1"})},
    ],
)
def test_nothing_unchecked_reaches_nft(changes):
    with pytest.raises(ValueError, match=r"."):
        table_text(replace(RULES, **changes))


class FakeNft:
    """Remembers what it was told; `answers` are (exit code, standard error) for those to come."""

    def __init__(self):
        self.loaded = []
        self.there = False
        self.refusal = None

    async def __call__(self, arguments, text):
        if arguments[0] == "list":
            return (0 if self.there else 1), ""
        if self.refusal:
            return 1, self.refusal
        self.loaded.append(text)
        self.there = True
        return 0, ""


async def test_the_same_rules_are_applied_once():
    nft = FakeNft()
    firewall = Firewall(nft)
    assert await firewall.apply(RULES)
    assert not await firewall.apply(RULES)
    assert await firewall.apply(replace(RULES, vaults=frozenset()))
    assert len(nft.loaded) == 2


async def test_a_table_that_somebody_flushed_is_applied_again():
    nft = FakeNft()
    firewall = Firewall(nft)
    await firewall.apply(RULES)
    nft.there = False
    assert await firewall.apply(RULES)
    assert nft.loaded == [GOLDEN, GOLDEN]


async def test_a_refusal_carries_the_words_of_nft_and_is_not_taken_for_applied():
    nft = FakeNft()
    firewall = Firewall(nft)
    await firewall.apply(RULES)
    nft.refusal = "Error: Could not process rule: Operation not permitted\n"
    with pytest.raises(FirewallError, match="Could not process rule: Operation not permitted"):
        await firewall.apply(replace(RULES, vaults=frozenset()))
    nft.refusal = None
    assert await firewall.apply(RULES)


async def test_a_host_without_nft_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FirewallError, match="apt install nftables"):
        await Firewall().apply(RULES)


async def test_an_nft_that_hangs_is_ended(monkeypatch, tmp_path):
    (tmp_path / "nft").write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("mesh.firewall._TIMEOUT_S", 0.05)
    with pytest.raises(FirewallError, match="did not end"):
        await run_nft(("-f", "-"), "")


def unshared(script):
    return subprocess.run(
        ["unshare", "-n", "sh", "-ec", script], input=GOLDEN, capture_output=True, text=True, timeout=60
    )


real_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None or unshared("nft list ruleset").returncode != 0,
    reason="needs root, nft and a kernel with nftables",
)


@real_nft
def test_the_real_nft_takes_it_twice_and_again_after_a_change():
    done = unshared("f=$(mktemp); cat > $f; nft -f $f; nft -f $f; rm $f; nft list ruleset")
    assert done.stderr == ""
    assert done.stdout.count("table inet meshkeep") == 1
    assert done.stdout.count(" drop") == GOLDEN.count(" drop")


@real_nft
def test_the_real_nft_takes_the_empty_table():
    alone = table_text(replace(RULES, peers=frozenset(), vaults=frozenset(), guard_nfs=False))
    done = subprocess.run(
        ["unshare", "-n", "nft", "-c", "-f", "-"], input=alone, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@real_nft
def test_the_real_nft_takes_the_table_of_a_vault():
    vault = table_text(replace(RULES, only=frozenset({22, 443})))
    done = subprocess.run(
        ["unshare", "-n", "nft", "-c", "-f", "-"], input=vault, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
