"""config: check and show the files, have the agent read them again, take over a sanoid.conf."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node import client
from node.cli import output
from node.cli.base import flags, group

if TYPE_CHECKING:
    from node.errors import MeshkeepError
    from node.sanoid_import import Draft, Preview

__all__ = ["config"]

config = group("config", "Check, show or reload the configuration, or take over sanoid's.")

_DIRECTORY = click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Default: /etc/meshkeep.",
)


@config.command("reload")
def reload() -> None:
    """Have the agent read its configuration again. A bad one changes nothing: the old one keeps running."""
    result = client.call("config.reload")
    output.emit(result, ["the new configuration is in use"], as_json=flags().json)


@config.command("check")
@_DIRECTORY
def check(directory: Path | None) -> None:
    """Read the configuration as the agent would, and show all its mistakes at once. Needs no agent."""
    from node.settings import CONFIG_DIR, config_files, load

    files = config_files(directory or CONFIG_DIR)
    load(files)
    result = {"schema": "meshkeep.config-check/1", "files": [str(file) for file in files]}
    text = f"no mistakes in {', '.join(result['files'])}" if files else "no configuration: the defaults hold"
    output.emit(result, [text], as_json=flags().json)


@config.command("show")
@_DIRECTORY
@click.option("--origin", is_flag=True, help="Behind each value, the file and line that set it.")
def show(directory: Path | None, origin: bool) -> None:
    """Every value in effect, the defaults too, as one TOML file. Needs no agent."""
    from node import settings, settings_show

    files = settings.config_files(directory or settings.CONFIG_DIR)
    settings.load(files)
    values = settings_show.effective((str(file), file.read_text(encoding="utf-8")) for file in files)
    result = {
        "schema": "meshkeep.config-show/1",
        "files": [str(file) for file in files],
        "values": [value.as_json() for value in values],
    }
    output.emit(result, settings_show.as_toml(values, origins=origin), as_json=flags().json)


@config.command("schema")
def schema() -> None:
    """The JSON Schema of the configuration, for editors. Needs no agent."""
    import json

    from node.settings_show import json_schema

    found = json_schema()
    lines = json.dumps(found, indent=2, ensure_ascii=False).splitlines()
    output.emit({"schema": "meshkeep.config-schema/1", "json_schema": found}, lines, as_json=flags().json)


@config.command("import-sanoid")
@click.argument("place", metavar="[FILE|DIR]", type=click.Path(path_type=Path), default=Path("/etc/sanoid"))
@click.option("--apply", "do_apply", is_flag=True, help="Write it to conf.d/sanoid-import.toml.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it to this new file.")
@click.option(
    "--loose-names", is_flag=True, help="Prune, like sanoid, whatever is named like autosnap_x_hourly."
)
@_DIRECTORY
def import_sanoid(
    place: Path, do_apply: bool, out: Path | None, loose_names: bool, directory: Path | None
) -> None:
    """Print the TOML that means the same as sanoid's configuration, and say what has no equivalent.

    What it would take and destroy now is shown if the agent runs. Nothing is in use before: meshkeep config reload.
    """
    from node.sanoid_import import draft, obstacles, preview, write_new
    from node.settings import CONFIG_DIR

    if do_apply and out is not None:
        raise click.UsageError("--apply and --out: choose one", click.get_current_context())
    made = draft(place, directory or CONFIG_DIR, loose_names=loose_names)
    in_the_way = obstacles(made, _sanoid_at_work())
    if do_apply and in_the_way:
        raise in_the_way[0]
    seen = preview(made, client.call)
    target = made.file if do_apply else out
    _say_of_import(made, seen, in_the_way)
    if target is not None:
        write_new(target, made.text)
    result = {
        "schema": "meshkeep.config-import-sanoid/1",
        "source": str(place),
        "file": str(target) if target else None,
        "toml": made.text,
        "notes": [*made.imported.notes],
        "differences": [
            {"dataset": one.dataset, "below": one.below, "text": one.text}
            for one in made.imported.differences
        ],
        "obstacles": [error.as_json() for error in in_the_way],
        "test": seen.answer,
        "loosely_named": [*seen.loosely],
    }
    lines = made.text.splitlines() if target is None else [f"{target} is written"]
    if do_apply:
        lines.append("to put it to use: sudo meshkeep config reload")
    output.emit(result, lines, as_json=flags().json)


def _sanoid_at_work() -> str:
    import asyncio

    from node.commands import Commands
    from node.sanoid_timer import SanoidTimer

    return asyncio.run(SanoidTimer(Commands()).active())


def _say_of_import(made: "Draft", seen: "Preview", in_the_way: "Sequence[MeshkeepError]") -> None:
    """On stderr, for the person at the terminal; ``--json`` has it all in the result."""
    if flags().json:
        return
    from node.cli.policy import test_lines

    for note in made.imported.notes:
        output.say(f"note: {note}")
    for difference in made.imported.differences:
        output.say(f"not the same: {difference}")
    for error in in_the_way:
        output.say(
            f"warning: not to be applied as it is: {error.what}" + (f"\n  {error.why}" if error.why else "")
        )
    if seen.answer is None:
        why = seen.error.what if seen.error else "it said nothing"
        output.say(f"what would be destroyed is not known, for the agent was not to be asked: {why}")
        output.say(
            "to ask when it runs: meshkeep config import-sanoid --out FILE && meshkeep policy test FILE"
        )
        return
    for line in test_lines(seen.answer, verbose=False):
        output.say(line)
    if seen.loosely:
        shown = ", ".join(seen.loosely[:3]) + (" …" if len(seen.loosely) > 3 else "")
        output.say(
            f"{len(seen.loosely)} that sanoid would destroy stay, for their names: {shown} (see --loose-names)"
        )
