"""The commands as a person or a script calls them: what they print, and their exit codes."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sidecar.config.model import Event, Multiline, Socket, Stream, Tail
from tests.support.pem import Authority
from tests.support.process import TOKEN, Proxy, Sidecar, run_command
from tests.support.reports import event, report

ROOT = Path(__file__).parents[2]


def test_the_shipped_conf_d_works_as_it_stands(tmp_path: Path) -> None:
    done = run_command("check", "--config", str(ROOT / "conf.d"), "--state", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "[http://127.0.0.1:10215]" in done.stdout
    with Proxy(tmp_path) as proxy:
        proxy.url = "http://127.0.0.1:10215"  # where `sidecar proxy` listens without options
        proxy.start()
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.config = ROOT / "conf.d"
            sidecar.arguments = lambda: ["run", "--config", str(ROOT / "conf.d"), "--state", str(sidecar.state)]  # type: ignore[method-assign]
            sidecar.start()
            assert sidecar.port == 10205
            assert sidecar.post(report(event())).status_code == 200
            sidecar.wait_empty()
            assert len(proxy.items()) == 1
            assert sidecar.stop() == 0


def test_every_comment_of_the_shipped_conf_d_shows_a_default_or_a_good_example(tmp_path: Path) -> None:
    """Uncommented, every key is valid, and those said to be defaults are."""
    text = (ROOT / "conf.d" / "00-sidecar.yml").read_text()
    (tmp_path / "00-sidecar.yml").write_text(re.sub(r"^( *)#(?=\S| {2,}\S)", r"\1", text, flags=re.MULTILINE))
    authority = Authority(tmp_path)
    authority.issue("client")
    text = (tmp_path / "00-sidecar.yml").read_text()
    (tmp_path / "00-sidecar.yml").write_text(re.sub(r"/etc/sidecar/((ca|client)\.\w+)", rf"{tmp_path}/\1", text))
    done = run_command("check", "--config", str(tmp_path), "--json", env={"APP_EVENTS_TOKEN": "x"})
    assert done.returncode == 0, done.stderr
    shown = {row["key"]: row for row in json.loads(done.stdout)}
    shipped = run_command("check", "--config", str(ROOT / "conf.d"), "--json")
    defaults = {row["key"]: row for row in json.loads(shipped.stdout)}
    set_here = [
        key
        for key, row in shown.items()
        if row["origin"] != "default" and key.split(".")[0] not in ("streams", "sockets")
    ]
    without_default = {
        "defaults.agent_id",
        "defaults.target",
        "http.status_listen",
        "proxy.ca_file",
        "proxy.client_cert",
        "proxy.client_key",
        "proxy.via",
    }
    assert set(set_here) >= set(defaults) - {"defaults.target"}
    for key in set_here:
        if key not in without_default | {"state"}:
            assert shown[key]["value"] == defaults[key]["value"], key


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A conf.d with all examples, and what they name."""
    shutil.copy(ROOT / "conf.d" / "00-sidecar.yml", tmp_path)
    for path in (ROOT / "examples").iterdir():
        text = re.sub(r"/etc/sidecar/[\w-]+\.tokens?", str(tmp_path / "token"), path.read_text())
        (tmp_path / path.name).write_text(text)
    (tmp_path / "token").write_text("secret")
    return tmp_path


@pytest.mark.parametrize("left_out", [None, "sockets.yml", "tails.yml"])
def test_the_examples_are_good_as_they_stand_each_and_all_together(copied: Path, left_out: str | None) -> None:
    if left_out:
        (copied / left_out).unlink()
    done = run_command("check", "--config", str(copied), "--json")
    assert done.returncode == 0, done.stderr
    if left_out != "tails.yml":
        tried = run_command("test", "--config", str(copied))
        assert tried.returncode == 0, tried.stdout + tried.stderr


def test_every_comment_of_the_examples_is_good_too(copied: Path) -> None:
    """But for the other ways, of which only one may be gone."""
    other_way = ("#format: raw", "#continue:", "#where_not", "    where: {level")
    for name in ("streams.yml", "sockets.yml", "tails.yml"):
        lines = [line for line in (copied / name).read_text().splitlines() if not any(way in line for way in other_way)]
        text = re.sub(r"^( *)#(?=\S| {2,}\S)", r"\1", "\n".join(lines), flags=re.MULTILINE)
        text = text.replace("owner: sidecar", "owner: root").replace("[app, 1001]", "[root, 1001]")
        (copied / name).write_text(text)
    done = run_command("check", "--config", str(copied), "--json")
    assert done.returncode == 0, done.stderr
    shown = {row["key"]: row["value"] for row in json.loads(done.stdout)}
    assert shown["sockets.local.max_line"] == "1,000,000 bytes"
    assert shown["sockets.dgram.listen"] == "unixgram:/run/sidecar/dgram.sock"
    assert shown["sockets.tcp.tokens"] == "[********]"
    assert shown["tails.app.poll"] == "1.0s"
    known = {f.encode_name for kind in (Tail, Socket, Stream, Event, Multiline) for f in msgspec.structs.fields(kind)}
    text = "".join((ROOT / "examples" / name).read_text() for name in ("streams.yml", "sockets.yml", "tails.yml"))
    assert {name for name in known if not re.search(rf"\b{name}(_file)?\b", text)} == set()


def test_check_names_every_mistake_and_exits_78(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("proxy: {urls: [nonsense], tmeout: 5s}\nqueue: {max_size: -5}\n")
    done = run_command("check", "--config", str(tmp_path))
    assert (done.returncode, done.stdout) == (78, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"sidecar: {tmp_path}/a.yml:") for line in lines)
    assert "did you mean timeout?" in done.stderr


@pytest.mark.parametrize("command", [["run"], ["status"]])
def test_every_command_refuses_a_wrong_configuration_with_78(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "a.yml").write_text("nonsense: 5\n")
    done = run_command(*command, "--config", str(tmp_path))
    assert done.returncode == 78
    assert "nonsense: unknown key" in done.stderr


def test_run_without_a_proxy_says_so(tmp_path: Path) -> None:
    done = run_command("run", "--state", str(tmp_path / "state"), cwd=tmp_path)
    assert done.returncode == 78
    assert "give --proxy http://PROXY:10205" in done.stderr


def test_check_misses_a_proxy_as_run_does(tmp_path: Path) -> None:
    done = run_command("check", cwd=tmp_path)
    assert done.returncode == 78
    assert "proxy.urls: missing" in done.stderr


def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    for arguments in (
        ["nonsense"],
        ["run", "--nonsense"],
        ["run", "--config", str(tmp_path / "missing")],
        ["proxy", "--fault", "x"],
    ):
        done = run_command(*arguments)
        assert done.returncode == 2
        assert "Usage: " in done.stderr


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    state, proxy = str(tmp_path / "s"), "http://10.0.0.1:10205"
    env = {"SIDECAR_PROXY": proxy, "SIDECAR_STATE": state, "SIDECAR_CONFIG": str(tmp_path)}
    (tmp_path / "a.yml").write_text("queue: {max_age: 1d}\n")
    shown = json.loads(run_command("check", "--json", env=env).stdout)
    rows = {row["key"]: (row["value"], row["origin"]) for row in shown}
    assert rows["proxy.urls"] == (f"[{proxy}]", "SIDECAR_PROXY")
    assert rows["state"] == (state, "SIDECAR_STATE")
    assert rows["queue.max_age"] == ("1d", f"{tmp_path}/a.yml:1")


def test_check_masks_secrets(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("streams: {a: {data_id: 5, access_token: very-secret}}\n")
    done = run_command("check", "--config", str(tmp_path), "--proxy", "http://10.0.0.1:10205")
    assert "very-secret" not in done.stdout + done.stderr
    assert "streams.a.access_token" in done.stdout


def test_status_of_a_running_sidecar(proxy: Proxy, sidecar: Sidecar) -> None:
    sidecar.post(report(event(), event()))
    sidecar.wait_empty()
    done = run_command("status", "--config", str(sidecar.config))
    assert done.returncode == 0
    assert done.stdout.startswith("ok  sidecar ")
    assert "books: accepted 2 = queued 0 + delivered 2 + dead 0 + dropped 0: balanced" in done.stdout
    assert "app-events" in done.stdout
    assert f"proxy {proxy.url} up" in done.stdout
    shown = json.loads(run_command("status", "--json", "--config", str(sidecar.config)).stdout)
    assert shown["books"] == sidecar.books()
    assert set(shown) == set(sidecar.status())


def test_status_shows_a_long_error_whole_and_as_text(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("html")
    sidecar.post(report(event()))
    sidecar.wait_for("delivery failed")
    done = run_command("status", "--config", str(sidecar.config))
    assert done.stdout.startswith("degraded  ")
    assert "<p>Please log in to use this network.</p></body></html>: not a proxy's acknowledgement" in done.stdout
    assert TOKEN not in done.stdout


def test_status_of_a_stopped_sidecar_comes_from_the_disk(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    sidecar.post(report(event(), event()))
    sidecar.kill()
    done = run_command("status", "--config", str(sidecar.config))
    assert done.returncode == 1
    assert "stopped  no sidecar runs on" in done.stdout
    assert "books: accepted 2 = queued 2 + delivered 0 + dead 0 + dropped 0: balanced" in done.stdout
    shown = json.loads(run_command("status", "--json", "--config", str(sidecar.config)).stdout)
    assert (shown["state"], shown["books"]["queued"], shown["books"]["balanced"]) == ("stopped", 2, True)


def test_status_where_none_ever_ran(tmp_path: Path) -> None:
    done = run_command("status", "--state", str(tmp_path), "--proxy", "http://10.0.0.1:10205", cwd=tmp_path)
    assert done.returncode == 1
    assert "none ever did" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_on_a_terminal_fits_the_window(sidecar: Sidecar) -> None:
    sidecar.post(report(event()))
    main, child = pty.openpty()
    env = {**os.environ, "COLUMNS": "70", "TERM": "xterm"}
    command = [sys.executable, "-m", "sidecar", "status", "--config", str(sidecar.config)]
    subprocess.run(command, check=True, stdout=child, stdin=child, env=env, timeout=20)
    os.close(child)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert "\x1b[32mok" in shown


def test_the_stand_in_proxy_by_its_own_commands(proxy: Proxy, sidecar: Sidecar) -> None:
    sidecar.post(report(event()))
    sidecar.wait_empty()
    summary = proxy.summary()
    assert (summary["documents"], summary["events"], summary["answers"]) == (1, 1, {"200": 1})
    lines = run_curl(f"{proxy.control}/accepted?after=0").splitlines()
    assert json.loads(lines[0])["data"] == proxy.items()
    assert run_curl(f"{proxy.control}/accepted?after=1") == ""
    wrong = json.loads(run_curl(f"{proxy.control}/faults", "-X", "PUT", "-d", '{"mode":"explode"}'))
    assert "modes: none, down, 500" in wrong["error"]
    assert proxy.stop() == 0


def run_curl(*arguments: str) -> str:
    command = ["curl", "-sS", "--noproxy", "*", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.mark.parametrize("command", ["run", "check", "status", "proxy", "demo"])
def test_every_command_has_help(command: str) -> None:
    done = run_command(command, "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout


def test_the_version() -> None:
    assert run_command("--version").stdout.startswith("sidecar, version ")


def test_a_running_sidecar_can_be_asked_whatever_has_become_of_its_configuration(
    tmp_path: Path, sidecar: Sidecar
) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("nonsense: 5\n")
    where = ("--config", str(wrong), "--state", str(sidecar.state))
    for command in (["status"], ["tails"], ["tails", "--json"], ["dead", "list"], ["why", "app-events"], ["drain"]):
        done = run_command(*command, *where)
        assert (done.returncode, done.stderr) == (0, "the configuration is not right; see `sidecar check`\n"), command
    assert json.loads(run_command("tails", "--json", *where).stdout)["tails"] == []
    assert run_command("why", "app-events", "--config", str(wrong)).returncode == 78


def test_options_may_stand_before_or_behind_a_subcommand_of_tails(sidecar: Sidecar) -> None:
    config = ("--config", str(sidecar.config))
    for arguments in (("tails", *config, "skip", "none"), ("tails", "skip", *config, "none")):
        done = run_command(*arguments)
        assert done.returncode == 1
        assert "no tail is called none" in done.stderr


def test_a_record_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    done = run_command("proxy", "--record", str(tmp_path / "none" / "x"))
    assert done.returncode == 2
    assert f"--record: {tmp_path}/none/x: No such file or directory" in done.stderr
