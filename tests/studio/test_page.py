"""The page in a real browser: Chromium without a window, driven by its own driver.

`./launch.sh test-browser` runs it. Without /usr/bin/chromium and /usr/bin/chromedriver (or those
that CHROMIUM and CHROMEDRIVER name) it fails, and says what to install.
"""

import base64
import json
import os
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import tiny

from fv_jax.media.opening import open_clip
from fv_jax.media.writers import write_gif
from fv_jax.studio.server import Studio, bound
from fv_jax.studio.videos import Videos

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
WAIT = 120.0  # seconds: compiling on a busy machine
LINK = "#prompt=a+small+red+circle+moves+left+over+stripes&seed=7&videos=2&inherit=0.5"
# Contrast as WCAG 2 has it, of an element's text with what is painted behind it.
CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const rgb = parse(getComputedStyle(node).backgroundColor);
    if (rgb.length < 4 || rgb[3] > 0) return rgb;
  }
};
return [...document.querySelectorAll("h1, p, label, button:enabled, .button, summary, legend, li, figcaption, input, select, a, output")]
  .filter((node) => node.offsetParent && node.type !== "checkbox" && node.type !== "range")
  .map((node) => {
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.outerHTML.slice(0, 60)];
  }).filter(([ratio]) => ratio < 4.5);
"""  # noqa: E501
# Which frames of the first film differ from a frame of which nothing is decided.
DRAWN = """
const strip = document.querySelector(".strip");
return [...strip.children].map((one) => {
  const data = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
  const side = one.width / 4, tones = new Set();
  for (let y = 0; y < one.height; y += side) for (let x = 0; x < one.width; x += 1)
    tones.add(data.slice(4 * (y * one.width + x), 4 * (y * one.width + x) + 3).join());
  return tones.size > 2;
});
"""


# The same at every frame of the screen from now on.
RECORD = f"""
window.seen = [];
const drawn = () => {{ {DRAWN} }};
const record = () => {{ seen.push(drawn()); requestAnimationFrame(record); }};
record();
"""
KEEP_ID = """
const fetched = window.fetch;
window.fetch = async (path, ...more) => {
  const answer = await fetched(path, ...more);
  if (path === "/v1/videos") window.made = (await answer.clone().json()).id;
  return answer;
};
"""
# Of what has the focus; a radio button's is drawn around the text beside it.
OUTLINE = """
const one = document.activeElement;
const both = [one, one.nextElementSibling || one];
return both.map((node) => getComputedStyle(node).outlineStyle).join();
"""


@pytest.fixture(scope="module")
def address():
    import uvicorn

    listening = bound("127.0.0.1", 0)
    studio = Studio(tiny.generator())
    server = uvicorn.Server(
        uvicorn.Config(studio.app(), log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(20)
    listening.close()


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chromium(downloads):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    driver = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
    for path in (binary, driver):
        if not Path(path).exists():
            pytest.fail(f"there is no {path}: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(chromium, address):
    """The page as it is opened for the first time; what its console says is an error."""
    emulate(chromium)
    chromium.set_window_size(1280, 900)
    opened(chromium, address)
    yield chromium
    errors = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in errors if "400 (Bad" not in entry["message"]]


def opened(browser, address):
    browser.get("about:blank")
    browser.get(address)
    until(lambda: browser.execute_script("return document.body.dataset.ready === ''"))


def emulate(browser, **features):
    named = [{"name": f"prefers-{name}".replace("_", "-"), "value": value}
             for name, value in features.items()]  # fmt: skip
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})


def until(true, seconds=WAIT):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def the(browser, name):
    return browser.find_element("id", name)


def text(browser, name):
    return the(browser, name).text


def say(browser, sentence):
    the(browser, "prompt").clear()
    the(browser, "prompt").send_keys(sentence)


def watch_status(browser):
    browser.execute_script(
        "window.said = []; new MutationObserver(() => said.push(status.textContent))"
        ".observe(status, {childList: true, characterData: true, subtree: true});"
        .replace("status", "document.getElementById('status')")
    )  # fmt: skip


def make(browser):
    the(browser, "make").click()
    finished(browser)


def finished(browser):
    until(lambda: text(browser, "status").startswith("Done") or text(browser, "problem"))
    assert not text(browser, "problem")


def test_a_sentence_is_typed_and_key_frames_come_before_what_lies_between(page):
    say(page, "a large BLUE square moves up over gray")
    picked = [one.get_attribute("value") for one in page.find_elements("css selector", "select")]
    assert picked == ["large", "blue", "square", "up", "gray"]
    assert text(page, "words") == ""
    assert not any(page.execute_script(DRAWN))
    watch_status(page)
    make(page)
    said = " ".join(page.execute_script("return said"))
    assert 0 <= said.index("Key frames") < said.index("Filling the gaps") < said.index("Done")
    assert len(page.find_elements("css selector", ".film")) == 2
    until(lambda: all(page.execute_script(DRAWN)))
    assert "ids sampled" in text(page, "numbers")
    page.execute_script(RECORD)
    the(page, "slowly").click()
    until(lambda: the(page, "slowly").text == "Watch again, slowly")
    seen = page.execute_script("return seen")
    keys = [[drawn[f] for f in (0, 4, 8)] for drawn in seen]
    between = [[on for f, on in enumerate(drawn) if f % 4] for drawn in seen]
    assert any(all(key) and not any(rest) for key, rest in zip(keys, between))
    assert all(all(key) for key, rest in zip(keys, between) if any(rest))
    assert all(page.execute_script(DRAWN))


def test_words_that_the_model_never_saw_are_marked_while_they_are_typed(page):
    say(page, "a small furry circle moves left over grass")
    marked = [one.text for one in page.find_elements("css selector", "#words mark")]
    assert marked == ["furry", "grass"]
    say(page, "a small circle, moves LEFT!")
    assert text(page, "words") == ""


def test_a_picker_puts_its_word_into_the_sentence(page):
    from selenium.webdriver.support.select import Select

    Select(page.find_elements("css selector", "select")[1]).select_by_value("green")
    sentence = the(page, "prompt").get_attribute("value")
    assert sentence == "a small green circle moves left over stripes"


def drop(page, path):
    page.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
        const files = new DataTransfer();
        files.items.add(new File([bytes], arguments[1]));
        document.getElementById("drop").dispatchEvent(
          new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: files}));
        """,
        base64.b64encode(path.read_bytes()).decode(), path.name,
    )  # fmt: skip


def test_a_file_that_is_dropped_begins_the_video_and_its_ids_are_shown(page, tmp_path):
    write_gif(tiny.video(9), 8.0, tmp_path / "clip.gif")
    drop(page, tmp_path / "clip.gif")
    until(lambda: the(page, "sent").is_displayed())
    assert len(page.find_elements("css selector", "#sent img")) == 1
    page.find_element("css selector", "#sent summary").click()
    ids = page.find_element("css selector", "#sent pre").text.split()
    assert len(ids) == 16
    make(page)
    (tmp_path / "text.gif").write_text("not a picture")
    drop(page, tmp_path / "text.gif")
    until(lambda: "no kind of file" in text(page, "problem"))
    assert not the(page, "sent").is_displayed()


def test_a_clip_that_is_chosen_is_interpolated(page, tmp_path):
    page.find_element("css selector", "[value=interpolate] + span").click()
    the(page, "make").click()
    until(lambda: "Drop a clip first" in text(page, "problem"))
    write_gif(tiny.video(3), 2.0, tmp_path / "clip.gif")
    the(page, "file").send_keys(str(tmp_path / "clip.gif"))
    until(lambda: the(page, "sent").is_displayed())
    assert len(page.find_elements("css selector", "#sent img")) == 3
    make(page)
    assert len(page.find_elements("css selector", ".film")) == 1
    until(lambda: all(page.execute_script(DRAWN)))


def test_videos_can_be_taken_away(page, downloads):
    make(page)
    for kind in ("mp4", "gif", "npz"):
        page.find_element("link text", kind).click()
    names = [downloads / f"flashvideo-0.{kind}" for kind in ("mp4", "gif", "npz")]
    until(lambda: all(path.is_file() for path in names))
    assert len(open_clip(names[0]).times) == 9
    assert open_clip(names[1]).size == (256, 256)


def test_a_link_holds_all_settings_and_makes_the_video(page, address):
    opened(page, address + LINK)
    finished(page)
    assert the(page, "seed").get_attribute("value") == "7"
    assert the(page, "inherit").get_attribute("value") == "0.5"
    assert [one.text for one in page.find_elements("css selector", "figcaption > :first-child")][
        :2
    ] == ["seed 7", "seed 8"]
    assert page.current_url.endswith(LINK)
    page.execute_script("document.getElementById('guidance').value = 2")
    the(page, "make").send_keys("\n")
    finished(page)
    assert "guidance=2" in page.current_url


def test_everything_can_be_done_with_the_keyboard(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    press = lambda *keys: ActionChains(page).send_keys(*keys).perform()
    focused = lambda: page.execute_script("return document.activeElement")
    name = lambda: focused().get_attribute("id")
    reached = []
    for _ in range(40):
        press(Keys.TAB)
        outline = page.execute_script(OUTLINE)
        assert "solid" in outline or "auto" in outline, name()
        reached.append(name())
        if name() == "copy-link":
            break
    assert {"prompt", "file", "seed", "videos", "make", "overlay", "copy-link"} <= set(reached)
    the(page, "prompt").send_keys(Keys.ENTER)
    finished(page)
    page.execute_script("document.getElementById('play').focus()")
    if the(page, "play").text == "Pause":
        press(Keys.SPACE)
    press(Keys.TAB, Keys.HOME)
    assert text(page, "at") == "frame 1 of 9"
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert text(page, "at") == "frame 3 of 9"
    assert the(page, "scrub").get_attribute("aria-valuetext") == "frame 3 of 9"


def test_all_that_can_be_used_has_a_name(page):
    make(page)
    page.execute_script("document.getElementById('options').open = true")
    page.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    used = {"button", "textbox", "combobox", "slider", "spinbutton", "checkbox", "radio", "link",
            "image"}  # fmt: skip
    roles = [(node["role"]["value"], node.get("name", {}).get("value", ""))
             for node in nodes if node.get("role", {}).get("value") in used]  # fmt: skip
    assert len(roles) > 25
    assert not [pair for pair in roles if not pair[1].strip()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page, address, scheme):
    emulate(page, color_scheme=scheme)
    opened(page, address)
    make(page)
    page.execute_script("document.getElementById('options').open = true")
    paper = page.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 384) == (scheme == "light")
    assert page.execute_script(CONTRAST) == []


def test_a_narrow_screen_scrolls_in_one_direction_only(page, address):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})  # fmt: skip
    try:
        opened(page, address)
        make(page)
        page.execute_script("document.getElementById('options').open = true")
        wide = page.execute_script("return document.scrollingElement.scrollWidth")
        assert wide <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_moves_by_itself_for_who_wants_none(page, address):
    emulate(page, reduced_motion="reduce")
    opened(page, address)
    make(page)
    until(lambda: text(page, "at") == "frame 1 of 9")
    time.sleep(1.0)
    assert text(page, "at") == "frame 1 of 9"
    assert the(page, "play").text == "Play"


def test_nothing_jumps(page):
    """What is below the films stays where it is from before the first frame to the last."""
    place = lambda: page.execute_script("return document.getElementById('tools').offsetTop")
    before = place()
    the(page, "make").click()
    seen = set()
    while not text(page, "status").startswith("Done"):
        seen.add(place())
    assert seen | {place()} == {before}


@pytest.mark.filterwarnings("ignore:the model was trained with")
def test_a_stream_runs_rests_is_forked_and_stopped(page):
    page.find_element("css selector", "[value=stream] + span").click()
    caption = lambda: page.execute_script(
        "return document.querySelector('.film figcaption').textContent"
    )
    the(page, "make").click()
    until(lambda: "frame 6" in caption())
    assert "the same for ever" in text(page, "numbers")
    the(page, "pause").click()
    until(lambda: text(page, "pause") == "Go on")
    time.sleep(0.3)
    before = caption()
    time.sleep(0.5)
    assert caption() == before
    the(page, "pause").click()
    until(lambda: caption() != before)
    say(page, "a large blue square moves up over gray")
    the(page, "fork").click()
    until(lambda: "blue square" in text(page, "status"))
    the(page, "cancel").click()
    until(lambda: text(page, "status") == "Stopped.")


def test_a_page_that_goes_away_ends_what_it_asked_for(page, address, monkeypatch):
    monkeypatch.setattr(Videos, "patience", 0.1)
    page.execute_script(KEEP_ID)
    page.execute_script("document.getElementById('temperature').value = 0.7")  # to be compiled
    the(page, "make").click()
    until(lambda: text(page, "status").startswith(("Beginning", "Key frames")))
    made = page.execute_script("return made")
    page.get("about:blank")

    def state():
        with urllib.request.urlopen(f"{address}v1/videos/{made}") as answer:
            return json.load(answer)["state"]

    until(lambda: state() not in ("waiting", "running"))
    assert state() == "canceled"
