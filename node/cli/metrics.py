"""metrics: what the agent would tell Prometheus, as a file for node_exporter's textfile collector."""

import click

from node import client
from node.cli import output
from node.cli.base import Command, flags

__all__ = ["metrics"]


@click.command(cls=Command)
def metrics() -> None:
    """Print the metrics in Prometheus's text format."""
    result = client.call("metrics", timeout=60)
    output.emit(result, [str(result["text"]).rstrip("\n")], as_json=flags().json)
