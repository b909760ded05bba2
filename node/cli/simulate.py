"""simulate: the membership core of this version, in a mesh of any size, under a virtual clock."""

from pathlib import Path
from typing import Any

import click

from node.cli import output
from node.cli.base import Command, flags
from node.errors import Exit, MeshkeepError

__all__ = ["simulate"]

LARGEST = 5000


def _cut(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, float] | None:
    """``N:SECONDS``. Raises BadParameter."""
    if value is None:
        return None
    count, _, seconds = value.partition(":")
    if not (count.isdecimal() and seconds.isdecimal() and int(count) and int(seconds)):
        raise click.BadParameter(f"{value!r} is not N:SECONDS, like 3:60")
    return int(count), float(seconds)


@click.command(cls=Command)
@click.option("--nodes", type=click.IntRange(2, LARGEST), default=32, show_default=True, help="How many.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same run.")
@click.option("--loss", type=click.FloatRange(0, 0.9), default=0.0, help="Share of packets that are lost.")
@click.option("--kill", type=click.IntRange(0), default=0, help="Kill so many, one after the other.")
@click.option("--partition", metavar="N:SECONDS", callback=_cut, help="Cut N nodes off for SECONDS.")
@click.option("--slow", type=click.IntRange(0), default=0, help="Members that stand still now and then.")
@click.option("--vaults", type=click.IntRange(0), default=0, help="How many of them are vaults.")
@click.option("--minutes", type=click.FloatRange(0), default=10.0, show_default=True, help="Quiet time.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw how a death is spread.")
def simulate(
    nodes: int,
    seed: int,
    loss: float,
    kill: int,
    partition: tuple[int, float] | None,
    slow: int,
    vaults: int,
    minutes: float,
    plot: Path | None,
) -> None:
    """Run the real membership core in a simulated mesh: how soon is a death noticed, and what does it cost?

    Nothing is sent and no agent is asked. Nodes that are killed come back when all know, so the size stays.
    """
    from mesh.simulation import Experiment, Weather, run
    from mesh.simulation.plot import svg

    _check(nodes, kill, partition, slow, vaults, plot)
    outcome = run(
        Experiment(
            nodes=nodes,
            seed=seed,
            weather=Weather(loss=loss),
            kills=kill,
            partition=partition,
            slow=slow,
            vaults=vaults,
            minutes=minutes,
        )
    )
    result = outcome.as_json()
    if plot is not None:
        _draw(plot, svg(outcome))
    output.emit(result, [*_lines(result), *([f"drawn: {plot}"] if plot else [])], as_json=flags().json)


def _draw(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MeshkeepError(f"cannot write {path}", code="cannot_write", why=str(error.strerror)) from error


def _check(
    nodes: int,
    kill: int,
    partition: tuple[int, float] | None,
    slow: int,
    vaults: int,
    plot: Path | None,
) -> None:
    """Raises MeshkeepError (usage)."""
    wrong = ""
    if slow + vaults > nodes - 2:
        wrong = f"{slow} slow members and {vaults} vaults leave fewer than two others of {nodes}"
    elif partition is not None and partition[0] >= nodes:
        wrong = f"cannot cut {partition[0]} of {nodes} nodes off: one must stay"
    elif plot is not None and not kill:
        wrong = "--plot draws how a death is spread: it needs --kill"
    if wrong:
        raise MeshkeepError(wrong, code="usage", exit=Exit.USAGE, hint="meshkeep simulate --help")


def _lines(result: dict[str, Any]) -> list[str]:
    rows = [
        ("nodes", f"{result['nodes']}, seed {result['seed']}, loss {result['loss']:.0%}"),
        ("all met after", _seconds(result["converged_s"])),
    ]
    if result["kills"]:
        rows += [
            ("first suspicion", _spread(result["detect_first_s"])),
            ("all know", _spread(result["detect_all_s"])),
        ]
    if result["healed_s"] is not None:
        rows += [("healed after", _seconds(result["healed_s"]))]
    rows += [
        ("wrongly down", f"{result['false_positives']} in {result['node_hours']:.1f} node hours"),
        (
            "traffic",
            f"{result['bytes_per_node_s']:.0f} bytes a second and node, WireGuard included",
        ),
    ]
    return [f"{label:16} {text}" for label, text in rows]


def _spread(figures: dict[str, float | None]) -> str:
    return "  ".join(f"{name} {_seconds(value)}" for name, value in figures.items())


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
