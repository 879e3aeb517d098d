"""The PEM files for https proxies: what will not do is a mistake with its place, found when conf.d is loaded."""

import ssl
from pathlib import Path

import pytest

from sidecar.config import Loaded, Options, Proxy, load_config, tls_context
from sidecar.core.errors import ConfigError
from tests.support.pem import Authority, encrypt
from tests.support.process import run_command

pytestmark = pytest.mark.debian


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, the pairs `one` and `two`, and files that are something else."""
    directory = tmp_path_factory.mktemp("pem")
    authority = Authority(directory)
    one, _ = authority.issue("one"), authority.issue("two")
    encrypt(one.key, directory / "locked.key")
    rsa = Authority(directory / "rsa", algorithm="rsa:2048").issue("rsa")
    rsa.key.rename(directory / "rsa.key")
    (directory / "both.pem").write_bytes(one.cert.read_bytes() + one.key.read_bytes())
    (directory / "text").write_text("not PEM")
    (directory / "empty").touch()
    (directory / "cut.pem").write_bytes(one.cert.read_bytes()[:200])
    (directory / "cut.key").write_bytes(one.key.read_bytes()[:100])
    (directory / "der").write_bytes(ssl.PEM_cert_to_DER_cert(one.cert.read_text()))
    return directory


def load(files: Path, *lines: str, environ: dict[str, str] | None = None) -> Loaded:
    file = files / "sidecar.yml"
    file.write_text("\n".join(["proxy:", "  urls: [https://proxy.example:10205]", *(f"  {line}" for line in lines)]))
    return load_config(Options(config=file, state=files / "state"), environ or {})


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["ca_file: nowhere"], "3: proxy.ca_file: @nowhere: No such file or directory"),
        (["ca_file: ."], "3: proxy.ca_file: @: expected a file"),
        (["ca_file: one.key"], "3: proxy.ca_file: @one.key: expected certificates in PEM, which begin with"),
        (["ca_file: text"], "3: proxy.ca_file: @text: expected certificates in PEM, which begin with"),
        (["ca_file: empty"], "3: proxy.ca_file: @empty: expected certificates in PEM"),
        (["ca_file: cut.pem"], "3: proxy.ca_file: @cut.pem: expected certificates in PEM"),
        (["ca_file: der"], "3: proxy.ca_file: @der: expected certificates in PEM"),
        (["ca_file: [a]"], "3: proxy.ca_file: expected a single value, got a list"),
        (["ca_file: 5"], "3: proxy.ca_file: expected text; put it in quotes, got 5"),
        (["client_key: one.key"], "3: proxy.client_key: set without proxy.client_cert; expected the key's certificate"),
        (["client_cert: nowhere", "client_key: one.key"], "3: proxy.client_cert: @nowhere: No such file"),
        (["client_cert: text", "client_key: one.key"], "3: proxy.client_cert: @text: expected certificates in PEM"),
        (["client_cert: one.pem"], "3: proxy.client_cert: @one.pem: expected a private key in PEM"),
        (["client_cert: one.pem"], "; or proxy.client_key, the path of a file that holds it"),
        (["client_cert: one.pem", "client_key: nowhere"], "4: proxy.client_key: @nowhere: No such file"),
        (["client_cert: one.pem", "client_key: text"], "4: proxy.client_key: @text: expected a private key in PEM"),
        (["client_cert: one.pem", "client_key: cut.key"], "4: proxy.client_key: @cut.key: expected a private key"),
        (
            ["client_cert: one.pem", "client_key: two.key"],
            "4: proxy.client_key: @two.key: expected the key of the certificate in @one.pem, got another one",
        ),
        (["client_cert: one.pem", "client_key: rsa.key"], "@rsa.key: expected the key of the certificate in @one.pem"),
        (["client_cert: one.pem", "client_key: locked.key"], "expected a private key without a passphrase"),
        (["ca_files: ca.pem"], "3: proxy.ca_files: unknown key; did you mean ca_file?"),
    ],
)  # fmt: skip
def test_a_file_that_will_not_do_names_its_place_and_what_would_be_right(
    files: Path, lines: list[str], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(files, *lines)
    (found,) = caught.value.problems
    assert problem.replace("@", f"{files}/").replace("/:", ":") in found
    assert found.startswith(f"{files}/sidecar.yml:")


def test_mistakes_in_several_files_are_reported_at_once(files: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(files, "ca_file: text", "client_cert: one.pem", "client_key: two.key", "rate: 0/min")
    assert len(caught.value.problems) == 1  # what concerns more than one key waits until each is right by itself
    with pytest.raises(ConfigError) as caught:
        load(files, "ca_file: text", "client_cert: one.pem", "client_key: two.key")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["ca_file: ca.pem"],
        ["client_cert: one.pem", "client_key: one.key"],
        ["ca_file: ca.pem", "client_cert: both.pem"],
    ],
)
def test_the_context_checks_certificate_and_host_name(files: Path, lines: list[str]) -> None:
    context = tls_context(load(files, *lines).config.proxy)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    if "ca_file: ca.pem" in lines:
        assert len(context.get_ca_certs()) == 1  # and none of this host's


def test_a_relative_path_is_beside_the_file_or_among_the_credentials(files: Path, tmp_path: Path) -> None:
    assert load(files, "ca_file: ca.pem").config.proxy.ca_file == files / "ca.pem"
    (tmp_path / "mine.pem").write_bytes((files / "ca.pem").read_bytes())
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(files, "ca_file: mine.pem", environ=credentials).config.proxy.ca_file == tmp_path / "mine.pem"
    assert load(files, f"ca_file: {files}/ca.pem", environ=credentials).config.proxy.ca_file == files / "ca.pem"


def test_a_file_that_went_wrong_after_loading_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"^proxy\.ca_file: /nowhere: No such file"):
        tls_context(Proxy(ca_file=Path("/nowhere")))  # type: ignore[arg-type]


def test_check_says_so_and_exits_78(files: Path) -> None:
    load(files)
    file = files / "sidecar.yml"
    file.write_text(file.read_text() + "\n  client_cert: one.pem\n  client_key: two.key\n")
    result = run_command("check", "--config", str(file), "--state", str(files / "state"))
    assert result.returncode == 78
    assert f"{file}:4: proxy.client_key: {files}/two.key: expected the key of" in result.stderr
    file.write_text(file.read_text().replace("two.key", "one.key"))
    result = run_command("check", "--config", str(file), "--state", str(files / "state"))
    assert result.returncode == 0, result.stderr
