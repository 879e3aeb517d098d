"""The status page in a real browser; and web pages of strangers in the same browser."""

import contextlib
import http.server
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.process import Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1200,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary, "no chromium here: `make browser` installs it"
    assert driver, "no chromedriver here: `make browser` installs it"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, sidecar: Sidecar) -> Iterator[Callable[[str], str]]:
    """Opens the page; returns a reader of an element's text."""
    browser.get(sidecar.url + "/")
    yield lambda selector: browser.find_element(By.CSS_SELECTOR, selector).text
    serious = [entry for entry in browser.get_log("browser") if "ERR_CONNECTION" not in entry["message"]]
    assert serious == [], "errors in the browser's console"


def test_it_shows_the_books_and_follows_them(page: Any, sidecar: Sidecar) -> None:
    wait_until(lambda: page("#state") == "ok")
    sidecar.post(report(event(), event()))
    sidecar.post(report(event(), data_id=77, token="another-token"))
    sidecar.wait_empty()
    wait_until(lambda: "accepted\n3" in page("#books"), what="the new events on the page")
    assert page("#balance") == "accepted = queued + delivered + dead + dropped: balanced"
    assert "delivered\n3" in page("#books")
    assert "app-events (1500006)" in page("#streams")
    assert "77 idle" in page("#streams").replace("\n", " ")
    assert "http http 3" in page("#inputs").replace("\n", " ")
    assert sidecar.settings["proxy"]["urls"][0] in page("#proxies")
    assert f"process {sidecar.pid}" in page("#about")


def test_figures_without_a_place_of_their_own_are_shown_in_words(
    browser: webdriver.Chrome, tmp_path: Path, proxy: Proxy
) -> None:
    listen = tmp_path / "lines.sock"
    sockets = {"local": {"listen": f"unix:{listen}", "stream": "app-events"}}
    with Sidecar(tmp_path, proxy.url, {"sockets": sockets}) as sidecar, socket.socket(socket.AF_UNIX) as client:
        sidecar.start()
        client.connect(str(listen))
        browser.get(sidecar.url + "/")
        shown = lambda: browser.find_element(By.CSS_SELECTOR, "#inputs").text  # noqa: E731
        wait_until(lambda: "connections: 1" in shown(), what="the connection on the page")
        assert "connections: 1" in run_command("status", "--state", str(sidecar.state)).stdout


def test_it_says_what_a_stream_waits_for(browser: webdriver.Chrome, tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(tmp_path, proxy.url, {"proxy": {"bytes_per_data_id": "1KB/s"}}) as sidecar:
        sidecar.start()
        for _ in range(3):
            sidecar.post(report(event(event={"content": "x" * 20_000})))
        wait_until(lambda: sidecar.stream()["waits_for"], what="the limit")
        browser.get(sidecar.url + "/")
        streams = browser.find_element(By.ID, "streams")
        wait_until(lambda: "waits: 1 KB/s for data_id 1500006" in streams.text, what="the limit on the page")


def test_dead_letters_are_a_reason_until_somebody_says_that_they_are_seen(
    page: Any, browser: webdriver.Chrome, sidecar: Sidecar, proxy: Proxy
) -> None:
    wait_until(lambda: page("#state") == "ok")
    assert not browser.find_element(By.ID, "seen").is_displayed()
    proxy.fault("none", poison=["bad"])
    sidecar.post(report(event(event={"content": "bad"})))
    wait_until(lambda: "refused 1 more events for good" in page("#reasons"), what="the reason on the page")
    browser.find_element(By.ID, "seen").click()
    wait_until(lambda: page("#state") == "ok", what="the reason gone")
    assert sidecar.status()["reasons"] == []
    assert sidecar.books()["dead"] == 1
    sidecar.post(report(event(event={"content": "bad again"})))
    wait_until(lambda: browser.find_element(By.ID, "seen").is_displayed(), what="the button for the next one")


def test_what_comes_from_outside_is_shown_as_text(
    page: Any, browser: webdriver.Chrome, sidecar: Sidecar, proxy: Proxy
) -> None:
    proxy.fault("html")
    sidecar.post(report(event()))
    wait_until(lambda: page("#state") == "degraded", what="the failure on the page")
    assert "<h1>Welcome</h1>" in page("#streams")
    assert "<h1>Welcome</h1>" in page("#reasons")
    assert [heading.text for heading in browser.find_elements(By.TAG_NAME, "h1")] == ["bkmonitor-sidecar"]
    proxy.fault("none")
    wait_until(lambda: page("#state") == "ok", what="the recovery on the page")
    assert not browser.find_element(By.ID, "reasons-section").is_displayed()


def test_it_says_when_the_sidecar_is_gone_and_when_it_is_back(page: Any, sidecar: Sidecar) -> None:
    wait_until(lambda: page("#state") == "ok")
    sidecar.kill()
    wait_until(lambda: page("#state") == "not reachable")
    assert "what stands below is from" in page("#reasons")
    sidecar.start()
    wait_until(lambda: page("#state") == "ok")


def test_with_hundreds_of_streams_those_in_trouble_are_on_top_and_the_others_a_button_away(
    page: Any, browser: webdriver.Chrome, sidecar: Sidecar, proxy: Proxy
) -> None:
    for data_id in range(2000, 2120):
        answer = sidecar.post(report(event(), data_id=data_id, token=f"token-{data_id}"))
        assert answer.status_code == 200
    sidecar.wait_empty()
    proxy.fault("401", data_ids=[2077])
    sidecar.post(report(event(), data_id=2077, token="token-2077"))

    def rows() -> list[str]:
        return list(
            browser.execute_script("return [...document.querySelectorAll('#streams tr')].map(r => r.innerText)")
        )

    wait_until(lambda: len(rows()) == 40 and rows()[0].startswith("2077"), what="it is on top")
    button = browser.find_element(By.ID, "more")
    assert button.text == "Show all 121 streams"
    button.click()
    wait_until(lambda: len(rows()) == 121, what="all of them")
    button.click()
    wait_until(lambda: len(rows()) == 40)
    listed = run_command("status", "--config", str(sidecar.config))
    assert "... and 81 more, in which less is going on; --all shows them" in listed.stdout
    assert listed.stdout.count("2077") >= 1
    assert "more, in which" not in run_command("status", "--all", "--config", str(sidecar.config)).stdout


def test_it_fits_a_narrow_window(page: Any, browser: webdriver.Chrome, sidecar: Sidecar) -> None:
    sidecar.post(report(event()))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        wait_until(lambda: "app-events" in page("#streams"))
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CONTRAST = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const back = (node) => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
return [...document.querySelectorAll("body *")]
  .filter((node) => node.innerText && !node.children.length && node.offsetParent)
  .map((node) => {
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(back(node))].sort((x, y) => y - x);
    return [node.innerText, (a + 0.05) / (b + 0.05)];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(
    page: Any, browser: webdriver.Chrome, sidecar: Sidecar, proxy: Proxy, scheme: str
) -> None:
    proxy.fault("401")
    sidecar.post(report(event()))
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    wait_until(lambda: "unauthorized" in page("#streams"))
    ratios = browser.execute_script(CONTRAST)
    assert len(ratios) > 40
    assert [(text, ratio) for text, ratio in ratios if ratio < 4.5] == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_can_be_read_without_eyes(page: Any, browser: webdriver.Chrome, sidecar: Sidecar) -> None:
    wait_until(lambda: page("#state") == "ok")
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert browser.title == "ok · bkmonitor-sidecar"
    assert browser.find_element(By.ID, "state").get_attribute("aria-live") == "polite"
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = {(node["role"]["value"], node.get("name", {}).get("value")) for node in tree if not node.get("ignored")}
    assert {("meter", "Queue"), ("region", "Streams"), ("heading", "Books"), ("columnheader", "Last error")} <= names


class Stranger(http.server.BaseHTTPRequestHandler):
    """Another site, with a page that does what it likes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>stranger</title>")

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def stranger() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ATTACK = """
const [url, body, done] = arguments;
const attempts = [
  () => fetch(url + "/v2/push/", { method: "POST", mode: "no-cors", body }),
  () => fetch(url + "/v2/push/", { method: "POST", mode: "cors", body }),
  () => fetch(url + "/status").then((answer) => answer.text()).then((text) => { throw new Error("READ " + text); }),
  () => navigator.sendBeacon(url + "/v2/push/", body),
];
(async () => {
  const told = [];
  for (const attempt of attempts) {
    try { await attempt(); } catch (error) { told.push(String(error)); }
  }
  const form = document.createElement("form");
  form.method = "post"; form.enctype = "text/plain"; form.action = url + "/v2/push/"; form.target = "frame";
  const frame = document.createElement("iframe");
  frame.name = "frame";
  const field = document.createElement("input");
  field.name = body.slice(0, -1) + ',"x":"'; field.value = '"}';
  form.append(field);
  document.body.append(frame, form);
  form.submit();
  setTimeout(() => done(told.join("; ")), 700);
})();
"""


def test_a_strangers_page_can_neither_send_nor_read(browser: webdriver.Chrome, sidecar: Sidecar) -> None:
    before = sidecar.status()
    with stranger() as url:
        browser.get(url)
        told = browser.execute_async_script(ATTACK, sidecar.url, json.dumps(report(event())))
    time.sleep(0.2)
    after = sidecar.status()
    assert after["books"] == before["books"]
    assert after["inputs"][0]["rejected"] >= before["inputs"][0]["rejected"] + 3
    assert "READ" not in told
    assert sidecar.post(report(event())).status_code == 200  # the same report, from a program
