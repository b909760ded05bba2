"""The table of commands: where each one lives, and the line `meshkeep --help` has for it."""

from node.cli.base import Lazy, LazyGroup

__all__ = ["root"]

COMMANDS = {
    "init": Lazy("node.cli.admission:init", "Make a mesh; this host becomes its founder."),
    "invite": Lazy("node.cli.invite:invite", "Make, list, revoke or dial one-time invites."),
    "join": Lazy("node.cli.admission:join", "Join a mesh by an invite."),
    "evict": Lazy("node.cli.admission:evict", "Shut a node out of the mesh, at once and for good."),
    "status": Lazy("node.cli.status:status", "Who is there, and what is protected where, as of when."),
    "snapshot": Lazy("node.cli.snapshot:snapshot", "Take, list, hold, release or destroy snapshots."),
    "policy": Lazy("node.cli.policy:policy", "Which snapshots are taken and kept, and why."),
    "prune": Lazy("node.cli.prune:prune", "Destroy what the policies do not keep."),
    "replicate": Lazy("node.cli.replicate:replicate", "Keep copies of a dataset on other nodes."),
    "encrypt": Lazy(
        "node.cli.encrypt:encrypt", "Make a plaintext dataset an encrypted one; the old one is kept."
    ),
    "jobs": Lazy("node.cli.jobs:jobs", "What is on its way to other nodes: list, show, watch, cancel."),
    "restore": Lazy("node.cli.restore:restore", "Bring back a file, a dataset or all of a host."),
    "share": Lazy("node.cli.share:share", "Share a dataset by NFS inside the mesh."),
    "mount": Lazy("node.cli.share:mount", "Mount another node's share."),
    "umount": Lazy("node.cli.share:umount", "Take such a mount away."),
    "doctor": Lazy("node.cli.doctor:doctor", "Say what is wrong on this host, why, and what to try."),
    "check": Lazy("node.cli.check:check", "Check snapshots and pools, as a Nagios plugin."),
    "metrics": Lazy("node.cli.metrics:metrics", "Print metrics in Prometheus's text format."),
    "config": Lazy("node.cli.config:config", "Check or reload the configuration."),
    "key": Lazy("node.cli.key:key", "Keys of encrypted datasets; changes of them that wait for your word."),
    "vault": Lazy("node.cli.vault:vault", "Set up a host that only stores."),
    "simulate": Lazy(
        "node.cli.simulate:simulate", "Run the membership core in a simulated mesh of any size."
    ),
    "agent": Lazy("node.cli.agent:agent", "Run the agent (systemd does this)."),
    "version": Lazy("node.cli.agent:version", "Print the version."),
}

root = LazyGroup(
    "meshkeep",
    COMMANDS,
    help="Hosts that keep each other's data: a WireGuard mesh, ZFS snapshots, raw replication, NFS.",
)
