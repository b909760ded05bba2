"""What all commands have in common: --json and -q wherever they stand, loading on use, unknown names."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

__all__ = ["Command", "Flags", "Group", "Lazy", "LazyGroup", "flags", "group"]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Flags:
    """The global options of this run."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False


class Lazy(NamedTuple):
    """Where a command lives (``module:attribute``) and its line in the help."""

    where: str
    help: str

    def load(self) -> click.Command:
        """Import it."""
        module, _, name = self.where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


def flags() -> Flags:
    """The flags of the command that is running."""
    found = click.get_current_context().find_root().ensure_object(Flags)
    assert isinstance(found, Flags)
    return found


def _set_json(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        flags().json = True


def _set_quiet(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        flags().quiet = True


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_json,
            help="Print one JSON object.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_quiet,
            help="No progress, no hints.",
        ),
    ]


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, name: str | None, **attrs: Any) -> None:
        attrs.setdefault("context_settings", SETTINGS)
        super().__init__(name, **attrs)
        self.params += _common()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, but an unknown option says that this version does not have it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _unknown_option(error, ctx) from None


class Group(click.Group):
    """A command with subcommands and the common options."""

    command_class = Command

    def __init__(self, name: str | None, **attrs: Any) -> None:
        attrs.setdefault("context_settings", SETTINGS)
        super().__init__(name, **attrs)
        self.params += _common()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As `Command.parse_args`; bare, it shows its help and is a usage error (newer click agrees)."""
        if not args and self.no_args_is_help:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _unknown_option(error, ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand. Raises UsageError that names a similar one, or says it is not in yet."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is not None:
            return name, command, args[1:]
        if name.startswith("-"):
            raise _unknown_option(click.NoSuchOption(name, ctx=ctx), ctx)
        raise click.UsageError(f"{name!r} is not in this version{self._similar(ctx, name)}", ctx)

    def _similar(self, ctx: click.Context, name: str) -> str:
        import difflib

        close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
        return f'; did you mean "{close[0]}"?' if close else ""


class LazyGroup(Group):
    """A group whose commands are imported when they are used."""

    def __init__(self, name: str, table: Mapping[str, Lazy], **attrs: Any) -> None:
        super().__init__(name, **attrs)
        self.table = dict(table)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return it."""
        entry = self.table.get(cmd_name)
        return entry.load() if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])


def group(name: str, help: str, **attrs: Any) -> Group:
    """A group that does nothing by itself."""
    return Group(name, help=help, **attrs)


def _unknown_option(error: click.NoSuchOption, ctx: click.Context) -> click.UsageError:
    close = [option for option in (error.possibilities or ()) if option.startswith("--")]
    hint = f"; did you mean {close[0]}?" if close else ""
    return click.UsageError(f"option {error.option_name} is not in this version{hint}", ctx)
