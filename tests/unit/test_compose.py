"""docker-compose.yml and the files that it mounts fit together: as far as that can be seen without an engine."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast
from urllib.parse import urlsplit

import pytest
import typer.main
import yaml
from pydantic import BaseModel, Field, StrictStr

from examples.school.app import CONFIG
from tenantry import Config, ConfigError
from tenantry.cli import build
from tenantry.config import MetricsSection, PromotionSection, RouterSection, TenancySection, role_of
from tenantry.demo.world import World
from tenantry.ids import Kind

ROOT = Path(__file__).parents[2]
THREE = {
    "TENANTRY_CONTROL_DSN": "postgresql://control@db/control",
    "TENANTRY_SHARED_DSN": "postgresql://app@db/shared",
    "TENANTRY_ACME_DSN": "postgresql://app@other/acme",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def pgbouncer() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "config/pgbouncer.ini")
    return parser


def test_the_compose_file_has_every_service(services: dict[str, dict[str, Any]]) -> None:
    product = {"school-tables", "school-policies", "school"}
    servers = {"shared", "dedicated", "pgbouncer"}
    assert set(services) == servers | product | {"init", "tenantry", "prometheus", "grafana"}
    assert all("image" in service for service in services.values())


class Build(BaseModel, extra="forbid"):
    context: str
    target: str


class Healthcheck(BaseModel, extra="forbid"):
    test: list[str]
    interval: Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")]
    timeout: Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")]
    retries: int


class Condition(BaseModel, extra="forbid"):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Service(BaseModel, extra="forbid"):
    """What the Compose specification has of a service, as far as the file uses it."""

    image: str
    build: Build | None = None
    entrypoint: list[StrictStr] | None = None
    command: list[StrictStr] | None = None  # a number or a yes that is not quoted is another word for YAML
    environment: dict[str, StrictStr] = {}
    ports: list[Annotated[str, Field(pattern=r"^127\.0\.0\.1:\d+:\d+$")]] = []
    volumes: list[Annotated[str, Field(pattern=r"^[\w./-]+:/[\w./-]+(:ro)?$")]] = []
    depends_on: dict[str, Condition] | list[str] = {}
    healthcheck: Healthcheck | None = None
    restart: Literal["no", "always", "on-failure", "unless-stopped"] | None = None


def test_the_file_is_of_the_compose_specifications_form(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    known = {"name", "services", "volumes", "networks", "configs", "secrets", "include"}
    assert {key for key in compose if not key.startswith("x-")} <= known
    for service in services.values():
        Service.model_validate(service)


def test_the_product_is_configured_by_the_file_that_the_console_reads(services: dict[str, dict[str, Any]]) -> None:
    (mounted,) = services["school"]["volumes"]
    source, target, _ = mounted.split(":")
    assert f"{source}:" in services["tenantry"]["volumes"][0]
    assert target == f"/app/{CONFIG.relative_to(ROOT)}"
    assert "COPY examples ./examples" in (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {f"!{name}" for line in copied for name in line.split()} <= set(ignored), (
        "what is copied is in the context"
    )


def test_whatever_is_mounted_is_there_and_read_only(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    mounted = [volume for service in services.values() for volume in service.get("volumes", ())]
    files = [volume for volume in mounted if volume.startswith("./")]
    assert len(files) >= 8
    for volume in files:
        path, _, mode = volume.split(":")
        assert (ROOT / path).exists(), f"{path} is mounted and missing"
        assert mode == "ro"
    named = {volume.split(":")[0] for volume in mounted if not volume.startswith("./")}
    assert named == set(compose["volumes"])


def test_every_port_is_on_the_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == len(set(ports)) >= 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_services_wait_for_services_that_exist(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        wanted = service.get("depends_on", {})
        conditions = wanted.items() if isinstance(wanted, dict) else [(name, {}) for name in wanted]
        for name, condition in conditions:
            assert name in services
            if condition.get("condition") == "service_healthy":
                assert "healthcheck" in services[name]


def test_what_is_built_has_a_stage_in_the_dockerfile(services: dict[str, dict[str, Any]]) -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert {service["build"]["target"] for service in services.values() if "build" in service} == stages
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists()


def test_both_servers_can_take_part_in_a_promotion(services: dict[str, dict[str, Any]]) -> None:
    for name in ("shared", "dedicated"):
        assert "wal_level=logical" in services[name]["command"]


def test_the_configuration_names_services_databases_and_roles_that_are_made(
    services: dict[str, dict[str, Any]], pgbouncer: configparser.ConfigParser
) -> None:
    config = Config.load(ROOT / "config/compose.yaml", environment={})
    made = {name: (ROOT / f"config/postgres/{name}.sql").read_text() for name in ("shared", "dedicated")}
    users = dict(re.findall(r'^"(\w+)" "(\w+)"$', (ROOT / "config/pgbouncer-userlist.txt").read_text(), re.M))
    dsns = [config.control.dsn]
    for database in config.databases.values():
        dsns += [dsn for dsn in (database.dsn, database.operator_dsn, database.direct_dsn) if dsn is not None]
    assert len(dsns) == 1 + 3 * 2
    for dsn in dsns:
        parts = urlsplit(dsn.get_secret_value())
        host, name = parts.hostname, parts.path.lstrip("/")
        assert host in services
        if host == "pgbouncer":
            assert str(parts.port) == pgbouncer["pgbouncer"]["listen_port"]
            host = dict(pair.split("=") for pair in pgbouncer["databases"][name].split())["host"]
            assert users[str(parts.username)] == parts.password
        assert f"CREATE DATABASE {name}" in made[str(host)]
        role = f"CREATE ROLE {parts.username} LOGIN PASSWORD '{parts.password}'"
        assert parts.username == "postgres" or role in made[str(host)]


def test_compose_and_demo_part_the_scopes_role_from_the_directorys() -> None:
    demo = World(cast(Any, Server("shared")), cast(Any, Server("other"))).config()
    for config in (Config.load(ROOT / "config/compose.yaml", environment={}), demo):
        control = {role_of(config.control.dsn.get_secret_value()), role_of(config.control.listen_dsn)}
        scopes = {role_of(database.dsn.get_secret_value()) for database in config.databases.values()}
        assert scopes == {"app"}
        assert control == {"control"}


class Server(NamedTuple):
    """As much of a server as a configuration asks for."""

    name: str

    def dsn(self, database: str, user: str) -> str:
        return f"postgresql://{user}@{self.name}/{database}"


def test_pgbouncer_runs_in_transaction_mode(pgbouncer: configparser.ConfigParser) -> None:
    assert pgbouncer["pgbouncer"]["pool_mode"] == "transaction"
    config = Config.load(ROOT / "config/compose.yaml", environment={})
    assert int(pgbouncer["pgbouncer"]["max_client_conn"]) >= 10 * config.router.connections


def test_prometheus_scrapes_what_the_service_serves(services: dict[str, dict[str, Any]]) -> None:
    scraping = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())
    targets = [
        target
        for job in scraping["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    command = services["tenantry"]["command"]
    assert f"tenantry:{command[command.index('--port') + 1]}" in targets


def test_grafana_finds_its_dashboards_and_prometheus(services: dict[str, dict[str, Any]]) -> None:
    places = {volume.split(":")[0]: volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    folder = ROOT / "config/grafana/provisioning"
    providers = yaml.safe_load(next((folder / "dashboards").glob("*.yml")).read_text())["providers"]
    assert {provider["options"]["path"] for provider in providers} == {places["./config/grafana/dashboards"]}
    sources = yaml.safe_load(next((folder / "datasources").glob("*.yml")).read_text())["datasources"]
    assert {urlsplit(source["url"]).hostname for source in sources} == {"prometheus"}


@pytest.mark.parametrize("name", ["init", "tenantry", "school-policies"])
def test_the_compose_services_commands_are_tenantrys(services: dict[str, dict[str, Any]], name: str) -> None:
    found: Any = typer.main.get_command(build())
    words = list(services[name]["command"])
    while hasattr(found, "commands"):
        command = words.pop(0)
        found = found.commands[command]
    found.make_context(command, words)


def test_the_engine_agrees_with_the_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no `docker compose` here to check the file with")
    done = subprocess.run(
        [docker, "compose", "--file", ROOT / "docker-compose.yml", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- the example for users ---------------------------------------------------------------------------------------


def test_the_example_loads_with_the_three_variables_that_it_names() -> None:
    config = Config.load(ROOT / "config/tenantry.yaml", environment=THREE)
    assert {name: database.kind for name, database in config.databases.items()} == {
        "shared": Kind.SHARED,
        "acme": Kind.DEDICATED,
    }


def test_the_example_shows_the_defaults() -> None:
    config = Config.load(ROOT / "config/tenantry.yaml", environment=THREE)
    assert config.tenancy == TenancySection()
    assert config.router == RouterSection()
    assert config.promotion == PromotionSection()
    assert config.metrics == MetricsSection()


def test_what_the_example_has_commented_out_is_accepted_when_it_is_not() -> None:
    text = (ROOT / "config/tenantry.yaml").read_text()
    head, _, body = text.partition("tenancy:\n")
    uncommented = re.sub(r"^( *)# ((?:  )*[\w.]+: ?)", r"\1\2", f"tenancy:\n{body}", flags=re.MULTILINE)
    assert uncommented.count("#") < body.count("#")
    loaded = yaml.safe_load(uncommented)
    names = set(re.findall(r"\$\{(\w+)\}", uncommented))
    config = Config.parse(loaded, environment=dict.fromkeys(names, "postgresql://x@y/z"))
    assert config.databases["shared"].operator_dsn is not None
    assert config.databases["shared"].statement_timeout == 30.0
    assert config.tenancy.tables["public.countries"] == "reference"
    assert config.servers["eu1"].operator_dsn is not None
    assert head.startswith("#")


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"databases\.acme\.dsn.*TENANTRY_ACME_DSN"):
        Config.load(ROOT / "config/tenantry.yaml", environment={k: v for k, v in THREE.items() if "ACME" not in k})
