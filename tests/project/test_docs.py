"""Every key, metric, command and answer is documented, and what is documented exists."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec
import pytest

from sidecar import __version__
from sidecar.cli import cli as cli_group
from sidecar.config import Config
from sidecar.config.readers import READERS
from sidecar.queue import QueueLane
from sidecar.queue.operations import Transaction
from sidecar.queue.schema import end_id, lowest_id
from sidecar.standin.faults import MODES, Faults
from sidecar.status.figures import figures_of
from sidecar.status.prometheus import PARTS
from tests.support.queues import direct_queue
from tests.support.statuses import samples, status

ROOT = Path(__file__).parents[2]
DOCS = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
}
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, check=False, capture_output=True, text=True).stdout.split()

CONTEXT = click.Context(cli_group)
COMMANDS = {
    name: command for name in cli_group.list_commands(CONTEXT) if (command := cli_group.get_command(CONTEXT, name))
}


def keys(struct: Any, above: str = "") -> list[str]:
    found = []
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        name, kind = field.encode_name, hints[field.name]
        if is_struct(kind):
            found += keys(kind, f"{above}{name}.")
        elif getattr(kind, "__origin__", None) is dict and is_struct(get_args(kind)[1]):
            found += keys(get_args(kind)[1], f"{above}{name}.NAME.")
        elif getattr(kind, "__origin__", None) is tuple and is_struct(get_args(kind)[0]):
            found += keys(get_args(kind)[0], f"{above}{name}.")
        else:
            found.append(above + name)
    return found


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in READERS


def documented(text: str) -> set[str]:
    """The first cell of each row of a table, where it is code."""
    return {
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


def test_every_configuration_key_is_documented_and_no_other() -> None:
    assert documented(DOCS["docs/configuration.md"]) == set(keys(Config))


def test_every_configuration_key_is_in_the_shipped_conf_d_or_the_examples() -> None:
    files = [path for name in ("conf.d", "examples") for path in sorted((ROOT / name).glob("*.yml"))]
    shipped = "".join(path.read_text() for path in files)
    for key in keys(Config):
        assert re.search(rf"^\s*#?\s*{key.split('.')[-1]}(_file)?:", shipped, re.MULTILINE), key


def test_the_documented_defaults_are_the_defaults() -> None:
    text = DOCS["docs/configuration.md"]
    config = Config(state=Path("x"))
    cells = {
        line.split("|")[1].strip(" `"): line.split("|")[2].strip()
        for line in text.splitlines()
        if line.startswith("| `")
    }
    shown = {
        "proxy.choose": config.proxy.choose, "proxy.rate": str(config.proxy.rate),
        "queue.when_full": config.queue.when_full, "queue.durability": config.queue.durability,
        "http.listen": str(config.http.listen),
        "http.allow_remote": str(config.http.allow_remote).lower(),
    }  # fmt: skip
    for key, value in shown.items():
        assert cells[key] == f"`{value}`"


def test_every_metric_is_documented_and_no_other() -> None:
    names = {name.split(",")[0] for name in samples(status())}
    assert documented(DOCS["docs/operations.md"].split("## Metrics")[1]) == names
    assert len(names) == sum(len(figures_of(part)) for part in PARTS)


def test_every_command_is_documented_and_no_other() -> None:
    text = DOCS["docs/operations.md"].split("## As a service")[0]
    assert set(re.findall(r"^\| `sidecar (\w+)", text, flags=re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    check_help(COMMANDS[name], name)


def check_help(command: click.Command, name: str) -> None:
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"
    for inner, subcommand in command.commands.items() if isinstance(command, click.Group) else ():
        check_help(subcommand, f"{name} {inner}")
        assert inner in DOCS["docs/operations.md"].split(f"`sidecar {name}", 1)[1].split("\n", 1)[0]


def test_every_fault_of_the_stand_in_is_in_the_readme() -> None:
    for mode in MODES:
        assert f"`{mode}`" in DOCS["README.md"] or mode in ("none", "down")


def test_every_setting_and_fault_of_the_stand_in_is_in_the_operations() -> None:
    section = DOCS["docs/operations.md"].split("## The stand-in proxy")[1].split("\n## ")[0]
    rows = documented(section)
    for name in [*get_type_hints(Faults), *(mode for mode in MODES if not mode.isdecimal() and mode != "none")]:
        assert name in rows, name
    for parameter in COMMANDS["proxy"].params:
        if parameter.name not in ("listen", "control", "tokens", "max_body", "record"):
            assert parameter.opts[0] in section, parameter.name


def test_links_between_the_pages_lead_somewhere() -> None:
    for name, text in DOCS.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\]\((\S+\.md)\)", DOCS["docs/decisions/README.md"]))
    assert listed == {path.name for path in (ROOT / "docs/decisions").glob("*.md")} - {"README.md"}


def test_every_dependency_was_asked_for_or_has_its_reason() -> None:
    chosen = {
        "apscheduler", "click", "httptools", "httpx", "msgspec", "prometheus-client", "pyyaml", "rich", "sqlite-utils",
        "starlette", "uvicorn", "uvloop", "zstandard", "watchdog",
    }  # fmt: skip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        name = re.match(r"[a-z0-9-]+", requirement)
        assert name is not None
        assert name[0] in chosen or f"docs/decisions/{name[0]}.md" in DOCS, requirement


def test_versions_are_pinned_for_everything_that_is_needed() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        assert re.split(r"[<>=]", requirement)[0].lower() in pinned, requirement


def test_the_version_is_the_projects() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


@pytest.mark.skipif(not TRACKED, reason="not a git checkout")
def test_no_file_names_a_machine_or_a_registry() -> None:
    machine = re.compile(rb"/(?:root|home|work)/[a-z]|pypi\.|files\.pythonhosted|deb\.debian")
    for name in TRACKED:
        if name != "tests/project/test_docs.py":
            assert not machine.search((ROOT / name).read_bytes()), name


@pytest.mark.skipif(not TRACKED, reason="not a git checkout")
def test_the_top_level_is_as_agreed() -> None:
    assert {name.split("/")[0] for name in TRACKED} <= {
        "pyproject.toml", "README.md", "sidecar", "conf.d", "tests", "packaging", "systemd", "docs", "Makefile",
        "CHANGELOG.md", "LICENSE", "constraints.txt", ".ci", ".gitignore", "examples", "CONTRIBUTING.md",
        ".editorconfig", ".pre-commit-config.yaml",
    }  # fmt: skip


@pytest.mark.parametrize("page", ["docs/extending.md", "CONTRIBUTING.md"])
def test_files_that_are_named_to_be_changed_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    named = [name for name in re.findall(r"`((?:sidecar|tests|docs)/[\w/.]+)`", text) if "NAME" not in name]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_example_of_a_queue_verb_works(tmp_path: Path) -> None:
    """It is run as it stands on the page."""
    code = (ROOT / "docs" / "extending.md").read_text().split("```python\n")[1].split("```")[0]
    names = {
        "msgspec": msgspec,
        "QueueLane": QueueLane,
        "Transaction": Transaction,
        "lowest_id": lowest_id,
        "end_id": end_id,
    }
    exec(code, names)
    with direct_queue(tmp_path / "queue.db", chunk_bytes=1) as queue:
        queue.append("1")
        queue.append("2")
        assert queue.get(names["Count"](queue.stream().fresh)) == 2  # type: ignore[operator]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda page: page.stem)
def test_every_decision_has_a_status_and_a_date(page: Path) -> None:
    if page.name != "README.md":
        third = page.read_text().splitlines()[2]
        assert re.match(r"Status: (in force|replaced by \[.*\]\(.*\))\. \d{4}-\d\d-\d\d\.", third), third
