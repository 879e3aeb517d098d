"""`sidecar init tail FILE`: what it prints parses the file, as it says."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config import preset_names
from tests.support.process import run_command

SAMPLES = Path(__file__).parent.parent / "support" / "presets"


def init(file: Path, *options: str) -> tuple[dict[str, Any], list[str]]:
    """The tail that is proposed, and the comments behind it; `sidecar check` takes it."""
    done = run_command("init", "tail", str(file), *options)
    assert done.returncode == 0, done.stderr
    tails = yaml.safe_load(done.stdout)["tails"]
    (tail,) = tails.values()
    base = {
        "proxy": {"urls": ["http://127.0.0.1:1"]},
        "streams": {tail["stream"]: {"data_id": 1, "access_token": "t"}},
    }
    directory = file.parent / "conf.d"
    directory.mkdir(exist_ok=True)
    (directory / "base.yml").write_text(json.dumps(base))
    (directory / "tail.yml").write_text(done.stdout)
    checked = run_command("check", "--config", str(directory), "--state", str(file.parent))
    assert checked.returncode == 0, checked.stderr
    tried = run_command("try", "--config", str(directory), "--tail", next(iter(tails)), str(file))
    comments = [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")]
    assert f"{len(tried.stdout.splitlines())} events of the first lines" in comments[0]
    assert json.loads(tried.stdout.splitlines()[0])["event"] == json.loads(comments[1])["event"]
    return tail, comments


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "logback"])
def test_a_log_of_a_known_program_is_recognised(tmp_path: Path, name: str) -> None:
    file = tmp_path / "unknown.txt"
    shutil.copy(SAMPLES / f"{name}.log", file)
    tail, _ = init(file)
    assert tail["parse"] == name
    assert tail["paths"] == [str(file)]


LINES = {
    "json": '{"time":"2026-11-27T10:00:00Z","level":"info","msg":"one"}\n{"time":"2026-11-27T10:00:01Z","msg":"two"}\n',
    "logfmt": 'ts=1764208800 level=warn msg="a b"\nts=1764208801 level=info msg=c\n',
    "csv": "id,total\n1,2\n3,4\n",
    "w3c": "#Fields: date time cs-method\n2026-11-27 02:00:00 GET\n2026-11-27 02:00:01 PUT\n",
    "zeek": "#fields\tts\tuid\n1764208800.5\tC1\n1764208801.5\tC2\n",
    "cri": "".join(f"2026-11-27T10:00:00Z {line}\n" for line in ("stdout P one ", "stdout F line", "stderr F two")),
    "docker": '{"log":"a\\n","stream":"stdout","time":"2026-11-27T10:00:00Z"}\n' * 2,
}


@pytest.mark.parametrize("form", LINES)
def test_a_format_is_recognised(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"a.{form}"
    file.write_text(LINES[form])
    tail, _ = init(file, "--name", "mine", "--stream", "my-events")
    assert (tail["parse"], tail["stream"]) == (form, "my-events")
    if form in ("json", "logfmt"):
        assert tail["event"]["content"] == "{msg}"
        assert tail["event"]["timestamp"]["field"] == {"json": "time", "logfmt": "ts"}[form]
        assert tail["event"]["dimension"]["level"] == "{level}"


def test_what_a_program_wrote_in_a_container_is_looked_at_too(tmp_path: Path) -> None:
    file = tmp_path / "0.log"
    file.write_text("".join(f"2026-11-27T10:00:00Z stdout F {line}\n" for line in LINES["json"].splitlines()))
    tail, _ = init(file)
    assert tail["parse"] == {"format": "cri", "then": "json"}
    assert tail["event"]["dimension"]["stream"] == "{stream}"


def test_of_other_lines_groups_encodings_and_colours_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.log.gz"
    file.write_bytes(gzip.compress("\x1b[31m中文\x1b[0m 一\n中文 二\n".encode("gb18030")))
    tail, comments = init(file)
    assert (tail["encoding"], tail["strip_ansi"]) == ("gb18030", True)
    assert "\\u001b" not in comments[1]
    grouped = tmp_path / "b.log"
    grouped.write_text("27/11/2026 10:00:00 a\n  more\n27/11/2026 10:00:01 b\n")
    tail, _ = init(grouped)
    assert tail["multiline"]["start"].startswith(r"^\d\d?[/.-]")


def test_nothing_to_look_at_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.touch()
    done = run_command("init", "tail", str(file))
    assert (done.returncode, "empty" in done.stderr) == (1, True)
    assert run_command("init", "tail", str(tmp_path / "none")).returncode == 2
