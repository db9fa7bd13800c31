"""The report's page in a real headless Chromium, as a reader uses it.

`make test-browser` (and CI) needs Chromium and its driver on the PATH; elsewhere the file is left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading

import pytest
from logged_runs import good_reply, write_run

from mmaupro_ext import report
from mmaupro_ext.report import page, serve

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
WANTED = bool(os.environ.get("MMAUPRO_TEST_BROWSER"))

pytestmark = pytest.mark.skipif(
    not WANTED and not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")),
    reason="needs Chromium, chromedriver and selenium: make test-browser",
)
HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    write_run(folder / "a", model="org/model-a")
    write_run(
        folder / "b",
        model="org/model-b",
        reply=lambda doc: HOSTILE if doc["category"] == "speech" else good_reply(doc),
    )
    frames = report.load(folder / "a", folder / "b")
    return frames, page.write(frames, folder / "report")["html"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def opened(browser, address: str, width: int = 1440):
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    WebDriverWait(browser, 30).until(lambda b: "replies" in count(b))
    return browser


def count(browser) -> str:
    return browser.find_element("id", "count").text


def find(browser, selector: str):
    return browser.find_elements("css selector", selector)


def choose(browser, name: str, value: str) -> None:
    script = "const n=document.getElementById(arguments[0]); n.value=arguments[1];"
    browser.execute_script(
        script + "n.dispatchEvent(new Event('input',{bubbles:true}))", name, value
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_loads_without_a_word_in_the_console_and_fits_its_window(made, browser, width):
    opened(browser, made[1].as_uri(), width)
    drawn = "return Promise.all([...document.querySelectorAll('.chart')].map(draw)).then((a) => a.length)"
    assert browser.execute_script(drawn) == len(find(browser, ".chart")) > 8
    assert len(find(browser, ".chart svg")) >= len(find(browser, ".chart"))
    find(browser, "#list .head")[0].click()
    wide = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = browser.execute_script(wide)
    assert content <= window == width
    assert browser.get_log("browser") == []


def test_all_figures_are_drawn_before_anybody_scrolls_or_prints(made, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, made[1].as_uri())
    WebDriverWait(browser, 60).until(
        lambda b: len(find(b, ".chart .marks")) >= len(find(b, ".chart")) > 8
    )


def test_paper_is_light_and_wide_enough_also_from_a_dark_screen(made, browser):
    def media(**features):
        asked = [{"name": name, "value": value} for name, value in features.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": asked})

    colours = (
        "const colour = (each, what) => getComputedStyle(document.querySelector(each))[what];"
        "return [colour('html', 'backgroundColor'), colour('.chart .role-axis-label text', 'fill'),"
        " colour('.wide', 'overflowX')]"
    )
    opened(browser, made[1].as_uri(), 720)  # about A4 at 96 pixels an inch, less its margins
    browser.execute_async_script(
        "const done = arguments[0]; draw(document.querySelector('.chart')).then(() => done())"
    )
    seen = {}
    for medium in ("screen", "print"):
        media(**{"prefers-color-scheme": "dark"})
        seen[medium] = browser.execute_script(colours)
    wide = "return [...document.querySelectorAll('.wide table')].map((each) => each.scrollWidth)"
    assert max(browser.execute_script(wide)) <= 720
    medium = ""
    media()
    assert seen["screen"] == ["rgb(23, 25, 28)", "rgb(232, 232, 232)", "auto"]
    assert seen["print"] == ["rgb(255, 255, 255)", "rgb(34, 34, 34)", "visible"]


def test_the_letter_that_decided_is_marked_and_not_one_like_it(made, browser):
    opened(browser, made[1].as_uri())
    script = "return marked('An answer: A', 'A').innerHTML + marked('Answers', 'A').innerHTML"
    assert browser.execute_script(script) == "An answer: <mark>A</mark>Answers"


def test_filters_find_what_they_say(made, browser):
    frames, path = made
    opened(browser, path.as_uri())
    assert count(browser).startswith(f"{len(frames.items)} of")
    choose(browser, "category", "music")
    assert count(browser).startswith(f"{(frames.items.category == 'music').sum()} of")
    choose(browser, "run", "model-b")
    assert {element.text for element in find(browser, "#list .head i:nth-of-type(2)")} == {
        "model-b"
    }
    choose(browser, "category", "")
    choose(browser, "run", "")
    choose(browser, "query", frames.items.id.iloc[3])
    assert count(browser).startswith("2 of")
    choose(browser, "query", "no reply says this")
    assert count(browser).startswith("0 of")
    choose(browser, "query", "")
    find(browser, "#differ")[0].click()
    assert count(browser).startswith(f"{(frames.items.category == 'speech').sum()} of")


def test_every_page_of_items_is_reached(made, browser):
    frames, path = made
    opened(browser, path.as_uri())
    seen = len(find(browser, "#list > li"))
    while find(browser, "#later")[0].is_enabled():
        find(browser, "#later")[0].click()
        seen += len(find(browser, "#list > li"))
    assert seen == len(frames.items)


def test_hostile_replies_are_shown_and_not_obeyed(made, browser):
    opened(browser, made[1].as_uri())
    title = browser.title
    choose(browser, "category", "speech")
    choose(browser, "run", "model-b")
    find(browser, "#list .head")[0].click()
    assert HOSTILE in find(browser, "#list .item pre")[0].text
    assert find(browser, "#list img") == []
    assert browser.title == title


@pytest.mark.parametrize("way", ["file", "served"])
def test_the_player_plays(made, browser, way):
    frames, path = made
    play = (
        "const done = arguments[0], a = document.querySelector('#list audio'); a.muted = true;"
        "a.play().then(() => setTimeout(() => done([a.duration, a.currentTime]), 500),"
        " (error) => done(String(error)));"
    )
    clips = page.clip_files(frames, path.parent)
    with serve.server(path.parent, clips) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served = f"http://127.0.0.1:{server.server_address[1]}/"
        opened(browser, path.as_uri() if way == "file" else served)
        if way == "served":  # as on a page whose clips are too large to be in it
            browser.execute_script(
                "data.items.forEach((item) => item.clips.forEach((clip) => { clip.embedded = null; }))"
            )
        find(browser, "#list .head")[0].click()
        length, position = browser.execute_async_script(play)
        server.shutdown()
    # A container's length is written in whole samples or milliseconds.
    assert length == pytest.approx(frames.clips.seconds_in_file.iloc[0], abs=2e-3)
    assert position > 0
