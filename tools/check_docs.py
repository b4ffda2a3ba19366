"""Compares the documentation with the program: `python -m tools.check_docs`.

Every command, option, metric, error class and configuration key is documented, with its right default and exit
code; nothing is documented that isn't there; links and paths resolve; examples name what exists. A check that
found nothing to look at has failed, and says so.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Union, cast, get_args, get_origin

import typer.main
import yaml
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

import tenantry
from tenantry import metrics
from tenantry.cli import build, exit_codes
from tenantry.config import Config, duration
from tenantry.errors import ConfigError, TenantryError
from tests.conformance.attacks import table
from tools import reference

ROOT: Final = Path(__file__).parent.parent
_FENCE: Final = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_METRIC: Final = re.compile(r"(?<![:\w.])tenantry_[a-z0-9_]+")
_SUFFIX: Final = re.compile(r"_(total|bucket|sum|count|created)$")
_PATH: Final = re.compile(r"(?:tests|tools|src|config|docs|benchmarks|examples)/[\w./-]+\.\w+(?:::\w+)?")
_AUDIT_PAGE: Final = re.compile(r"docs/reference/audit/TN\d+\.md")  # listed in their own index
_NO_METRICS: Final = {"tenantry_directory", "tenantry_health", "tenantry_load"}  # channels, a temporary table


class Finding(NamedTuple):
    """Where documentation and program differ."""

    where: str
    problem: str


Check = Callable[[], Iterator[Finding | None]]
"""Gives None for each thing that is right, so that what was looked at can be counted."""


def texts() -> dict[str, str]:
    """The documentation, by path."""
    paths = [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *ROOT.glob("tests/*.md"),
        *ROOT.glob("examples/*/*.md"),
    ]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def page(name: str) -> str:
    """One page of the documentation; empty if it isn't there."""
    return texts().get(name, "")


# -- commands --------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command: "tenants add" -> click's command."""

    def walk(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
        for name, inner in group.commands.items():
            if hasattr(inner, "commands"):
                yield from walk(inner, (*path, name))
            else:
                yield " ".join((*path, name)), inner

    return dict(walk(typer.main.get_command(build())))


def options_of(command: Any) -> set[str]:
    """Every spelling of every option."""
    return {word for p in command.params if p.param_type_name == "option" for word in (*p.opts, *p.secondary_opts)}


def every_command_and_option() -> Iterator[Finding | None]:
    """docs/reference/cli.md has a section for each command, with a row for each option and its variable."""
    sections = {
        match[1]: match[2]
        for match in re.finditer(
            r"^#+ `tenantry ([^`]+)`\n(.*?)(?=^#+ |\Z)", page("docs/reference/cli.md"), re.M | re.S
        )
    }
    described = {re.sub(r" [A-Z\[<-].*", "", heading): text for heading, text in sections.items()}
    there = commands()
    for name, command in there.items():
        if name not in described:
            yield Finding("docs/reference/cli.md", f"no section `tenantry {name}`")
            continue
        yield None
        yield from _options("docs/reference/cli.md", name, command, described[name])
    for name in sorted(set(described) - set(there)):
        yield Finding("docs/reference/cli.md", f"there is no command {name}")


def _options(where: str, name: str, command: Any, text: str) -> Iterator[Finding | None]:
    documented = {word for line in text.splitlines() for word in re.findall(r"`(--[a-z-]+)", line) if "|" in line}
    own = {p.opts[0] for p in command.params if p.param_type_name == "option"} - {"--config", "--json"}
    for option in sorted(own):
        yield None if option in documented else Finding(where, f"`tenantry {name}`: {option} has no row")
    for option in sorted(documented - options_of(command)):
        yield Finding(where, f"`tenantry {name}` has no {option}")
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.envvar:
            wanted = f"TENANTRY_{name} {parameter.opts[0].lstrip('-')}".upper().replace(" ", "_").replace("-", "_")
            right = parameter.envvar == wanted
            yield (
                None
                if right
                else Finding(where, f"{name} {parameter.opts[0]} reads {parameter.envvar}, not {wanted}")
            )


def every_command_line() -> Iterator[Finding | None]:
    """Command lines in the documentation name commands and options that exist."""
    there = commands()
    for where, text in texts().items():
        fenced = [line.strip().removeprefix("$ ") for m in _FENCE.finditer(text) for line in m[2].splitlines()]
        inline = _CODE.findall(_FENCE.sub("", text)) + re.findall(r"^    (?:\$ )?(tenantry .*)", text, re.M)
        for line in {one for one in fenced + inline if re.match(r"tenantry [a-z]", one)}:
            yield _command_line(where, line, there)


def _command_line(where: str, line: str, there: dict[str, Any]) -> Finding | None:
    words = line.split("#")[0].split()[1:]
    if f"{words[0]} show" in there and words[1:2] and words[1].strip("[]").isupper():
        words.insert(1, "show")  # `tenantry usage TENANT` is `tenantry usage show TENANT`
    for length in (2, 1):
        command = there.get(" ".join(words[:length]))
        if command is not None:
            used = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
            wrong = sorted(used - options_of(command) - {"--help"})
            return Finding(where, f"`{line}`: no option {wrong[0]}") if wrong else None
    if words[0] in {name.split()[0] for name in there} and not (words[1:] and words[1][0].isalpha()):
        return None  # the group itself: `tenantry tenants`, `tenantry tenants …`
    return Finding(where, f"`{line}`: no such command")


# -- configuration ---------------------------------------------------------------------------------


def keys(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the file, dotted, with its field."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        here = f"{path}{name}"
        inner = _model_in(field.annotation)
        if inner is None:
            yield here, field
        else:
            yield from keys(inner, f"{here}.NAME." if get_origin(field.annotation) is dict else f"{here}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and not get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (dict, Union, types.UnionType):
        return next((found for one in get_args(annotation) if (found := _model_in(one))), None)
    return None


def every_key() -> Iterator[Finding | None]:
    """docs/reference/config.md has a row `key` | default | for each key, with the default that it has."""
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", page("docs/reference/config.md"), re.M))
    there = dict(keys())
    for key, field in there.items():
        if key not in rows:
            yield Finding("docs/reference/config.md", f"no row for `{key}`")
        elif not _same_default(rows[key].strip().strip("`"), field):
            yield Finding(
                "docs/reference/config.md", f"`{key}`: the default is {field.get_default()!r}, not {rows[key]}"
            )
        else:
            yield None
    for key in sorted(set(rows) - set(there)):
        yield Finding("docs/reference/config.md", f"there is no key {key}")


def _same_default(written: str, field: Any) -> bool:
    if field.is_required():
        return written == "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default == {}:
        return written in ("none", "null", "{}")
    if isinstance(default, bool):
        return written == str(default).lower()
    if isinstance(default, float) and not written.replace(".", "").isdigit():
        return abs(duration(written) - default) < 1e-9
    if isinstance(default, int | float):
        return float(written) == float(default)
    return written == str(default)


def every_yaml_example() -> Iterator[Finding | None]:
    """Examples in YAML are configurations, or parts of one."""
    for where, text in texts().items():
        for match in _FENCE.finditer(text):
            if match[1] != "yaml":
                continue
            data = yaml.safe_load(match[2])
            if not isinstance(data, dict) or not set(data) <= set(Config.model_fields):
                continue  # of another program
            dsn = Everything().get("DSN")
            whole = {"control": {"dsn": dsn}, "databases": {"shared": {"kind": "shared", "dsn": dsn}}, **data}
            try:
                Config.parse(whole, environment=Everything())
                yield None
            except ConfigError as error:
                yield Finding(where, f"example in YAML: {error}")


class Everything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value that is a DSN, and long enough for a secret too."""
        return "postgresql://app@a-server.example/database"


# -- metrics ---------------------------------------------------------------------------------------


def exported() -> dict[str, tuple[str, ...]]:
    """Every metric, with its labels."""
    process = metrics.PrometheusSink(Any, registry=CollectorRegistry())  # type: ignore[arg-type]
    collectors = [process, metrics.FleetCollector()]
    families = [metric for one in collectors for metric in cast(Any, one).describe()]
    return {metric.name: tuple(getattr(metric, "_labelnames", ())) for metric in families}


def every_metric() -> Iterator[Finding | None]:
    """docs/reference/metrics.md has a row for each metric with its labels; what our files name is exported."""
    there = exported()
    rows = {
        _SUFFIX.sub("", name): tuple(filter(None, re.split(r", ?", labels)))
        for name, labels in re.findall(
            r"^\| `(tenantry_\w+?)(?:\{([\w, ]*)\})?` \|", page("docs/reference/metrics.md"), re.M
        )
    }
    for name, labels in there.items():
        if name not in rows:
            yield Finding("docs/reference/metrics.md", f"no row for {name}")
        elif set(rows[name]) != set(labels):
            yield Finding("docs/reference/metrics.md", f"{name} has the labels {labels}, not {rows[name]}")
        else:
            yield None
    for name in sorted(set(rows) - set(there)):
        yield Finding("docs/reference/metrics.md", f"nobody exports {name}")
    for path in sorted((ROOT / "config").rglob("*")):
        if path.suffix in (".yml", ".yaml", ".json"):
            yield from _named_metrics(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"), there)
    for where in ("README.md", "ARCHITECTURE.md", "docs/reference/metrics.md"):  # elsewhere such names are SQL's
        yield from _named_metrics(where, page(where), there)


def _named_metrics(where: str, text: str, there: dict[str, tuple[str, ...]]) -> Iterator[Finding | None]:
    for name in sorted(set(_METRIC.findall(text)) - _NO_METRICS):
        known = name in there or _SUFFIX.sub("", name) in there
        yield None if known else Finding(where, f"nobody exports {name}")


# -- errors ----------------------------------------------------------------------------------------


def error_classes() -> dict[str, type[TenantryError]]:
    """Every error class of the package that users may see."""
    for module in pkgutil.walk_packages(tenantry.__path__, "tenantry."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(kind: type[TenantryError]) -> Iterator[type[TenantryError]]:
        yield kind
        for inner in kind.__subclasses__():
            yield from below(inner)

    ours = (kind for kind in below(TenantryError) if kind.__module__.startswith("tenantry."))
    return {kind.__name__: kind for kind in ours if not kind.__name__.startswith("_")}


def every_error() -> Iterator[Finding | None]:
    """docs/reference/errors.md has a row `Class` | exit code | for each error class."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page("docs/reference/errors.md"), re.M))
    there = error_classes()
    for name, kind in there.items():
        if name not in rows:
            yield Finding("docs/reference/errors.md", f"no row for {name} of {kind.__module__}")
        elif int(rows[name]) != (code := exit_codes.code_of(kind.__new__(kind))):
            yield Finding("docs/reference/errors.md", f"{name} ends a command with {code}, not {rows[name]}")
        else:
            yield None
    for name in sorted(set(rows) - set(there)):
        yield Finding("docs/reference/errors.md", f"there is no error {name}")


# -- links, paths, examples ------------------------------------------------------------------------


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    text = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def every_link() -> Iterator[Finding | None]:
    """Relative links lead to files that are there, and anchors to headings."""
    for where, text in texts().items():
        for target in _LINK.findall(_FENCE.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / where).parent / path if path else ROOT / where
            leaves = where.startswith("docs/") and not file.resolve().is_relative_to((ROOT / "docs").resolve())
            if leaves:
                yield Finding(where, f"link to {target} leaves the site: name the file in code marks")
            elif not file.exists():
                yield Finding(where, f"link to {target}: no such file")
            elif anchor and anchor not in map(
                slug, re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), re.M)
            ):
                yield Finding(where, f"link to {target}: no such heading")
            else:
                yield None


def every_place() -> Iterator[Finding | None]:
    """mkdocs.yml has a place for each page of docs/, and no page that isn't there."""
    config = ROOT / "mkdocs.yml"
    _, _, nav = (config.read_text(encoding="utf-8") if config.exists() else "").partition("\nnav:\n")
    placed = {f"docs/{path}" for path in re.findall(r": ([\w./-]+\.md)$", nav, re.M)}
    there = {path for path in texts() if path.startswith("docs/") and not _AUDIT_PAGE.fullmatch(path)}
    for path in sorted(there):
        yield None if path in placed else Finding(path, "has no place in mkdocs.yml's nav")
    for path in sorted(placed - there):
        yield Finding("mkdocs.yml", f"there is no {path}")


def every_written_page() -> Iterator[Finding | None]:
    """The pages that are written from the program hold what it says now."""
    for path, text in reference.pages().items():
        right = page(path) == text
        yield None if right else Finding(path, "not what the program says: run `python -m tools.reference`")


def every_public_name() -> Iterator[Finding | None]:
    """docs/reference/api.md has each name of `tenantry.__all__`; errors.md has the errors."""
    where = "docs/reference/api.md"
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: ([\w.]+)$", page(where), re.M)}
    for name in sorted(set(tenantry.__all__) - set(error_classes()) - {"__version__"}):
        yield None if name in shown else Finding(where, f"no `::: …{name}`")


def every_fragment() -> Iterator[Finding | None]:
    """Fragments of the CHANGELOG are called TOPIC.md, with one dot: towncrier leaves others out without a word."""
    for path in sorted((ROOT / "newsfragments").glob("*")):
        right = re.fullmatch(r"[a-z0-9-]+\.md", path.name) and path.read_text(encoding="utf-8").strip()
        yield None if right else Finding(f"newsfragments/{path.name}", "is not TOPIC.md with some text in it")


def every_path() -> Iterator[Finding | None]:
    """Files and tests that are named in code marks are there."""
    for where, text in texts().items():
        for code in _CODE.findall(_FENCE.sub("", text)):
            for found in _PATH.findall(code):
                path, _, test = found.partition("::")
                there = (ROOT / path).exists()
                named = there and (not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"))
                yield None if named else Finding(where, f"there is no {found}")
    for code in _CODE.findall(page("ARCHITECTURE.md")):
        if re.fullmatch(r"[a-z_]+/[\w/]+\.(py|sql)", code) and not _PATH.fullmatch(code):
            there = (ROOT / "src" / "tenantry" / code).exists()
            yield None if there else Finding("ARCHITECTURE.md", f"there is no {code} in src/tenantry")


GUARANTEES: Final = tuple(f"G{number}" for number in range(1, 25))
NOT_KEPT: Final = "not kept yet"


def every_guarantee() -> Iterator[Finding | None]:
    """The guarantees' page has a row for each one with its tests, or that says it is not kept yet."""
    where = "docs/explanation/guarantees.md"
    rows = dict(re.findall(r"^\| (G\d+) \|.*\|([^|]*)\|$", page(where), re.M))
    for name in GUARANTEES:
        if name not in rows:
            yield Finding(where, f"no row for {name}")
            continue
        named = _PATH.findall(rows[name])
        yield None if named or NOT_KEPT in rows[name] else Finding(where, f"{name} names no test")
        yield None if not (named and NOT_KEPT in rows[name]) else Finding(where, f"{name}: kept or not?")
    for name in sorted(set(rows) - set(GUARANTEES)):
        yield Finding(where, f"there is no guarantee {name}")


def every_threat() -> Iterator[Finding | None]:
    """docs/explanation/security.md has the tables that the attacks of the tests make."""
    where = "docs/explanation/security.md"
    if not (text := page(where)):
        return
    try:
        right = table.page(text) == text
    except ValueError:  # no place for a table
        right = False
    wrong = Finding(where, "not the tables that the attacks make: run `python -m tests.conformance.attacks`")
    yield None if right else wrong


def every_python_example() -> Iterator[Finding | None]:
    """Examples in Python parse, and what they import and call on a router exists."""
    for where, text in texts().items():
        for match in _FENCE.finditer(text):
            if match[1] != "python":
                continue
            try:
                tree = ast.parse(match[2])
            except SyntaxError as error:
                yield Finding(where, f"example in Python, line {error.lineno}: {error.msg}")
                continue
            yield None
            yield from _names(where, tree)


def _names(where: str, tree: ast.AST) -> Iterator[Finding | None]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tenantry":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                right = hasattr(module, alias.name)
                yield None if right else Finding(where, f"example: {node.module} has no {alias.name}")
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("router", "Router")
        ):
            right = hasattr(tenantry.Router, node.attr)
            yield None if right else Finding(where, f"example: a router has no {node.attr}")


CHECKS: Final[tuple[Check, ...]] = (
    every_command_and_option,
    every_command_line,
    every_key,
    every_yaml_example,
    every_metric,
    every_error,
    every_link,
    every_place,
    every_written_page,
    every_public_name,
    every_fragment,
    every_path,
    every_guarantee,
    every_threat,
    every_python_example,
)


def main() -> int:
    """Run every check; 0 if all is right, 1 otherwise."""
    results = {check.__name__: list(check()) for check in CHECKS}
    findings = [result for found in results.values() for result in found if result is not None]
    empty = [name for name, found in results.items() if not found]
    findings += [Finding("tools/check_docs.py", f"{name} has found nothing to look at") for name in empty]
    for finding in sorted(set(findings)):
        print(f"{finding.where}: {finding.problem}", file=sys.stderr)
    print(f"documentation: {sum(map(len, results.values()))} things looked at, {len(set(findings))} wrong")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
