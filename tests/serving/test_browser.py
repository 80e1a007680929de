"""The page in a real browser: as one types, by keyboard, on a phone, in the dark, and without a script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from index.conftest import WORDS, RandomTower, fill, make_encoder
from serving.running import Running, running, until

from lightretriever import Index

pytestmark = pytest.mark.slow
SHOTS = os.environ.get("LIGHTRETRIEVER_SCREENSHOTS")
"""A folder for pictures of what is tested; none are taken without."""
Browser = Any


def start(*arguments: str) -> Browser:
    """A headless Chromium; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = start("--window-size=1000,900")
    yield found
    found.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """300 documents, and one that is markup."""
    folder = tmp_path_factory.mktemp("site")
    index, _, encoded = fill(folder / "i", 300)
    with index:
        evil = {"title": "<img src=x onerror=document.title='caught'>", "text": f"{WORDS[7]} <b>{WORDS[7]}</b>"}
        index.add(["<evil>"], encoded.take([0]), [{**evil, "metadata": {"evil": "<i>yes</i>"}}])
    with running(folder / "i") as found:
        yield found


@pytest.fixture
def at(browser: Browser, site: Running) -> Callable[[str], Browser]:
    """Opens a page of the site."""

    def go(path: str = "/") -> Browser:
        browser.get(site.url + path)
        return browser

    return go


def one(browser: Browser, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def all_of(browser: Browser, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def text_of(browser: Browser, selector: str = "#results") -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))


def shot(browser: Browser, name: str) -> None:
    if SHOTS:
        browser.save_screenshot(str(Path(SHOTS) / f"{name}.png"))


def accessible(browser: Browser) -> None:
    """axe-core finds nothing serious."""
    axe = files(pytest.importorskip("axe_core_python")).joinpath("axe.min.js").read_text("utf-8")
    browser.execute_script(axe)
    told = browser.execute_async_script("axe.run().then(arguments[0], (error) => arguments[0](String(error)))")
    found = [one for one in told["violations"] if one["impact"] in ("serious", "critical")]
    assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def complaints(browser: Browser) -> list[str]:
    """What the browser has to say: of the policy, of scripts; a refused request is none."""
    return [line["message"] for line in browser.get_log("browser") if "Failed to load resource" not in line["message"]]


def test_results_follow_every_key(at: Callable[..., Browser]) -> None:
    browser = at()
    accessible(browser)
    box = one(browser, "#q")
    assert browser.switch_to.active_element == box
    counts = []
    for place in range(1, len(WORDS[3]) + 1):
        box.send_keys(WORDS[3][place - 1])
        until(lambda typed=WORDS[3][:place]: f"q={typed}" in browser.current_url, "the address follows")
        counts.append(text_of(browser))
    assert "10 documents" in until(lambda: text_of(browser, ".status"), "there are results")
    assert "ms until shown" in text_of(browser, ".status")
    assert len(all_of(browser, ".hit")) == 10 and all_of(browser, ".hit mark")
    assert browser.title == f"{WORDS[3]} – search"
    shot(browser, "typed")
    accessible(browser)
    assert complaints(browser) == []


def test_an_answer_that_comes_late_is_dropped(at: Callable[..., Browser]) -> None:
    browser = at()
    browser.execute_script(
        """
        const real = window.fetch;
        let first = true;
        window.fetch = async (url, options) => {
          if (!first) return real(url, options);
          first = false;
          const answer = await real(url);  // without the signal: it cannot be aborted
          await new Promise((resolve) => setTimeout(resolve, 300));
          window.late = true;
          return answer;
        };
        """
    )
    box = one(browser, "#q")
    box.send_keys("w")
    box.send_keys("05")
    until(lambda: browser.execute_script("return window.late === true"), "the first answer came")
    until(lambda: all_of(browser, ".hit mark"), "the last one is shown")
    assert {mark.text for mark in all_of(browser, ".hit mark")} == {"w05"}
    assert browser.current_url.endswith("q=w05&mode=hybrid&k=10")


def test_mode_number_and_filter_are_switched(at: Callable[..., Browser]) -> None:
    browser = at(f"/?q={WORDS[3]}")
    one(browser, "input[value=sparse]").click()
    until(lambda: "meaning" not in text_of(browser, ".why"), "words alone count")
    one(browser, "select[name=k] option[value='5']").click()
    until(lambda: len(all_of(browser, ".hit")) == 5, "five are shown")
    one(browser, "#filter").send_keys('{"even": tru')
    until(lambda: text_of(browser, "[role=alert]"), "an unfinished filter is said to be none")
    assert "the filter is not JSON" in text_of(browser, "[role=alert]")
    shot(browser, "error")
    accessible(browser)
    one(browser, "#filter").send_keys("e}")
    until(lambda: len(all_of(browser, ".hit")) == 5, "it is one")
    assert "even: true" in text_of(browser, ".hit:last-child")
    one(browser, "#filter").clear()
    one(browser, "#filter").send_keys('{"even": "never"}')
    until(lambda: "No document was found" in text_of(browser), "nothing is found")
    shot(browser, "empty")
    accessible(browser)


def test_all_by_keyboard(at: Callable[..., Browser]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = at(f"/?q={WORDS[3]}")

    def press(key: str) -> str:
        browser.switch_to.active_element.send_keys(key)
        return str(browser.execute_script("return document.activeElement.id || document.activeElement.textContent"))

    titles = [link.text for link in all_of(browser, ".hit h2 a")]
    browser.execute_script("document.activeElement.blur()")
    one(browser, "body").send_keys("/")
    assert browser.switch_to.active_element == one(browser, "#q")
    assert press(Keys.ARROW_DOWN) == titles[0]
    assert press(Keys.ARROW_DOWN) == titles[1]
    shot(browser, "keyboard")
    assert press(Keys.ARROW_UP) == titles[0]
    assert press(Keys.ARROW_UP) == "q"
    assert press(Keys.ARROW_DOWN) == titles[0]
    press(Keys.ENTER)
    until(lambda: "/read/" in browser.current_url, "the document is read")
    accessible(browser)
    browser.back()
    one(browser, "#q").send_keys(Keys.ESCAPE)
    until(lambda: "Type a query" in text_of(browser), "it begins anew")
    assert one(browser, "#q").get_attribute("value") == ""


def test_markup_of_others_is_shown_as_it_is(at: Callable[..., Browser]) -> None:
    browser = at("/?filter=" + quote('{"evil": "<i>yes</i>"}'))
    box = one(browser, "#q")
    box.send_keys(f"{WORDS[7]} <img src=x onerror=document.title='typed'>")
    until(lambda: "<img src=x onerror=document.title='caught'>" in text_of(browser), "the title is text")
    assert not all_of(browser, "#results img, #results b, #results i")
    browser.get(browser.current_url)
    assert not all_of(browser, "img") and "caught" not in browser.title
    at(f"/?q={quote('</title><script>document.title=1</script>')}")
    assert browser.title == "</title><script>document.title=1</script> – search"
    assert complaints(browser) == []


def test_on_a_phone_in_the_dark(site: Running) -> None:
    browser = start("--window-size=360,740", "--force-dark-mode")
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        )
        media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for path in (f"/?q={WORDS[3]}", "/docs", "/read/d1"):
            browser.get(site.url + path)
            wide = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, path
            back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert max(map(int, back[4:-1].split(","))) < 64
            accessible(browser)
            shot(browser, f"phone{path.replace('/', '-').split('?')[0]}")
    finally:
        browser.quit()


def test_without_a_script_the_form_is_sent(site: Running) -> None:
    browser = start("--window-size=800,700", "--blink-settings=scriptEnabled=false")
    try:
        browser.get(site.url)
        box = one(browser, "#q")
        box.send_keys(WORDS[3])
        assert not all_of(browser, ".hit")
        box.submit()
        until(lambda: len(all_of(browser, ".hit")) == 10, "the server gives the whole page")
        assert f"q={WORDS[3]}" in browser.current_url
    finally:
        browser.quit()


def test_a_key_to_its_results_takes_milliseconds(at: Callable[..., Browser]) -> None:
    """By the browser's own clock, until they are in the page; the best, so that a busy machine does not decide."""
    browser = at()
    box = one(browser, "#q")
    took = []
    for letter in f"{WORDS[3]} {WORDS[5]} {WORDS[9]}":
        box.send_keys(letter)
        typed = f"q={quote_plus(box.get_attribute('value'))}"
        until(lambda typed=typed: typed in browser.current_url, letter)
        said = text_of(browser, "[data-took]")
        if said:
            took.append(float(said.rpartition(",")[2].split()[0]))
    assert len(took) > 5
    took.sort()
    print(f"key to results: median {took[len(took) // 2]:.1f} ms, best {took[0]:.1f} ms")
    assert took[0] < 50  # some 4 ms where nothing else runs


def test_with_a_model_enter_reads_the_query(tmp_path: Path) -> None:
    """The box is there where a model is; what it asks for is the model's to answer, which is none here."""
    with Index.create(tmp_path / "i", make_encoder()) as index:
        documents = [{"text": "w01"}]
        index.add(["a"], RandomTower().encode([type("D", (), {"input": "w01"})()]), documents)
    with running(tmp_path / "i", "--model", str(tmp_path / "nowhere")) as server:
        browser = start("--window-size=800,700")
        try:
            browser.get(server.url)
            one(browser, "input[name=full]").click()
            one(browser, "#q").send_keys("w01")
            until(lambda: all_of(browser, ".hit"), "a key looks it up")
            one(browser, "#q").submit()
            until(lambda: text_of(browser, "[role=alert]"), "Enter asks the model")
            assert "the server failed" in text_of(browser, "[role=alert]")
        finally:
            browser.quit()
