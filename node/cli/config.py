"""config: check the files, have the agent read them again."""

from pathlib import Path

import click

from node import client
from node.cli import output
from node.cli.base import flags, group

__all__ = ["config"]

config = group("config", "Check or reload the configuration.")


@config.command("reload")
def reload() -> None:
    """Have the agent read its configuration again. A bad one changes nothing: the old one keeps running."""
    result = client.call("config.reload")
    output.emit(result, ["the new configuration is in use"], as_json=flags().json)


@config.command("check")
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Default: /etc/meshkeep.",
)
def check(directory: Path | None) -> None:
    """Read the configuration as the agent would, and show all its mistakes at once. Needs no agent."""
    from node.settings import CONFIG_DIR, config_files, load

    files = config_files(directory or CONFIG_DIR)
    load(files)
    result = {"schema": "meshkeep.config-check/1", "files": [str(file) for file in files]}
    text = f"no mistakes in {', '.join(result['files'])}" if files else "no configuration: the defaults hold"
    output.emit(result, [text], as_json=flags().json)
