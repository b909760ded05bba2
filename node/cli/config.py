"""config: check the files, have the agent read them again."""

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
