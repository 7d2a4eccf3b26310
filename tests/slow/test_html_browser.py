"""Pages in a real browser: nothing of a stranger's runs, nothing is loaded, and keys and narrow screens are enough."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_pages import HOSTILE, SHOWN, ids, made

from shakeout.fuzz.reporting.html import vega
from shakeout.fuzz.reporting.html.write import write_bug, write_campaign

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="no chromium with its chromedriver on the PATH"),
    pytest.mark.skipif(not vega.able(), reason=f"{vega.PACKAGE} is not installed"),
]

#: Everything that a page may hold, open.
OPENED = "document.querySelectorAll('details').forEach(one => one.open = true)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of a campaign in which strangers wrote whatever they liked, and those of its bugs."""
    directory = made(tmp_path_factory.mktemp("pages") / "run", HOSTILE)
    return [write_campaign(directory), *(write_bug(directory, bug) for bug in ids(directory).values())]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window that writes down what it is told and what it asks for."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser: Any, page: Path, *, width: int = 1280, dark: bool = False) -> None:
    """Open a page on a screen of a width, without what the browser wrote down before."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())


def asked(browser: Any) -> list[str]:
    """Addresses that were asked for since the page was opened, and that its policy let pass."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    failed = [each["params"] for each in events if each["method"] == "Network.loadingFailed"]
    kept = {each["requestId"] for each in failed if each.get("blockedReason") == "csp"}
    sent = [each["params"] for each in events if each["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent if each["requestId"] not in kept]


def test_nothing_of_a_strangers_runs_and_nothing_is_loaded(browser: Any, pages: list[Path]) -> None:
    for page in pages:
        opened(browser, page)
        browser.execute_script(OPENED)
        assert browser.execute_script("return typeof hacked") == "undefined"
        assert browser.execute_script("return document.images.length + document.querySelectorAll('iframe').length") == 0
        assert SHOWN in browser.execute_script("return document.body.textContent")
        assert browser.get_log("browser") == []
        assert asked(browser) == [page.as_uri()]


def test_the_policy_holds(browser: Any, pages: list[Path]) -> None:
    """Were something of a stranger's to come through, it would not run, and load nothing."""
    page = pages[0].with_name("broken through.html")
    text = pages[0].read_text(encoding="utf-8")
    for inserted in ("<script>hacked=1</script>", "<img src=http://127.0.0.1:9/x onerror=hacked=1>"):
        page.write_text(text.replace("<main", f"{inserted}<main"), encoding="utf-8")
        opened(browser, page)
        assert browser.execute_script("return typeof hacked") == "undefined"
        assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
        assert asked(browser) == [page.as_uri()]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_a_screen(browser: Any, pages: list[Path], width: int, dark: bool) -> None:
    for page in pages:
        opened(browser, page, width=width, dark=dark)
        browser.execute_script(OPENED)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        # Text can be told from what is behind it: at least 4.5 to 1, as WCAG has it.
        assert browser.execute_script(CONTRAST) >= 4.5


#: The least contrast of text with the background of the page, of what has no background of its own.
CONTRAST = """
const numbers = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
const light = (colour) => {
  const [r, g, b] = numbers(colour).map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = light(getComputedStyle(document.body).backgroundColor);
return Math.min(...[...document.querySelectorAll("main p, main td, main th, dt, caption, figcaption, a")].map((one) => {
  const before = light(getComputedStyle(one).color);
  return (Math.max(before, behind) + 0.05) / (Math.min(before, behind) + 0.05);
}));
"""

#: What has the focus, in a word.
FOCUSED = """
const one = document.activeElement;
const named = [one.getAttribute("aria-label"), one.textContent, one.closest("label")?.textContent, one.tagName];
return named.map((name) => (name || "").trim()).find((name) => name);
"""


def test_keys_reach_all_that_can_be_used(browser: Any, pages: list[Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(browser, pages[0])
    usable = browser.execute_script(
        "return [...document.querySelectorAll('a, button, input, summary, [tabindex=\"0\"]')]"
        ".filter(one => one.checkVisibility()).length"
    )
    reached = []
    for _ in range(usable):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.execute_script(FOCUSED))
    assert browser.execute_script("return document.activeElement !== document.body")
    assert reached[0] == "Skip to the content"
    order = [reached.index(name) for name in ("Bugs", "Ledger by target", "Operators or targets that contain", "exact")]
    assert order == sorted(order)


def test_a_long_table_is_sorted_and_filtered(browser: Any, pages: list[Path]) -> None:
    from selenium.webdriver.common.by import By

    opened(browser, pages[0])
    rows = (
        "return [...document.querySelectorAll('table[data-sort] tbody tr:not([hidden])')].map(one => one.textContent)"
    )
    assert len(browser.execute_script(rows)) == 4
    browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("SIN")
    assert len(browser.execute_script(rows)) == 2
    assert browser.find_element(By.CSS_SELECTOR, "[role=status]").text == "2 of 4 rows"
    button = browser.find_element(By.XPATH, "//th/button[.='target']")
    button.click()
    first = browser.execute_script(rows)
    button.click()
    assert browser.execute_script(rows) == first[::-1]
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"


def test_without_scripts_it_is_all_there(browser: Any, pages: list[Path]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(browser, pages[0])
        text = browser.execute_cdp_cmd("DOM.getDocument", {"depth": -1})
        assert "torch.sin" in json.dumps(text)
        boxes = "svg[role=img]"
        root = text["root"]["nodeId"]
        found = browser.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": root, "selector": boxes})["nodeIds"]
        shown = [browser.execute_cdp_cmd("DOM.getBoxModel", {"nodeId": node}) for node in found[:1]]
        assert shown[0]["model"]["width"] > 100
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
