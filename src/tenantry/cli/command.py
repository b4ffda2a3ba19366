"""Makes commands of plain functions: the global options, the session, and what an error looks like."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar, get_type_hints

import typer
from typer.core import TyperGroup
from typer.models import OptionInfo

from tenantry.cli import exit_codes
from tenantry.cli.render import Renderer, nowhere
from tenantry.errors import ConfigError

if TYPE_CHECKING:
    from tenantry.cli.session import Session

DEFAULT_CONFIG: Final = Path("config/tenantry.yaml")
Work = TypeVar("Work", bound=Callable[..., Any])

#: Marks an argument or option that says which tenant: the command gets the id of the one that is meant.
MEANS_TENANT: Final = object()
_PANEL: Final = "Global options"
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TENANTRY_CONFIG",
        help="The configuration file.",
        show_default=str(DEFAULT_CONFIG),
        rich_help_panel=_PANEL,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        envvar="TENANTRY_JSON",
        help="Data as JSON with stable keys.",
        rich_help_panel=_PANEL,
    ),
]
# The same behind a command's name, where people type them too. The environment is the root's to read.
_ConfigHere = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file.",
        show_default=str(DEFAULT_CONFIG),
        allow_from_autoenv=False,
        rich_help_panel=_PANEL,
    ),
]
_JsonHere = Annotated[
    bool,
    typer.Option(
        "--json", help="Data as JSON with stable keys.", allow_from_autoenv=False, rich_help_panel=_PANEL
    ),
]


class _Globals:
    """What stood before the command's name."""

    def __init__(self, config: Path | None, as_json: bool) -> None:
        self.config = config
        self.as_json = as_json


def root(kind: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """The application, without commands of its own; `kind`: of its group of commands."""
    app = typer.Typer(
        cls=kind,
        name="tenantry",
        help="An async multi-tenant PostgreSQL router: its directory, its usage, its moves.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"auto_envvar_prefix": "TENANTRY", "help_option_names": ["--help", "-h"]},
    )

    @app.callback()
    def globals_(
        context: typer.Context,
        config: ConfigOption = None,
        as_json: JsonOption = False,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                help="Print the version and leave.",
                callback=_version,
                is_eager=True,
                allow_from_autoenv=False,
            ),
        ] = False,
    ) -> None:
        context.obj = _Globals(config, as_json)

    return app


class _CommandGroup(TyperGroup):
    """A command with commands of its own, one of which may be left out."""

    default: ClassVar[str | None] = None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the word that may be left out."""
        named = args[0] in (*self.commands, "--help", "-h") if args else self.no_args_is_help
        if self.default is not None and not named:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def group(name: str, help: str, *, default: str | None = None, no_args_is_help: bool = True) -> typer.Typer:
    """A command with commands of its own, to be registered by `root.add_typer(app)`.

    Args:
        default: the one that is meant where none is named: `usage TENANT` is `usage show TENANT`.
        no_args_is_help: whether the name alone shows the help; else it is the default.
    """
    return typer.Typer(
        name=name,
        help=help,
        cls=type("Group", (_CommandGroup,), {"default": default}),
        no_args_is_help=no_args_is_help,
        pretty_exceptions_enable=False,
    )


def command(app: typer.Typer, name: str) -> Callable[[Work], Work]:
    """Make a function a command: its first parameter is the `Session`, the others are typer's.

    An async function is run to its end. The function itself is returned unchanged.
    """

    def register(work: Work) -> Work:
        app.command(name)(_runner(work))
        return work

    return register


def execute(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run a command line; the exit code. No exception leaves but SystemExit's causes."""
    sys.stdout = sys.stdout or nowhere()  # None: closed by the shell
    sys.stderr = sys.stderr or nowhere()
    code = _run(app, arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `tenantry … | head`
        sys.stdout = nowhere()
    return code


def _run(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    try:
        app(args=None if arguments is None else list(arguments), prog_name="tenantry")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exit_codes.DONE if end.code is None else exit_codes.USAGE
    return exit_codes.DONE


def _version(wanted: bool) -> None:
    if wanted:
        from tenantry import __version__

        typer.echo(__version__)
        raise typer.Exit


def _runner(work: Callable[..., Any]) -> Callable[..., None]:
    """The function that typer sees: the work's own options, and the global ones.

    A parameter whose type is a dataclass stands for an option for each field: commands share them that way.
    """
    signature = inspect.signature(work, eval_str=True)
    _, *stated = signature.parameters.values()
    sets: dict[str, Any] = {p.name: p.annotation for p in stated if dataclasses.is_dataclass(p.annotation)}
    own = [option for p in stated for option in (_options_of(p.annotation) if p.name in sets else [p])]

    def run(**options: Any) -> None:
        from tenantry.cli.session import Session  # the command's module has it already

        before: _Globals = options.pop("context").obj
        for name, kind in sets.items():
            options[name] = kind(**{field.name: options.pop(field.name) for field in dataclasses.fields(kind)})
        out = Renderer(as_json=options.pop("json_here") or before.as_json)
        session = Session(options.pop("config_here") or before.config or DEFAULT_CONFIG, out)
        _guarded(session, work, options, flags, meant)

    meant = [p.name for p in stated if MEANS_TENANT in getattr(p.annotation, "__metadata__", ())]
    flags = {parameter.name: flag for parameter in own if (flag := _flag(parameter.annotation)) is not None}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        inspect.Parameter("config_here", keyword, default=None, annotation=_ConfigHere),
        inspect.Parameter("json_here", keyword, default=False, annotation=_JsonHere),
    ]
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__, run.__module__ = work.__name__, work.__doc__, work.__module__
    return run


def _options_of(kind: Any) -> list[inspect.Parameter]:
    """An option for each field of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]


def _flag(annotation: Any) -> str | None:
    """How an option is written: "--to"; None: it is an argument."""
    for said in getattr(annotation, "__metadata__", ()):
        if isinstance(said, OptionInfo):
            written = (said.default, *(said.param_decls or ()))  # inside of Annotated the first stands as default
            return next((one for one in written if isinstance(one, str) and one.startswith("--")), None)
    return None


def _words(error: Exception, flags: Mapping[str, str]) -> str:
    """What the user reads; what an operation calls by its parameter's name, by the option's."""
    key = error.key if isinstance(error, ConfigError) and error.source is None else None
    if key is not None and key in flags:
        return flags[key] + str(error).removeprefix(key)
    return exit_codes.words_for(error)


def _guarded(
    session: Session,
    work: Callable[..., Any],
    options: dict[str, Any],
    flags: Mapping[str, str],
    meant: Sequence[str],
) -> None:
    """Do the work; tell an error in words. Never a traceback, unless one is asked for.

    Args:
        meant: options and arguments that say which tenant.
    """
    try:
        if inspect.iscoroutinefunction(work):
            import asyncio

            asyncio.run(_to_the_end(session, work, options, meant))
        else:
            work(session, **options)
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except BrokenPipeError:  # the command's own output; a broken connection is translated where it breaks
        sys.stdout = nowhere()
        raise typer.Exit(exit_codes.DONE) from None
    except Exception as error:
        if os.environ.get("TENANTRY_TRACEBACK"):
            trace = "".join(traceback.format_exception(error))
            print(session.out.scrubbed(trace), file=sys.stderr)
        session.out.error(_words(error, flags))
        raise typer.Exit(exit_codes.code_of(error)) from None


async def _to_the_end(
    session: Session, work: Callable[..., Awaitable[Any]], options: dict[str, Any], meant: Sequence[str]
) -> None:
    async with session:
        for name in meant:
            if options[name] is not None:
                options[name] = await session.ops.tenants.find(options[name])
        await work(session, **options)
