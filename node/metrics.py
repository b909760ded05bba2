"""What Prometheus is told: a table of metrics, each a function of what the agent knows already. Pure.

Base units, no sentinel values: what is not known has no series. `prometheus_client` is loaded when it is first needed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from node.metric_facts import (
    DatasetFacts,
    DrillFacts,
    Facts,
    NodeFacts,
    ReplicaFacts,
    StoredFacts,
)
from policy import checks
from policy.naming import kind_of
from policy.rules import Chosen
from policy.tick import newest_by_kind
from zfs.model import PoolStatus, Snapshot

if TYPE_CHECKING:
    from prometheus_client.core import Metric

POOL_STATES = ("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "REMOVED", "UNAVAIL", "SUSPENDED")
REPLICA_STATES = (
    *("ok", "nothing to send", "running", "waiting", "retrying"),
    *("blocked", "failed", "paused", "cancelled"),
)


OUTCOMES = ("ok", "waiting", "failed")


def dataset_facts(
    name: str, chosen: Chosen, history: Iterable[Snapshot], unchanged: Iterable[str]
) -> DatasetFacts:
    """What there is to say of one dataset. While its policy skips it because nothing was written, none is late."""
    snapshots = list(history)
    counts: dict[str, int] = {}
    for snapshot in snapshots:
        kind = kind_of(snapshot.name, chosen.policy.loose_names) or "other"
        counts[kind] = counts.get(kind, 0) + 1
    late: dict[str, int] = {}
    if chosen.policy.monitor.monitor and not (
        snapshots and checks.is_idle(name, chosen, frozenset(unchanged))
    ):
        late = {kind: limit.crit or limit.warn for kind, limit in checks.limits(chosen)}
    newest: dict[str, int] = {str(kind): at for kind, at in newest_by_kind(chosen.policy, snapshots).items()}
    return DatasetFacts(name, counts, newest, late)


# -- the table ---------------------------------------------------------------------------------------------------

Sample: TypeAlias = tuple[tuple[str, ...], float]
Read: TypeAlias = Callable[[Facts], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its help, its labels, and how its samples are read from the facts."""

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str
    read: Read


def _build(facts: Facts) -> Iterator[Sample]:
    yield (facts.version, facts.python, facts.zfs), 1


def _ages(facts: Facts) -> Iterator[Sample]:
    for source, seen in (("snapshots", facts.snapshots), ("pools", facts.pools)):
        if seen is not None:
            yield (source,), max(0, facts.now - seen.at)


def _reloaded(facts: Facts) -> Iterator[Sample]:
    if facts.reloaded is not None:
        yield (), facts.reloaded


def _members(facts: Facts) -> Iterator[Sample]:
    yield from _counted(node.state for node in facts.nodes)


def _jobs(facts: Facts) -> Iterator[Sample]:
    for (state,), count in _counted(_plain(replica.state) for replica in facts.replicas):
        yield ("replicate", state), count


def _counted(words: Iterable[str]) -> Iterator[Sample]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    for word, count in sorted(counts.items()):
        yield (word,), count


def _path(facts: Facts) -> Iterator[Sample]:
    for node in facts.nodes:
        for path in ("direct", "none"):
            yield (node.name, path), node.path == path


def _by_kind(values: Callable[[DatasetFacts], Mapping[str, int]]) -> Read:
    def read(facts: Facts) -> Iterator[Sample]:
        for dataset in facts.snapshots.datasets if facts.snapshots else ():
            for kind, value in values(dataset).items():
                yield (dataset.name, kind), value

    return read


def _by_name(values: Callable[[Facts], Mapping[str, int]]) -> Read:
    return lambda facts: (((name,), value) for name, value in sorted(values(facts).items()))


def _of_node(value: Callable[[NodeFacts], float | None]) -> Read:
    return lambda facts: _known(((node.name,), value(node)) for node in facts.nodes)


def _of_replica(value: Callable[[ReplicaFacts], float | None]) -> Read:
    return lambda facts: _known(((one.dataset, one.node), value(one)) for one in facts.replicas)


def _of_drill(value: Callable[[DrillFacts], float | None]) -> Read:
    return lambda facts: _known(((one.dataset, one.node), value(one)) for one in facts.drills)


def _of_owner(value: Callable[[StoredFacts], float | None]) -> Read:
    return lambda facts: _known(((one.owner,), value(one)) for one in facts.stored)


def _outcome(facts: Facts) -> Iterator[Sample]:
    for one in facts.replicas:
        for outcome in OUTCOMES if one.outcome else ():
            said = one.outcome if one.outcome in OUTCOMES else "failed"
            yield (one.dataset, one.node, outcome), said == outcome


def _of_pool(value: Callable[[PoolStatus], float | None]) -> Read:
    return lambda facts: _known(((one.name,), value(one)) for one in _pools(facts))


def _pools(facts: Facts) -> tuple[PoolStatus, ...]:
    return facts.pools.pools if facts.pools else ()


def _known(samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Iterator[Sample]:
    return ((labels, value) for labels, value in samples if value is not None)


def _up(facts: Facts) -> Iterator[Sample]:
    return _known(((node.name, node.role), node.up) for node in facts.nodes)


def _replica_state(facts: Facts) -> Iterator[Sample]:
    for one in facts.replicas:
        for state in REPLICA_STATES:
            yield (one.dataset, one.node, state), _plain(one.state) == state


def _plain(state: str) -> str:
    """What a job waits for is said in words of which there is no end; a label has few values."""
    return state if state in REPLICA_STATES else "waiting"


def _unmatched(facts: Facts) -> Iterator[Sample]:
    return (((rule,), 1) for rule in (facts.snapshots.unmatched if facts.snapshots else ()))


def _pool_health(facts: Facts) -> Iterator[Sample]:
    for pool in _pools(facts):
        for state in dict.fromkeys((*POOL_STATES, pool.state)):
            yield (pool.name, state), pool.state == state


_DATASET, _NODE, _REPLICA, _POOL = ("dataset",), ("node",), ("dataset", "node"), ("pool",)
_KIND, _OWNER = ("dataset", "kind"), ("owner",)

FAMILIES: tuple[Family, ...] = (
    Family("meshkeep_build_info", "gauge", ("version", "python", "zfs"), "What runs here; always 1.", _build),
    Family(
        "meshkeep_state_age_seconds",
        "gauge",
        ("source",),
        "How long ago the agent last looked at snapshots, and at pools.",
        _ages,
    ),
    Family(
        "meshkeep_config_last_reload_successful",
        "gauge",
        (),
        "Whether the configuration on disk was taken when it was last read.",
        lambda facts: [((), facts.reload_ok)],
    ),
    Family(
        "meshkeep_config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the configuration in use was read.",
        _reloaded,
    ),
    Family("meshkeep_node_up", "gauge", ("node", "role"), "Whether the node answers; 1 for this one.", _up),
    Family(
        "meshkeep_node_path",
        "gauge",
        ("node", "path"),
        "1 for the way that leads to the node now: direct, or none.",
        _path,
    ),
    Family(
        "meshkeep_node_last_handshake_timestamp_seconds",
        "gauge",
        _NODE,
        "The last WireGuard handshake with the node.",
        _of_node(lambda node: node.last_handshake),
    ),
    Family(
        "meshkeep_node_rtt_seconds",
        "gauge",
        _NODE,
        "Smoothed round trip of the probes to the node.",
        _of_node(lambda node: node.rtt),
    ),
    Family("meshkeep_members", "gauge", ("state",), "Nodes of the mesh by state, this one too.", _members),
    Family(
        "meshkeep_snapshot_last_timestamp_seconds",
        "gauge",
        _KIND,
        "Creation of the newest snapshot of a kind.",
        _by_kind(lambda dataset: dataset.newest),
    ),
    Family(
        "meshkeep_snapshots",
        "gauge",
        _KIND,
        "Snapshots of a dataset with a policy; kind other for those that no policy made.",
        _by_kind(lambda dataset: dataset.counts),
    ),
    Family(
        "meshkeep_snapshot_late_after_seconds",
        "gauge",
        _KIND,
        "The age from which the newest of a kind is critical by the policy.",
        _by_kind(lambda dataset: dataset.late_after),
    ),
    Family(
        "meshkeep_prune_failures_total",
        "counter",
        _DATASET,
        "Snapshots that were to be pruned and could not be destroyed, each time it was tried.",
        _by_name(lambda facts: facts.unpruned),
    ),
    Family(
        "meshkeep_snapshots_pruned_total",
        "counter",
        _DATASET,
        "Snapshots destroyed by policy.",
        _by_name(lambda facts: facts.pruned),
    ),
    Family(
        "meshkeep_prune_waiting",
        "gauge",
        _DATASET,
        "Snapshots that a policy wants destroyed and that wait for a person's word, being so many.",
        _by_name(lambda facts: facts.waiting),
    ),
    Family(
        "meshkeep_replica_latest_snapshot_timestamp_seconds",
        "gauge",
        _REPLICA,
        "As of when the dataset is protected on the node.",
        _of_replica(lambda replica: replica.as_of),
    ),
    Family(
        "meshkeep_replica_late_after_seconds",
        "gauge",
        _REPLICA,
        "The age from which that is late.",
        _of_replica(lambda replica: replica.late_after),
    ),
    Family(
        "meshkeep_replica_snapshots_behind",
        "gauge",
        _REPLICA,
        "Snapshots here that are newer than all that the node has.",
        _of_replica(lambda replica: replica.behind),
    ),
    Family(
        "meshkeep_replica_state",
        "gauge",
        ("dataset", "node", "state"),
        "1 for the state of the replication of the dataset to the node.",
        _replica_state,
    ),
    Family(
        "meshkeep_replication_sent_bytes_total",
        "counter",
        _REPLICA,
        "Bytes of streams sent, those of interrupted ones too.",
        _of_replica(lambda replica: replica.sent),
    ),
    Family(
        "meshkeep_replication_resumed_total",
        "counter",
        _REPLICA,
        "Streams that went on where they had been cut.",
        _of_replica(lambda replica: replica.resumed),
    ),
    Family(
        "meshkeep_replication_pinned_bytes",
        "gauge",
        _REPLICA,
        "What the snapshot that the next stream builds on keeps from being freed.",
        _of_replica(lambda replica: replica.pinned),
    ),
    Family(
        "meshkeep_replication_last_run_seconds",
        "gauge",
        _REPLICA,
        "How long the last run took.",
        _of_replica(lambda replica: replica.seconds),
    ),
    Family(
        "meshkeep_replication_last_run_bytes",
        "gauge",
        _REPLICA,
        "What the last run sent.",
        _of_replica(lambda replica: replica.run_bytes),
    ),
    Family(
        "meshkeep_replication_last_run",
        "gauge",
        ("dataset", "node", "outcome"),
        "1 for how the last run ended: ok, waiting or failed.",
        _outcome,
    ),
    Family(
        "meshkeep_restore_drill_last_success_timestamp_seconds",
        "gauge",
        _REPLICA,
        "When a drill last opened and read the copy.",
        _of_drill(lambda drill: drill.proven),
    ),
    Family(
        "meshkeep_restore_drill_late_after_seconds",
        "gauge",
        _REPLICA,
        "The age from which that is too long ago by the rule.",
        _of_drill(lambda drill: drill.late_after),
    ),
    Family(
        "meshkeep_restore_drill_failed",
        "gauge",
        _REPLICA,
        "Whether the last drill of the copy failed.",
        _of_drill(lambda drill: drill.failed),
    ),
    Family(
        "meshkeep_restore_drill_read_bytes",
        "gauge",
        _REPLICA,
        "What the last drill that went well read of files.",
        _of_drill(lambda drill: drill.bytes_read),
    ),
    Family(
        "meshkeep_stored_bytes",
        "gauge",
        _OWNER,
        "What is stored here for a node.",
        _of_owner(lambda one: one.bytes),
    ),
    Family(
        "meshkeep_stored_held_snapshots",
        "gauge",
        _OWNER,
        "Snapshots stored here for a node that are held, as of the last hourly round.",
        _of_owner(lambda one: one.held),
    ),
    Family(
        "meshkeep_stored_refused_total",
        "counter",
        ("code",),
        "Streams that this node did not take, by the code of the reason.",
        _by_name(lambda facts: facts.refused),
    ),
    Family(
        "meshkeep_stored_keys_waiting",
        "gauge",
        _OWNER,
        "Changed keys of a node's replicas that wait for a person's word here.",
        _by_name(lambda facts: facts.keys_waiting),
    ),
    Family(
        "meshkeep_problems",
        "gauge",
        ("code",),
        "What meshkeep status warns of, by the code of the problem.",
        _by_name(lambda facts: facts.problems),
    ),
    Family("meshkeep_jobs", "gauge", ("kind", "state"), "Jobs of the agent by state.", _jobs),
    Family(
        "meshkeep_rules_unmatched",
        "gauge",
        ("rule",),
        "1 for each policy rule whose dataset does not exist.",
        _unmatched,
    ),
    Family("meshkeep_pool_health", "gauge", ("pool", "state"), "1 for the state of the pool.", _pool_health),
    Family("meshkeep_pool_size_bytes", "gauge", _POOL, "Size of the pool.", _of_pool(lambda pool: pool.size)),
    Family(
        "meshkeep_pool_allocated_bytes",
        "gauge",
        _POOL,
        "How much of it is in use.",
        _of_pool(lambda pool: pool.size - pool.free),
    ),
    Family(
        "meshkeep_pool_errors",
        "gauge",
        _POOL,
        "Read, write and checksum errors, summed over the lines of zpool status.",
        _of_pool(checks.errors_of),
    ),
    Family(
        "meshkeep_pool_last_scrub_timestamp_seconds",
        "gauge",
        _POOL,
        "When the last scrub ended.",
        _of_pool(lambda pool: pool.scrub_end),
    ),
)


class Known:
    """A collector for `prometheus_client`'s registry. A metric without samples is left out."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for family in FAMILIES:
            made = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = made(family.name, family.help, labels=family.labels)
            for labels, value in family.read(self._facts):
                metric.add_metric(labels, float(value))
            if metric.samples:
                yield metric


def exposition(facts: Facts) -> bytes:
    """Prometheus's text format, version 0.0.4."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Known(facts))
    text: bytes = generate_latest(registry)
    return text
