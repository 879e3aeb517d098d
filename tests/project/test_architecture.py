"""The code against the tables of docs/architecture.md: import directions, libraries with an owner, pure parts."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sidecar"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
IMPURE = {
    "asyncio", "concurrent", "ctypes", "fcntl", "gc", "io", "logging", "multiprocessing", "os", "pathlib", "queue",
    "random", "resource", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "structlog",
    "subprocess", "tempfile", "threading", "time", "uuid",
}  # fmt: skip

LONG_LINES = 400


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows(header: str) -> list[list[str]]:
    """The rows of the table whose header begins with `header`."""
    lines = iter(TEXT.splitlines())
    for line in lines:
        if line.startswith(f"| {header} |"):
            next(lines)
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    assert found, f"no table {header}"
    return found


PARTS = {code(part)[0]: set(code(allowed)) for part, _, allowed, _, _ in rows("part")}
PURE_PARTS = {code(part)[0] for part, _, _, _, pure in rows("part") if pure == "pure"}
SHELVES = {code(part)[0] for part, _, _, face, _ in rows("part") if face == "its modules"}
FACES = {face for _, _, _, cell, _ in rows("part") for face in code(cell)}
FLOORS = re.findall(r"^    (\w+)/ ", TEXT.split("## The tree")[1].split("##")[0], flags=re.MULTILINE)
PURE_INSIDE = set(code(re.search(r"Pure inside other parts: (.*?)\.\n", TEXT, re.DOTALL)[1]))  # type: ignore[index]
OWNERS = {library: set(code(owners)) for libraries, owners in rows("library") for library in code(libraries)}


def part_of(module: str) -> str:
    return module.split("/", maxsplit=1)[0]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of everything that a module imports, of the package itself down to its modules."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            own = [f"{module}.{alias.name}" for alias in node.names]
            inner = {name for name in own if name.removeprefix("sidecar.").replace(".", "/") in MODULES}
            found |= inner if inner and module.startswith("sidecar") else {module}
    return frozenset(found)


def test_every_part_is_in_the_table() -> None:
    assert {part_of(module) for module in MODULES} - {".", "__init__", "__main__"} == set(PARTS)
    assert list(PARTS) == FLOORS


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_in_the_allowed_directions(module: str) -> None:
    part = part_of(module)
    if part in (".", "__init__", "__main__"):
        return
    own = {name.split(".")[1] for name in imports(MODULES[module]) if name.startswith("sidecar.")}
    assert own - {part} <= PARTS[part]


@pytest.mark.parametrize("part", PARTS)
def test_imports_run_down_the_tree(part: str) -> None:
    assert PARTS[part] <= set(FLOORS[FLOORS.index(part) + 1 :])


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_past_the_face_of_another_part(module: str) -> None:
    for name in imports(MODULES[module]) if module != "__main__" else ():
        target = "/".join(name.split(".")[1:])
        if name.startswith("sidecar.") and part_of(target) != part_of(module) and part_of(target) not in SHELVES:
            assert target in FACES, f"{name} is inside of {part_of(target)}"


def test_no_rule_is_wider_than_the_code() -> None:
    for part, allowed in PARTS.items():
        used = {
            name.split(".")[1]
            for module, path in MODULES.items()
            if part_of(module) == part
            for name in imports(path)
            if name.startswith("sidecar.")
        }
        assert allowed <= used, f"{part} may import {allowed - used}, but does not"


def test_inputs_queue_and_forward_never_import_one_another() -> None:
    for part in ("inputs", "queue", "forward"):
        assert not PARTS[part] & {"inputs", "queue", "forward"}


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_with_an_owner_is_imported_nowhere_else(library: str) -> None:
    for module, path in MODULES.items():
        if any(name.split(".")[0] == library for name in imports(path)):
            assert any(module == owner or module.startswith(f"{owner}/") for owner in OWNERS[library]), module


def test_structlog_is_set_up_in_one_place() -> None:
    configures = [module for module, path in MODULES.items() if "structlog.configure" in path.read_text()]
    assert configures == ["host/log"]


@pytest.mark.parametrize("module", MODULES)
def test_pure_modules_are_pure(module: str) -> None:
    if part_of(module) not in PURE_PARTS and module not in PURE_INSIDE:
        return
    text = MODULES[module].read_text()
    names = {name.split(".")[0] for name in imports(MODULES[module])}
    assert names & IMPURE == set()
    for call in ("open(", ".now(", "print(", "await ", "async def"):
        assert call not in text.replace("def open_envelope(", "").replace("open_envelope(", ""), call


@functools.cache
def defined_in(module: str, name: str) -> str:
    """Return the module that `name`, imported from `module`, comes from: through faces, down to where it is made."""
    if f"{module}/{name}" in MODULES:
        return f"{module}/{name}"
    for node in tree_of(MODULES[module]).body:
        if isinstance(node, ast.ImportFrom) and any((each.asname or each.name) == name for each in node.names):
            return defined_in(own_module(node), name) if own_module(node) else module
    return module


def own_module(node: ast.ImportFrom) -> str:
    """Return the module of ours that is imported from; empty if it is a library."""
    first, *rest = (node.module or "").split(".")
    return ("/".join(rest) or "__init__") if first == "sidecar" else ""


@functools.cache
def reached(module: str) -> frozenset[str]:
    """Return all modules of ours whose names a module uses, also through others, and itself."""
    found: set[str] = set()
    to_look_at = [module]
    while to_look_at:
        each = to_look_at.pop()
        if each in found:
            continue
        found.add(each)
        for node in ast.walk(tree_of(MODULES[each])):
            if isinstance(node, ast.ImportFrom) and own_module(node):
                to_look_at += [defined_in(own_module(node), alias.name) for alias in node.names]
    return frozenset(found)


ONLY_FOR_A_TYPE = {"config/model": {"pathlib"}}
"""Paths are values of the configuration; who opens them is another."""


@pytest.mark.parametrize("module", sorted(PURE_INSIDE | {each for each in MODULES if part_of(each) in PURE_PARTS}))
def test_pure_modules_use_only_what_is_pure_all_the_way_down(module: str) -> None:
    impure = {
        each: found
        for each in reached(module)
        if (
            found := {name.split(".")[0] for name in imports(MODULES[each])} & IMPURE - ONLY_FOR_A_TYPE.get(each, set())
        )
    }
    assert impure == {}


def test_what_is_said_to_be_pure_exists() -> None:
    assert set(MODULES) >= PURE_INSIDE


def test_only_the_command_line_exits() -> None:
    for module, path in MODULES.items():
        if part_of(module) != "cli":
            assert not re.search(r"sys\.exit|os\._exit|raise SystemExit", path.read_text()), module


def test_sql_stands_only_in_the_queue() -> None:
    statement = re.compile(r"\"(SELECT|INSERT|UPDATE|DELETE|PRAGMA|CREATE) ")
    assert {part_of(module) for module, path in MODULES.items() if statement.search(path.read_text())} == {"queue"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    text = MODULES[module].read_text()
    if module not in (".", "__main__"):
        assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_modules_that_may_have_two_reasons_to_change_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """No limit: a module is split by idea, never by length."""
    with capsys.disabled():
        for module, path in MODULES.items():
            lines = len(path.read_text().splitlines())
            if lines > LONG_LINES:
                print(f"\n{module}: {lines} lines", end="")


def test_every_thread_has_a_name() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("threading.Thread", "ThreadPoolExecutor"):
                keywords = {keyword.arg for keyword in node.keywords}
                assert keywords & {"name", "thread_name_prefix"}, module


def test_no_public_class_or_alias_has_the_name_of_another() -> None:
    """One word for one thing: whoever reads a name anywhere knows which it is."""
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in tree_of(path).body:
            for name in names_of(node):
                if not name.startswith("_") and not name.isupper():
                    places.setdefault(name, []).append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def names_of(node: ast.stmt) -> list[str]:
    """The names of classes, and of aliases of types, that a statement makes."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [
            each.id for each in node.targets if isinstance(each, ast.Name) and each.id[0].isupper() and each.id != "T"
        ]
    return []


@pytest.mark.parametrize(
    ("command", "most"),
    [
        *((name, 45) for name in ("status", "tails", "retry", "reload", "drain", "why", "dead", "replay")),
        ("send", 70),  # called by scripts, for each event
    ],
)
def test_a_command_that_only_asks_does_not_load_the_daemon(command: str, most: int) -> None:
    """What it imports is what its start costs: an operator types it on thousands of hosts."""
    code = f"import sys, sidecar.cli.{command}; print(*[name for name in sys.modules if name.startswith('sidecar')])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert len(loaded) < most, sorted(loaded)
    assert not {"sidecar.service.app", "sidecar.forward.client", "sidecar.intake"} & set(loaded)
    assert "sidecar.queue" not in loaded, "only where no sidecar runs, or what is asked for stands in its file"


OLD_WORDS = {
    "allowance", "answering", "budget", "complaints", "conversation", "dispatch", "following", "flights", "gathered",
    "listening", "lookup", "made", "maker", "makers", "pace", "receipts", "records", "register", "sources",
    "submission", "suspicion", "taken", "turns", "upkeep", "verdict", "views", "way", "web",
}  # fmt: skip
OLD_CLASSES = {
    "Allowance", "Answering", "Budget", "Complaints", "Conversation", "Dispatch", "Door", "Flight", "Flights",
    "Gathered", "Handed", "Maker", "Pace", "Promote", "PutOff", "Register", "Room", "Submission", "Suspicion", "Upkeep",
    "Way",
}  # fmt: skip


def test_no_module_or_class_has_a_word_that_the_glossary_gave_up() -> None:
    assert {module.rpartition("/")[2] for module in MODULES} & OLD_WORDS == set()
    found = {
        node.name for path in MODULES.values() for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)
    }
    assert found & OLD_CLASSES == set()


EXPLAINED = ("forward", "queue", "intake", "inputs", "service")
"""In these rooms every attribute that begins as nothing (None, zero, an empty container) says what it means."""
NOTHING = re.compile(r"(None|False|0|0\.0|-1|\"\"|b\"\"|\[\]|\{\}|set\(\)|deque\(\)|Counter\(\)|float\(\"-?inf\"\))")


def unexplained(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    found = []
    for owner in ast.walk(tree_of(path)):
        if not isinstance(owner, ast.ClassDef):
            continue
        told = ast.get_docstring(owner) or ""
        for method in owner.body:
            for node in method.body if isinstance(method, ast.FunctionDef) and method.name == "__init__" else ():
                if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                    continue
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if not ast.unparse(target).startswith("self."):
                    continue
                line, above = lines[node.lineno - 1], lines[node.lineno - 2]
                explained = "#" in line or above.strip().startswith("#") or f"`{ast.unparse(target)[5:]}`" in told
                if NOTHING.fullmatch(ast.unparse(node.value).replace("'", '"')) and not explained:
                    found.append(f"{owner.name}: {line.strip()}")
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(tuple(f"{x}/" for x in EXPLAINED))])
def test_attributes_that_begin_as_nothing_are_explained(module: str) -> None:
    assert unexplained(MODULES[module]) == []


def written_from_outside(path: Path) -> list[str]:
    """Attributes of anything but `self` that a module assigns."""
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        each = [part for one in targets for part in (one.elts if isinstance(one, ast.Tuple) else [one])]
        found += [
            ast.unparse(part) for part in each if isinstance(part, ast.Attribute) and ast.unparse(part.value) != "self"
        ]
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("inputs/tail/")])
def test_nothing_in_a_tail_writes_to_another_object(module: str) -> None:
    """What is known of a file is written in `tracked_file.py` only: its races are to be read there."""
    assert written_from_outside(MODULES[module]) == []


def test_unit_tests_touch_no_disk_thread_process_or_socket() -> None:
    touching = re.compile(
        r"^(?:import|from) (?:socket|threading|subprocess|tempfile|shutil)\b|\btmp_path\b", re.MULTILINE
    )
    files = sorted((ROOT / "tests" / "unit").glob("test_*.py"))
    assert files
    assert [file.name for file in files if touching.search(file.read_text())] == []
