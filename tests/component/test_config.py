"""conf.d: every mistake at once, each with its place and what would be right."""

import socket
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config, Loaded, Options, load_config
from sidecar.config.addresses import host_address, is_own_address
from sidecar.config.show import MASK, effective
from sidecar.core.errors import ConfigError
from sidecar.core.units import Rate

GOOD = "proxy: {urls: [http://10.0.0.1:10205]}\n"
OPEN = "http: {listen: '0.0.0.0:5', allow_remote: true}\n"


class ConfD:
    """A conf.d directory to write files into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.write_text(text)
        return file

    def load(self, environ: dict[str, str] | None = None, **options: Any) -> Loaded:
        given = Options(**({"config": self.path, "state": self.path / "state"} | options))
        return load_config(given, environ or {})

    def config(self, text: str, environ: dict[str, str] | None = None) -> Config:
        self.write("10.yml", GOOD + text)
        return self.load(environ).config

    def problems(self, text: str, environ: dict[str, str] | None = None) -> list[str]:
        self.write("10.yml", text)
        with pytest.raises(ConfigError) as caught:
            self.load(environ)
        return [problem.replace(f"{self.path}/", "") for problem in caught.value.problems]


@pytest.fixture
def conf_d(tmp_path: Path) -> ConfD:
    return ConfD(tmp_path)


def test_every_key_of_the_interface(conf_d: ConfD) -> None:
    conf_d.write("app.token", "secret-token\n")
    conf_d.write(
        "10.yml",
        f"""
state: {conf_d.path}/elsewhere
proxy:
  urls: [http://10.0.0.1:10205, "http://10.0.0.2:10205/"]
  choose: spread
  timeout: 250ms
  max_body: 400KB
  rate: 600/min
queue: {{max_size: 1GiB, max_age: 12h, when_full: drop_oldest, durability: normal, keep_delivered: 1d}}
http: {{listen: "127.0.0.1:10299", max_body: 6MB, allowed_hosts: [a.local, b.local]}}
defaults: {{target: "0:${{HOST_IP}}"}}
streams:
  app-events: {{data_id: 1500006, access_token_file: {conf_d.path}/app.token, kind: event}}
  app-load: {{data_id: 1500101, access_token: "${{APP_LOAD_TOKEN}}", kind: time_series, timestamps: convert}}
""",
    )
    config = conf_d.load({"APP_LOAD_TOKEN": "other", "HOST_IP": "10.9.8.7"}, state=None).config
    assert config.state == conf_d.path / "elsewhere"
    assert config.proxy.urls == ("http://10.0.0.1:10205", "http://10.0.0.2:10205")
    assert (config.proxy.choose, config.proxy.timeout, config.proxy.max_body) == ("spread", 0.25, 400_000)
    assert config.proxy.rate == Rate(600, 60.0)
    assert (config.queue.max_size, config.queue.max_age, config.queue.keep_delivered) == (2**30, 43_200, 86_400)
    assert (config.queue.when_full, config.queue.durability) == ("drop_oldest", "normal")
    assert str(config.http.listen) == "127.0.0.1:10299"
    assert (config.http.max_body, config.http.allowed_hosts) == (6_000_000, ("a.local", "b.local"))
    assert config.defaults.target == "0:10.9.8.7"
    assert config.streams["app-events"].access_token == "secret-token"
    assert (config.streams["app-load"].access_token, config.streams["app-load"].timestamps) == ("other", "convert")


def test_the_defaults_are_those_of_the_interface(conf_d: ConfD) -> None:
    config = conf_d.config("")
    assert (config.proxy.choose, config.proxy.timeout, config.proxy.max_body) == ("failover", 15, 500_000)
    assert config.proxy.rate == Rate(1000, 60.0)
    assert (config.queue.max_size, config.queue.max_age, config.queue.keep_delivered) == (2**31, 604_800, 0)
    assert (config.queue.when_full, config.queue.durability) == ("refuse", "full")
    assert str(config.http.listen) == "127.0.0.1:10205"
    assert (config.http.max_body, config.http.allowed_hosts, config.http.allow_remote) == (5_000_000, (), False)


def test_an_unlimited_rate(conf_d: ConfD) -> None:
    conf_d.write("10.yml", "proxy: {urls: [http://10.0.0.1:10205], rate: unlimited}")
    assert conf_d.load().config.proxy.rate is None


def test_every_mistake_is_reported_at_once(conf_d: ConfD) -> None:
    conf_d.write("20.yml", "queue:\n  max_size: much\n  when_fool: refuse\n")
    problems = conf_d.problems("proxy:\n  urls: [10.0.0.1:10205]\n  rate: 0/min\nhtttp: {}\n")
    assert problems == [
        "10.yml:4: htttp: unknown key; did you mean http?",
        "10.yml:2: proxy.urls[0]: expected a URL such as http://10.0.0.1:10205, got 10.0.0.1:10205",
        "10.yml:3: proxy.rate: expected a rate such as 1000/min or 20/s, or unlimited, got 0/min",
        "20.yml:3: queue.when_fool: unknown key; did you mean when_full?",
        "20.yml:2: queue.max_size: expected a size such as 500KB, 64MiB or 2GiB, got much",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("proxy: {urls: http://10.0.0.1:10205}", "10.yml:1: proxy.urls: expected a list such as [a, b], got http"),
        ("proxy: {urls: [ftp://10.0.0.1]}", "expected a URL such as http://10.0.0.1:10205, got ftp://10.0.0.1"),
        ("proxy: {urls: ['http://u:p@h']}", "without a user or password"),
        ("proxy: {urls: ['http://h/?a=b']}", "expected a URL"),
        ("proxy: {urls: ['http://h:99999']}", "expected a URL"),
        ("proxy: {urls: [{a: b}]}", "10.yml:1: proxy.urls[0]: expected a single value, got keys and values"),
        ("proxy: 5", "10.yml:1: proxy: expected keys and values, got 5"),
        ("proxy: [5]", "proxy: expected keys and values, got a list"),
        (GOOD + "queue: {max_size: 0}", "10.yml:2: queue.max_size: expected a size of at least 1MB, got 0"),
        (GOOD + "queue: {max_size: }", "queue.max_size: expected a size such as 500KB, 64MiB or 2GiB, got nothing"),
        (GOOD + "queue: {max_age: 7}", "queue.max_age: expected a duration such as 250ms, 10s, 5min, 12h or 7d, got 7"),
        (GOOD + "queue: {max_age: 7days}", "got 7days"),
        (GOOD + "queue: {when_full: explode}", "queue.when_full: expected refuse or drop_oldest, got explode"),
        (GOOD + "queue: {durability: off}", "queue.durability: expected full or normal, got off"),
        (GOOD + "http: {listen: 10205}", "http.listen: expected HOST:PORT such as 127.0.0.1:10205 or"),
        (GOOD + "http: {listen: '::1:10205'}", "expected HOST:PORT"),
        (GOOD + "http: {listen: '127.0.0.1:70000'}", "expected HOST:PORT"),
        (GOOD + "http: {listen: '0.0.0.0:10205'}", "expected a loopback address, or http.allow_remote"),
        (GOOD + "http: {allow_remote: yes}", "http.allow_remote: expected true or false, got yes"),
        (GOOD + "http: {allowed_hosts: a}", "http.allowed_hosts: expected a list such as [a, b], got a"),
        (GOOD + "streams: {a: {data_id: 5}}", "missing (or streams.a.access_token_file, the path"),
        (GOOD + "streams: {a: {access_token: x}}", "streams.a.data_id: missing"),
        (GOOD + "streams: {a: {data_id: -5, access_token: x}}", "a positive whole number up to 2147483647, got -5"),
        (GOOD + "streams: {a: {data_id: x, access_token: x}}", "a positive whole number up to 2147483647, got x"),
        (GOOD + "streams: {a: {data_id: 5, access_token: ''}}", "10.yml:2: streams.a.access_token: expected a token"),
        (GOOD + "streams: {a: {data_id: 5, access_token: x, kind: log}}", "expected event or time_series, got log"),
        (GOOD + "streams: {a: {data_id: 5, access_token_file: /nowhere}}", "access_token_file: /nowhere: No such file"),
        (GOOD + "streams: {a: {data_id: 5, access_token: x, access_token_file: y}}", "set beside access_token"),
        (
            GOOD + "streams:\n  a: {data_id: 5, access_token: x}\n  b: {data_id: 5, access_token: y}",
            "10.yml:4: streams.b.data_id: 5 is already the data_id of streams.a",
        ),
        (GOOD + "streams: [a]", "streams: expected names, each with keys and values, got a list"),
        (GOOD + "defaults: {target: 5}", "defaults.target: expected text; put it in quotes, got 5"),
        (GOOD + "defaults: {target: '${NOWHERE}'}", "10.yml:2: ${NOWHERE}: no such environment variable"),
        (GOOD + "queue: {}\nqueue: {}", "10.yml:3: queue: set twice, first at 10.yml:2; keep one"),
        (GOOD + "queue: {max_size: 1GB, max_size: 2GB}", "max_size: set twice, first at 10.yml:2"),
        (GOOD + "a: [", "10.yml:2: not YAML"),
        (GOOD + "? [a]\n: b", "10.yml:2: a key must be a word"),
        (GOOD + "a: !!python/object:os.system x", "a: unknown key"),
        ("just text", "10.yml:1: expected keys and values such as `proxy: {urls: [...]}`"),
        ("queue: {}", "proxy.urls: missing; set it in conf.d, or give --proxy http://PROXY:10205"),
        ("proxy: {urls: ['http://127.0.0.1:10205']}", "is this sidecar's own http.listen"),
        ("proxy: {urls: ['http://localhost:10205/v2/push/']}", "is this sidecar's own http.listen"),
        (GOOD + "trails: {}", "10.yml:2: trails: unknown key"),
        (GOOD + "a: &x [1]\nb: *x", "10.yml:3: not YAML: *aliases are not supported"),
        (GOOD + "a: &a [*a, *a]", "10.yml:2: not YAML: *aliases are not supported"),
        (GOOD + "streams: {a: {data_id: !!int 0x10, access_token: x}}", "number up to 2147483647, got 0x10"),
        (GOOD + "queue: {max_age: !!int abc}", "expected a duration such as"),
        (GOOD + "queue: {max_size: " + "9" * 400 + "}", "expected a size such as"),
        (GOOD + "queue: {max_age: " + "9" * 400 + "s}", "expected a duration such as"),
        (GOOD + "queue: {keep_delivered: 999999999999d}", "expected a duration of at most 3650d"),
        (GOOD + "queue: {max_age: 0s}", "queue.max_age: expected a duration above zero, got 0s"),
        ("proxy: {urls: [http://10.0.0.1:1], timeout: 0}", "proxy.timeout: expected a duration above zero, got 0"),
        ("proxy: {urls: [http://10.0.0.1:1], rate: " + "9" * 400 + "/min}", "expected a rate such as"),
        ("proxy: {urls: [http://10.0.0.1:1], max_body: 100}", "expected a size of at least 20KB, got 100"),
        (GOOD + "queue: {max_size: 5KB}", "expected a size of at least 1MB, got 5KB"),
        (GOOD + "streams: {a: {data_id: 5, access_token: '" + "x" * 600 + "'}}", "at most 512 printable"),
        (GOOD + 'streams: {a: {data_id: 5, access_token: "\\ud800"}}', "printable characters"),
        (GOOD + "streams: {a: {data_id: 5, access_token_file: /dev/zero}}", "/dev/zero: expected a file"),
        (GOOD + 'streams: {a: {data_id: 5, access_token_file: "a\\0b"}}', "expected"),
        (GOOD + 'defaults: {target: "\\ud800"}', "defaults.target: expected printable text"),
        (OPEN + "proxy: {urls: ['http://127.0.0.1:5']}", "is this sidecar's own http.listen"),
        (OPEN + f"proxy: {{urls: ['http://{host_address()}:5']}}", "is this sidecar's own http.listen"),
        (GOOD + "a" + ": {a" * 30 + ": 1" + "}" * 30, "nested too deep"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_place_and_what_would_be_right(conf_d: ConfD, text: str, problem: str) -> None:
    assert any(problem in found for found in conf_d.problems(text)), conf_d.problems(text)


def test_what_concerns_several_keys_is_reported_beside_other_mistakes(conf_d: ConfD) -> None:
    problems = conf_d.problems(
        "http: {listen: '0.0.0.0:5'}\nproxy: {urls: ['http://127.0.0.1:5']}\nqueue: {max_age: 0s}\n"
        "streams: {a: {data_id: 5, access_token: x}, b: {data_id: 5, access_token: x}, c: {data_id: x}}"
    )
    assert len(problems) == 6
    for part in (
        "open to other hosts",
        "own http.listen",
        "duration above zero",
        "already the data_id",
        "c.data_id",
        "c.access",
    ):
        assert any(part in problem for problem in problems), part


def test_a_value_from_the_environment_in_a_list_wants_quotes(conf_d: ConfD) -> None:
    (problem, *_) = conf_d.problems("proxy: {urls: [http://${NAME}:1]}")
    assert problem.endswith("; put a value with ${...} in quotes")


def test_a_secret_file_with_a_relative_path_is_beside_the_configuration(conf_d: ConfD) -> None:
    conf_d.write("app.token", "beside")
    config = conf_d.config("streams: {a: {data_id: 5, access_token_file: app.token}}")
    assert config.streams["a"].access_token == "beside"


def test_the_state_may_not_be_at_a_user_that_does_not_exist(conf_d: ConfD) -> None:
    conf_d.write("10.yml", GOOD + "state: ~no-such-user/x")
    with pytest.raises(ConfigError, match="state: expected a path; there is no such user"):
        conf_d.load(state=None)


def test_files_merge_in_lexical_order_and_a_value_is_set_once(conf_d: ConfD) -> None:
    conf_d.write("20.yaml", "queue: {max_age: 1d}\nstreams: {b: {data_id: 2, access_token: y}}\n")
    conf_d.write("ignored.txt", "nonsense: [")
    config = conf_d.config("queue: {max_size: 1GB}\nstreams: {a: {data_id: 1, access_token: x}}\n")
    assert (config.queue.max_size, config.queue.max_age, list(config.streams)) == (10**9, 86_400, ["a", "b"])
    problems = conf_d.problems(GOOD + "queue: {max_age: 2d}\n")
    assert problems == [
        (
            "20.yaml:1: queue.max_age: set twice, first at 10.yml:2; keep one of them, "
            "or write `max_age: !override ...` here"
        )
    ]


def test_a_token_is_never_in_an_error(conf_d: ConfD) -> None:
    for text in (
        GOOD + "streams: {a: {data_id: 5, access_token: [very-secret]}, b: {access_token: very-secret}}",
        GOOD + "streams: {a: very-secret}",
        GOOD + "streams: {a: {data_id: 5, access_token: *very-secret}}",
        "proxy: {urls: ['http://user:very-secret@h:1']}",
        "proxy: {urls: ['ftp://user:very-secret@h:1']}",
    ):
        assert "very-secret" not in "\n".join(conf_d.problems(text))


def test_secret_files_of_systemd_credentials(conf_d: ConfD) -> None:
    conf_d.write("credential", "from-systemd\n")
    text = "streams: {a: {data_id: 5, access_token_file: credential}}"
    config = conf_d.config(text, {"CREDENTIALS_DIRECTORY": str(conf_d.path)})
    assert config.streams["a"].access_token == "from-systemd"


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "expected a token"), (b"\xff", "not UTF-8 text"), (b"x" * 600, "of at most 512"), (b"a\nb", "printable")],
)
def test_a_secret_file_that_holds_no_secret(conf_d: ConfD, content: bytes, why: str) -> None:
    (conf_d.path / "token").write_bytes(content)
    text = GOOD + f"streams: {{a: {{data_id: 5, access_token_file: {conf_d.path}/token}}}}"
    assert any(why in problem for problem in conf_d.problems(text))


def test_a_numeric_token_keeps_its_digits(conf_d: ConfD) -> None:
    config = conf_d.config("streams: {a: {data_id: 5, access_token: 007123}, b: {data_id: 6, access_token: 1_000}}")
    assert [stream.access_token for stream in config.streams.values()] == ["007123", "1_000"]


def test_the_command_line_goes_before_the_files(conf_d: ConfD) -> None:
    conf_d.write("10.yml", GOOD + "state: /nowhere\n")
    loaded = conf_d.load(proxies=("http://10.0.0.9:1",), state=conf_d.path / "mine")
    assert loaded.config.proxy.urls == ("http://10.0.0.9:1",)
    assert loaded.config.state == conf_d.path / "mine"
    assert (loaded.origins["proxy.urls"], loaded.origins["state"]) == ("--proxy", "--state")


def test_no_configuration_at_all_needs_only_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_config(Options(proxies=("http://10.0.0.1:10205",)), {})
    assert str(loaded.config.http.listen) == "127.0.0.1:10205"
    assert loaded.config.defaults.target is None


def test_a_directory_without_files_is_a_mistake(conf_d: ConfD) -> None:
    with pytest.raises(ConfigError, match=r"no \.yml or \.yaml files"):
        conf_d.load()


def test_other_hosts_may_be_let_in_in_so_many_words(conf_d: ConfD) -> None:
    config = conf_d.config("http: {listen: '0.0.0.0:10205', allow_remote: true}")
    assert str(config.http.listen) == "0.0.0.0:10205"


def test_what_can_be_bound_to_is_not_for_that_this_hosts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `net.ipv4.ip_nonlocal_bind`, usual where addresses move between hosts, every address can be bound to."""
    monkeypatch.setattr(socket.socket, "bind", lambda *_: None)
    assert not any(map(is_own_address, ["192.0.2.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "2001:db8::1", "name"]))
    assert all(map(is_own_address, ["127.0.0.1", "127.0.0.77", "::1", host_address() or "127.0.0.1"]))


def test_an_address_that_comes_later_is_put_in_its_places_without_reading_the_files_again(conf_d: ConfD) -> None:
    conf_d.write("a.yml", "proxy: {urls: ['http://10.0.0.1:5']}\ndefaults: {target: '0:${HOST_IP}'}\n")
    loaded = load_config(Options(config=conf_d.path, state=conf_d.path), {})
    (conf_d.path / "a.yml").write_text("not yaml: [")
    assert loaded.with_address is not None
    changed = loaded.with_address("10.7.7.7")
    assert (changed.defaults.ip, changed.defaults.target) == ("10.7.7.7", "0:10.7.7.7")
    assert changed.proxy == loaded.config.proxy
    conf_d.write("a.yml", "proxy: {urls: ['http://10.0.0.1:5']}\n")
    assert load_config(Options(config=conf_d.path, state=conf_d.path), {"HOST_IP": "1.2.3.4"}).with_address is None


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ({"192.0.2.1": "10.1.1.1", "2001:db8::1": "2001:db8::5"}, "10.1.1.1"),
        ({"2001:db8::1": "2001:db8::5"}, "2001:db8::5"),
        ({"192.0.2.1": "127.0.0.1"}, None),
        ({}, None),
    ],
)
def test_the_address_of_a_host_with_one_network_or_another_or_none(
    routes: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Probe(socket.socket):
        def connect(self, address: Any) -> None:
            if address[0] not in routes:
                raise OSError(101, "Network is unreachable")
            self.found = routes[address[0]]

        def getsockname(self) -> Any:
            return (self.found, 5)

    monkeypatch.setattr("sidecar.config.addresses.socket.socket", Probe)
    assert host_address() == expected


def test_host_ip_is_this_hosts_own_address_unless_the_environment_says_otherwise(conf_d: ConfD) -> None:
    target = conf_d.config("defaults: {target: '0:${HOST_IP}'}").defaults.target
    assert target is not None
    assert target.count(".") == 3


def test_the_effective_configuration_shows_origins_and_no_secrets(conf_d: ConfD) -> None:
    conf_d.write("token", "very-secret")
    conf_d.config(
        f"queue: {{max_age: 1d}}\nstreams:\n  a: {{data_id: 5, access_token: very-secret}}\n"
        f"  b: {{data_id: 6, access_token_file: {conf_d.path}/token}}\n"
    )
    rows = {row.key: row for row in effective(conf_d.load())}
    assert (rows["queue.max_age"].value, rows["queue.max_age"].origin) == ("1d", f"{conf_d.path}/10.yml:2")
    assert rows["proxy.rate"].origin == "default"
    assert rows["streams.a.access_token"].value == rows["streams.b.access_token"].value == MASK
    assert rows["streams.b.access_token"].origin == f"{conf_d.path}/10.yml:5"
    assert "very-secret" not in str(rows)


@pytest.mark.parametrize("first", ["tails:\n", "tails: {}\n", "tails:\n  #app: {}\n", ""])
@pytest.mark.parametrize("last", ["", "tails:\n"])
def test_a_key_with_only_comments_below_it_is_as_if_it_were_not_there(conf_d: ConfD, first: str, last: str) -> None:
    conf_d.write("00.yml", GOOD + "streams: {s: {data_id: 5, access_token: t}}\n" + first)
    conf_d.write("50.yml", "tails: {a: {paths: [/x/*.log], stream: s}}\n")
    conf_d.write("90.yml", last)
    assert list(conf_d.load().config.tails) == ["a"]


def test_a_later_file_may_take_the_place_of_a_value_on_purpose_and_only_so(conf_d: ConfD) -> None:
    conf_d.write("00.yml", GOOD + "queue: {max_age: 1d, durability: full}\nhttp: {allowed_hosts: [a, b]}\n")
    conf_d.write(
        "50.yml",
        "queue: {max_age: !override 3d}\nhttp: {allowed_hosts: !override [c], allow_remote: !override true}\n"
        "proxy: {connections: !override 5}\n"
        "streams: !override {s: {data_id: !override 7, access_token: !override '5'}}\n",
    )
    config = conf_d.load().config
    assert (config.queue.max_age, config.queue.durability) == (3 * 86_400.0, "full")
    assert (config.http.allowed_hosts, config.http.allow_remote, config.proxy.connections) == (("c",), True, 5)
    assert (config.streams["s"].data_id, config.streams["s"].access_token) == (7, "5")
    conf_d.write("60.yml", "queue: {max_age: 2d}\n")
    with pytest.raises(ConfigError, match=r"60.yml:1: queue.max_age: set twice, first at .*50.yml:1; .*!override"):
        conf_d.load()
