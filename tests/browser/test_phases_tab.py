"""The Phases tab as people use it."""

import json
import re
import shutil
import urllib.parse

import numpy as np
import pytest
from _browser import end_server
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from phasetrack import RunSettings, Thresholds, read_run, train
from phasetrack.storage.neuron_sink import saved_neurons

PATIENCE = 60
FIGURE = "document.getElementById('figure')"
DRAWN = f"{FIGURE}.data && {FIGURE}.querySelector('.main-svg') && {FIGURE}.layout"


def shapes(page, prefix):
    """Return the positions of the shapes whose names begin with a prefix."""
    wanted = page.run(
        f"return {FIGURE}.layout.shapes.map(s => [s.name || '', s.x0, s.x1])"
        ".filter(s => s[0].startsWith(arguments[0]))",
        prefix,
    )
    return [(name.removeprefix(prefix), x0, x1) for name, x0, x1 in wanted]


def choose(page, *names):
    """Tick exactly these runs."""
    page.run(
        "const boxes = () => [...document.querySelectorAll('#runs input')];"
        "for (const id of boxes().map(b => b.dataset.run)) {"
        "  const box = boxes().find(b => b.dataset.run === id);"  # each click redraws the list
        "  if (box.checked !== arguments[0].includes(id)) box.click();"
        "}",
        list(names),
    )
    settled(page)
    shown = page.run(
        "return [...document.querySelectorAll('#boundaries p b')].map(b => b.textContent)"
    )
    assert len(shown) == len(names)


def settled(page):
    """Wait until the page shows the latest request."""
    page.until("document.querySelector('main').getAttribute('aria-busy') === 'false'")
    page.until(DRAWN)


def use_axis(page, axis):
    page.run(
        "const a = document.getElementById('axis'); a.value = arguments[0];"
        "a.dispatchEvent(new Event('change'))",
        axis,
    )
    settled(page)


def steps_shown(page):
    return page.run(f"return {FIGURE}.layout.xaxis.range")


@pytest.fixture
def tab(page, server):
    page.open_tab(server)
    settled(page)
    return page


def test_tab_opens_in_plain_tensorboard_with_the_newest_run(tab, server):
    chosen = tab.run(
        "return [...document.querySelectorAll('#runs input:checked')].map(b => b.dataset.run)"
    )
    assert chosen == ["second"]
    titles = tab.run(f"return {FIGURE}.layout.annotations.map(a => a.text)")
    for title in ("Loss and error", "Signal-heaviness", "Clean margins"):
        assert f"<b>{title}</b>" in titles
    tab.driver.switch_to.default_content()
    names = tab.run(
        "return [...document.querySelectorAll('.mat-mdc-tab, .mat-tab-label')].map(t => t.innerText)"
    )
    assert any("PHASES" in name.upper() for name in names)
    # all of the tab's name is left of the menu of inactive pages, at a width of 1280
    ends = tab.run(
        "const all = [...document.querySelectorAll('.mat-mdc-tab, .mat-tab-label')];"
        "const box = (e) => e.getBoundingClientRect();"
        "const menu = [...document.querySelectorAll('mat-form-field, mat-select')].map(e => box(e).left);"
        "return [box(all.find(t => /phases/i.test(t.innerText))).right, Math.min(...menu, window.innerWidth)]"
    )
    assert ends[0] <= ends[1] + 8


@pytest.mark.parametrize("name", ["first", "second"])
def test_bands_and_lines_are_at_the_boundaries_of_the_summary(tab, server, name):
    choose(tab, name)
    summary = read_run(server.logdir / name).summary
    bands = shapes(tab, "phase:")
    assert [(phase, start) for phase, start, _ in bands] == [
        (stretch["phase"], stretch["start"]) for stretch in summary["timeline"]
    ]
    # each band ends where the next begins
    assert [end for *_, end in bands[:-1]] == [start for _, start, _ in bands[1:]]
    assert shapes(tab, "onset:") == [
        (b["name"], b["onset"], b["onset"]) for b in summary["boundaries"]
    ]
    assert shapes(tab, "detected:") == [
        (b["name"], b["detected"], b["detected"]) for b in summary["boundaries"]
    ]
    labels = tab.run(f"return {FIGURE}.layout.annotations.map(a => a.text)")
    assert any(text.startswith("signal-heavy ") and "(seen " in text for text in labels)
    cells = tab.run("return [...document.querySelectorAll('#boundaries td')].map(c => c.innerText)")
    assert f"{summary['boundaries'][0]['onset']:.2f}" in cells


def test_drawn_bands_match_the_axis(tab, server):
    """Compare pixels on the screen, not only the figure's description."""
    choose(tab, "first")
    boundary = read_run(server.logdir / "first").summary["timeline"][1]["start"]
    drawn = tab.run(
        f"const g = {FIGURE}; const l = g._fullLayout;"
        "const paths = [...g.querySelectorAll('.shapelayer path[fill-rule], .shapelayer path')];"
        "const boxes = paths.map(p => p.getBBox()).filter(b => b.width > 20 && b.height > 300);"
        "return {x: l.xaxis._offset + l.xaxis.d2p(arguments[0]), boxes: boxes.map(b => [b.x, b.height]),"
        " height: l._size.h}",
        boundary,
    )
    assert any(abs(x - drawn["x"]) < 1 for x, _ in drawn["boxes"])
    assert all(height == pytest.approx(drawn["height"], rel=0.02) for _, height in drawn["boxes"])


def test_alerts_are_lines_with_name_and_evidence(page, tmp_path, serve):
    train(RunSettings(d=16, width=32, seed=1, train="second"), out=tmp_path, name="stuck")
    (alert,) = read_run(tmp_path / "stuck").summary["alerts"]
    _, address = serve(tmp_path)
    page.open_tab(address)
    settled(page)
    step = alert["step"]
    assert shapes(page, "alert:") == [("SADDLE", step, step)]
    label = f"▲ SADDLE {step}"
    shown = f"{FIGURE}.layout.annotations.filter(a => a.text === {label!r})"
    assert page.run(f"return {shown}.map(a => a.x)") == [step]
    for name, value in alert["evidence"].items():
        assert f"{name} {value}" in page.run(f"return {shown}[0].hovertext")
    assert "SADDLE" in page.run("return document.getElementById('boundaries').innerText")
    page.picture("alert")


def test_target_is_drawn_in_the_units_of_the_runs_own_loss(page, tmp_path, made, serve):
    lines = (made / "first" / "history.jsonl").read_text().splitlines()
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(made / "first" / "config.json", own)
    rows = (json.loads(line) | {"loss/constant": np.log(2)} for line in lines)
    (own / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, address = serve(tmp_path)
    page.open_tab(address)
    settled(page)
    level = f"{FIGURE}.layout.shapes.filter(s => s.name === 'level:loss_target')[0].y0"
    assert page.run(f"return {level}") == pytest.approx(0.025)


def test_legends_and_titles_do_not_overlap(tab):
    """Each chart is as tall as its legend needs, so that all names can be read."""
    boxes = tab.run(
        f"const g = {FIGURE}; const box = (e) => {{ const r = e.getBoundingClientRect();"
        " return [r.top, r.bottom]; };"
        "return {legends: [...g.querySelectorAll('.infolayer > g[class^=legend] .scrollbox')].map(box),"
        " titles: [...g.querySelectorAll('.annotation')].filter(e => e.innerHTML.includes('bold'))"
        ".map(box)}"
    )
    legends, titles = sorted(boxes["legends"]), sorted(boxes["titles"])
    assert len(legends) == len(titles) == 7
    for (_, end), (start, _) in zip(legends[:-1], titles[1:], strict=True):
        assert end <= start + 1


def test_curves_have_the_values_of_the_history(tab, server):
    choose(tab, "first")
    history = read_run(server.logdir / "first").history
    curves = tab.run(
        f"return {FIGURE}.data.filter(t => t.name === 'ζ*').map(t => [Array.from(t.x), Array.from(t.y)])"
    )
    assert curves[0][0] == history.steps.tolist()
    drawn = np.array([np.nan if y is None else y for y in curves[0][1]], dtype=float)
    zeta = history["heaviness/zeta_star"]
    np.testing.assert_array_equal(drawn, np.where(np.isfinite(zeta), zeta, np.nan))


def test_hover_shows_all_charts_at_one_step(tab):
    figure = tab.driver.find_element(By.CSS_SELECTOR, "#figure .nsewdrag")
    ActionChains(tab.driver).move_to_element_with_offset(figure, -100, 0).pause(0.3).perform()
    ActionChains(tab.driver).move_by_offset(3, 0).perform()
    text = tab.until(
        f"[...{FIGURE}.querySelectorAll('.hoverlayer text')].map(t => t.textContent).join('|')"
    )
    for name in ("loss ", "ζ* ", "value error ", "heavy neurons "):
        assert name in text
    assert re.search(r"step \d+ · (signal-finding|signal-heavy|fitted)", text)
    charts = ("Loss and error", "Signal-heaviness", "Clean margins")
    assert sorted(charts, key=text.index) == list(charts)
    # one line through all charts
    height = tab.until(
        f"Math.max(...[...{FIGURE}.querySelectorAll('line.spikeline')].map(l => Math.abs(l.y2.baseVal.value - l.y1.baseVal.value)))"
    )
    assert height > 0.9 * tab.run(f"return {FIGURE}._fullLayout._size.h")


def test_mouse_zoom_requests_its_steps_and_double_click_shows_all(tab):
    low, high = steps_shown(tab)
    drag = tab.driver.find_element(By.CSS_SELECTOR, "#figure .nsewdrag")
    chain = ActionChains(tab.driver).move_to_element_with_offset(drag, -60, 0).click_and_hold()
    chain.move_by_offset(60, 0).move_by_offset(60, 0).release().perform()
    tab.until(
        f"{FIGURE}.layout.xaxis.range[1] - {FIGURE}.layout.xaxis.range[0] < {(high - low) / 2}"
    )
    # only the points in view and their neighbours, from which lines enter, are left
    tab.until(f"Math.min(...{FIGURE}.data[0].x) > {low}")
    tab.run("document.getElementById('do-reset').click()")
    tab.until(f"Math.min(...{FIGURE}.data[0].x) === {low}")
    assert steps_shown(tab) == pytest.approx([low, high])


def test_keys_zoom_move_and_jump_to_boundaries(tab, server):
    low, high = steps_shown(tab)
    tab.driver.find_element(By.TAG_NAME, "h1").click()  # into the frame
    body = tab.driver.find_element(By.TAG_NAME, "body")
    body.send_keys("+")
    tab.until(f"{FIGURE}.layout.xaxis.range[0] > {low}")
    half = steps_shown(tab)
    assert half[1] - half[0] == pytest.approx((high - low) / 2)
    body.send_keys("n")
    onsets = [b["onset"] for b in read_run(server.logdir / "second").summary["boundaries"]]
    middle = (half[0] + half[1]) / 2
    following = min(onset for onset in onsets if onset > middle)
    tab.until(
        f"Math.abs({FIGURE}.layout.xaxis.range.reduce((a, b) => a + b) / 2 - {following}) < 1e-6"
    )
    body.send_keys("0")
    tab.until(f"Math.abs({FIGURE}.layout.xaxis.range[1] - {high}) < 1e-6")
    body.send_keys("?")
    assert tab.until("document.getElementById('keys').open")
    tab.driver.find_element(By.ID, "do-close").click()
    body.send_keys("/")
    assert tab.run("return document.activeElement.id") == "filter"


def test_every_control_is_reachable_by_keyboard(tab):
    seen = set()
    for _ in range(40):
        ActionChains(tab.driver).send_keys(Keys.TAB).perform()
        seen.add(
            tab.run(
                "const e = document.activeElement; return e.id || e.dataset.run || e.className || e.tagName"
            )
        )
    assert {
        "filter",
        "first",
        "second",
        "axis",
        "do-svg",
        "do-csv",
        "figure",
        "threshold-zeta_enter",
    } <= seen


def test_changed_threshold_relabels_as_show_does(tab, server):
    choose(tab, "first")
    run = read_run(server.logdir / "first")
    before = shapes(tab, "detected:")
    tab.run(
        "const s = document.getElementById('threshold-zeta_exit'); s.value = 0.6;"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    shown = {
        name: tab.run(
            f"return document.getElementById('threshold-{name}').parentElement.querySelector('[type=number]').valueAsNumber"
        )
        for name in ("zeta_enter", "zeta_exit")  # one pushes the other
    }
    expected = run.summarise(Thresholds(**shown))["boundaries"]
    detected = {b["name"]: b["detected"] for b in expected}
    tab.until(
        f"{FIGURE}.layout.shapes.some(s => s.name === 'detected:signal_heavy' && s.x0 === {detected['signal_heavy']})"
    )
    assert shapes(tab, "detected:") != before
    tab.run("document.getElementById('do-own').click()")
    tab.until(
        f"{FIGURE}.layout.shapes.some(s => s.name === 'detected:signal_heavy' && s.x0 === {before[0][1]})"
    )


def test_threshold_pushes_its_partner(tab):
    tab.run(
        "const s = document.getElementById('threshold-zeta_enter'); s.value = 2;"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    settled(tab)
    row = "document.getElementById('threshold-zeta_{}').parentElement"
    for name in ("enter", "exit"):
        value = f"return {row.format(name)}.querySelector('[type=number]').valueAsNumber"
        assert tab.run(value) == 2
    assert tab.run("return document.getElementById('message').textContent") == ""
    shown = tab.run(f"return {row.format('exit')}.innerText")
    assert shown.strip() == "onset level of ζ*"
    assert "last crossing of this level" in tab.run(f"return {row.format('exit')}.title")


def test_contradictory_thresholds_of_a_link_are_reported_and_recorded_labels_stay(tab, server):
    recorded = shapes(tab, "detected:")
    view = urllib.parse.quote(json.dumps({"thresholds": {"zeta_enter": 2}}))
    tab.open_tab(server, f"?p.phases.view={view}")
    complaint = "document.getElementById('message').textContent.includes('zeta_exit: 1 is not a finite number')"
    tab.until(complaint)
    tab.driver.refresh()  # the address remembers the thresholds; the page must not stay locked
    tab.enter()
    tab.until(complaint)
    settled(tab)
    assert shapes(tab, "detected:") == recorded
    tab.run("document.getElementById('do-own').click()")
    settled(tab)
    assert tab.run("return document.getElementById('message').textContent") == ""
    # the server answers with status 400, which the browser logs; that is not an error of the page
    assert all("400" in line for line in tab.errors())


def test_filter_hides_runs_that_do_not_match(tab):
    box = tab.driver.find_element(By.ID, "filter")
    names = "[...document.querySelectorAll('#runs input')].map(b => b.dataset.run).join()"
    box.send_keys("^fi")
    tab.until(f"{names} === 'first'")
    box.send_keys("[")  # an incomplete expression is taken as plain text
    tab.until("document.querySelector('#runs .nothing')")
    box.clear()
    box.send_keys(Keys.SPACE, Keys.BACKSPACE)
    tab.until(f"{names} === 'second,first'")


def test_overlaid_runs_have_a_lane_each_and_no_shading(tab, server):
    choose(tab, "first", "second")
    assert shapes(tab, "phase:") == []
    for name in ("first", "second"):
        summary = read_run(server.logdir / name).summary
        lane = [(label, x0, x1) for label, x0, x1 in shapes(tab, f"lane:{name}:finds-then-tunes:")]
        assert [(label, start) for label, start, _ in lane] == [
            (stretch["phase"], stretch["start"]) for stretch in summary["timeline"]
        ]
        last = summary["timeline"][-1]["end"]
        assert last < lane[-1][2] < last + 3  # in the run's own length
        further = summary["vocabularies"]["lazy-rich"]["timeline"]
        assert [label for label, *_ in shapes(tab, f"lane:{name}:lazy-rich:")] == [
            stretch["phase"] for stretch in further
        ]


def test_overlaid_runs_align_at_their_onsets(tab, server):
    choose(tab, "first", "second")
    onsets = {
        name: read_run(server.logdir / name).summary["boundaries"][0]["onset"]
        for name in ("first", "second")
    }
    assert sorted(x for name, x, _ in shapes(tab, "onset:") if name == "signal_heavy") == sorted(
        onsets.values()
    )
    tab.picture("overlay")
    use_axis(tab, "onset")
    assert "since the onset" in tab.run(f"return {FIGURE}.layout.xaxis.title.text")
    assert [x for name, x, _ in shapes(tab, "onset:") if name == "signal_heavy"] == [0, 0]
    tab.picture("aligned")


@pytest.mark.parametrize("axis", ["log", "relative", "onset", "step"])
def test_axis_places_the_steps(tab, server, axis):
    choose(tab, "first")
    use_axis(tab, axis)
    summary = read_run(server.logdir / "first").summary
    start = summary["timeline"][1]["start"]
    ((_, x, _),) = [s for s in shapes(tab, "phase:") if s[0] == "SIGNAL_HEAVY"][:1]
    if axis == "log":
        assert x == start + 1 and tab.run(f"return {FIGURE}.layout.xaxis.type") == "log"
    elif axis == "onset":
        assert x == pytest.approx(start - summary["boundaries"][0]["onset"])
    elif axis == "step":
        assert x == start
    else:
        lines = (server.logdir / "first" / "clock.jsonl").read_text().splitlines()
        clock = [json.loads(line) for line in lines]
        at = np.interp(start, [c["step"] for c in clock], [c["seconds"] for c in clock])
        assert x == pytest.approx(at, abs=1e-6)


def test_neurons_follow_the_slider(tab, server):
    choose(tab, "first")
    saved = tab.until(
        "!document.getElementById('neurons').hidden && Number(document.getElementById('neuron-step').max)"
    )
    figure = "document.getElementById('neuron-figure')"
    tab.until(f"{figure}.data")
    tab.run(
        "const s = document.getElementById('neuron-step'); s.value = 0;"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    tab.until("document.getElementById('neuron-step-name').textContent.startsWith('step 0,')")
    points = tab.run(f"return {figure}.data.map(t => t.x.map((x, i) => [x, t.y[i]]))")
    # at the start, |sig|^2 + |opp|^2 + |perp|^2 = theta^2 for every neuron
    lengths = np.hypot(*np.array([p for side in points for p in side]).T)
    assert len(lengths) == 64 and all(len(side) for side in points)
    assert (lengths <= 0.1 * (1 + 1e-6)).all() and (lengths > 0.05).all()
    with np.load(server.logdir / "first" / "neurons" / "step-000000000.npz") as file:
        groups = [file["signal"][file["cluster"] == cluster] for cluster in range(4)]
    names = tab.run(f"return {figure}.data.map(t => t.name)")
    assert names == ["serves mu1", "serves -mu1", "serves mu2", "serves -mu2"]
    for drawn, expected in zip(points, groups, strict=True):
        np.testing.assert_allclose([y for _, y in drawn], expected, rtol=1e-6)
    line = tab.run(f"return {FIGURE}.layout.shapes.at(-1).x0")
    assert line == 0 and saved > 10
    tab.run("document.getElementById('neurons').scrollIntoView()")
    tab.picture("neurons")


def test_neurons_follow_the_mouse_and_show_the_detection_level(tab, server):
    choose(tab, "first")
    figure = "document.getElementById('neuron-figure')"
    tab.until(f"{figure}.data")
    last = tab.run("return document.getElementById('neuron-step').value")
    plot = tab.driver.find_element(By.CSS_SELECTOR, "#figure .nsewdrag")
    ActionChains(tab.driver).move_to_element_with_offset(plot, -200, 0).pause(0.3).perform()
    ActionChains(tab.driver).move_by_offset(3, 0).perform()
    tab.until(f"document.getElementById('neuron-step').value !== '{last}'")
    line = f"{figure}.layout.shapes.find(s => s.name === 'zeta:dash')"
    assert tab.until(f"{line}.x1 / {line}.y1") == pytest.approx(0.8)
    tab.run(
        "const s = document.getElementById('threshold-zeta_enter'); s.value = 0.4;"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    tab.until(f"Math.abs({line}.x1 / {line}.y1 - 0.4) < 0.01")
    said = tab.run("return document.querySelector('#neurons .note').textContent")
    assert "need no more, and are drawn larger" in said


def test_link_restores_the_view(tab, server):
    choose(tab, "first")
    use_axis(tab, "log")
    assert tab.run(f"return {FIGURE}.layout.xaxis.type") == "log"
    tab.driver.find_element(By.TAG_NAME, "h1").click()
    tab.driver.find_element(By.TAG_NAME, "body").send_keys("+")
    tab.until("window.parent.location.search.includes('range%22%3A%5B')")
    kept = steps_shown(tab)
    link = tab.run("return window.parent.location.href")
    assert urllib.parse.urlparse(link).fragment.startswith("phases")
    tab.open(link)
    tab.enter()
    tab.until(DRAWN)
    tab.until(f"{FIGURE}.layout.xaxis.type === 'log'")
    assert steps_shown(tab) == pytest.approx(kept)
    chosen = tab.run(
        "return [...document.querySelectorAll('#runs input:checked')].map(b => b.dataset.run)"
    )
    assert chosen == ["first"]


@pytest.mark.parametrize(
    "view", ["{", "[1]", '{"axis": "up", "range": ["a", 1], "runs": 3}', '{"runs": ["<b>"]}']
)
def test_hostile_links_are_harmless(page, server, view):
    page.open_tab(server, "?p.phases.view=" + urllib.parse.quote(view))
    page.until("document.querySelectorAll('#runs input').length === 2")
    assert page.run("return document.getElementById('axis').value") == "step"


@pytest.mark.parametrize("kind", ["svg", "png", "csv"])
def test_export_downloads_a_file(tab, kind):
    tab.run(f"document.getElementById('do-{kind}').click()")

    def downloaded(_):
        # the browser makes an empty file before it writes the content
        files = list(tab.downloads.iterdir())
        under_way = any(file.suffix == ".crdownload" for file in files)
        whole = [file for file in files if file.suffix == f".{kind}" and file.stat().st_size]
        return [] if under_way else whole

    (file,) = WebDriverWait(tab.driver, PATIENCE).until(downloaded)
    content = file.read_bytes()
    if kind == "svg":
        assert content.startswith(b"<svg") and b"Signal-heaviness" in content
    elif kind == "png":
        assert content.startswith(b"\x89PNG") and len(content) > 50_000
    else:
        assert content.startswith(b"step,loss/train")


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_fits_every_width_and_theme(page, server, width, theme):
    page.size(width, 1080)
    dark = "true" if theme == "dark" else "false"
    page.open_tab(server, f"?darkMode={dark}")
    page.until(DRAWN)
    assert page.run("return document.documentElement.dataset.theme") == theme
    paper = page.run(f"return {FIGURE}.layout.paper_bgcolor")
    assert paper == {"light": "#ffffff", "dark": "#1e1e1e"}[theme]
    assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")
    page.picture(f"phases-{theme}-{width}")


def test_run_in_progress_grows(page, server, made):
    lines = (made / "first" / "history.jsonl").read_text().splitlines(keepends=True)
    live = server.logdir / "live"
    live.mkdir()
    shutil.copy(made / "first" / "config.json", live)
    (live / "history.jsonl").write_text("".join(lines[:20]))
    try:
        page.open_tab(server)
        page.until(
            "[...document.querySelectorAll('#runs input')].some(b => b.dataset.run === 'live')"
        )
        choose(page, "live")
        page.until(f"Math.max(...{FIGURE}.data[0].x) === 19")
        with (live / "history.jsonl").open("a") as file:
            file.write("".join(lines[20:60]))
        page.until(f"Math.max(...{FIGURE}.data[0].x) === 59")
        assert shapes(page, "onset:") != []
        assert page.run(f"return {FIGURE}.data[0].x.length") == 60
    finally:
        shutil.rmtree(live)


def delay(page, route, condition, milliseconds):
    """Delay the page's requests to a route, where a condition on their address holds."""
    page.run(
        "const real = window.fetch; window.asked = window.asked || [];"
        "window.fetch = async (url, options) => {"
        "  const text = String(url); window.asked.push(text);"
        "  if (text.includes(arguments_route) && (CONDITION)(text)) {"
        "    await new Promise(done => setTimeout(done, WAIT)); }"
        "  return real(url, options); }".replace("arguments_route", repr(f"/{route}?"))
        .replace("CONDITION", condition)
        .replace("WAIT", str(milliseconds))
    )


def outlast_delays(page):
    """Wait, by the page's own clock, until every delayed answer has arrived."""
    page.run("window.waited = false; setTimeout(() => { window.waited = true; }, 1300)")
    page.until("window.waited")


def test_slow_view_appears_while_another_run_grows(page, server, made):
    lines = (made / "first" / "history.jsonl").read_text().splitlines(keepends=True)
    live = server.logdir / "live"
    live.mkdir()
    shutil.copy(made / "first" / "config.json", live)
    history = live / "history.jsonl"
    history.write_text("".join(lines[:20]))
    try:
        page.open_tab(server)
        settled(page)
        delay(page, "series", "text => text.includes('run=first')", 5000)
        page.run(
            "document.querySelector('#runs input[data-run=first]').closest('li')"
            ".querySelector('.only').click()"
        )
        for count in (25, 30, 35):  # each noticed by polling the list, while the answer is delayed
            history.write_text("".join(lines[:count]))
            polls = page.run("return window.asked.filter(a => a.includes('/runs')).length")
            page.until(f"window.asked.filter(a => a.includes('/runs')).length > {polls}")
        settled(page)
        assert page.run("return document.querySelector('#boundaries b').textContent") == "first"
        asked = page.run("return window.asked.filter(a => a.includes('/series?')).length")
        assert asked == 1
    finally:
        shutil.rmtree(live)


def test_late_answer_does_not_replace_a_later_choice(tab):
    settled(tab)
    delay(tab, "series", "text => text.includes('run=first')", 800)
    only = "[...document.querySelectorAll('#runs li')].find(l => l.title.startsWith(%r)).querySelector('.only').click()"
    tab.run(only % "first")
    tab.run(only % "second")
    settled(tab)
    outlast_delays(tab)
    assert tab.run("return document.querySelector('#boundaries b').textContent") == "second"
    assert tab.run("return document.getElementById('message').textContent") == ""


def neurons_shown(tab, server, run):
    """Return the step of the neuron panel, after comparing its points with the saved ones."""
    name = tab.run("return document.getElementById('neuron-step-name').textContent")
    step = int(name.removeprefix("step ").split(",")[0])
    drawn = tab.run("return document.getElementById('neuron-figure').data.flatMap(t => t.y)")
    with np.load(server.logdir / run / "neurons" / f"step-{step:09}.npz") as file:
        np.testing.assert_allclose(sorted(drawn), sorted(file["signal"]), rtol=1e-6)
    return step


def test_neurons_belong_to_the_chosen_run_and_step(tab, server):
    settled(tab)
    tab.until("document.getElementById('neuron-figure').data")
    slider = "const s = document.getElementById('neuron-step'); s.value = arguments[0];"
    move = slider + "s.dispatchEvent(new Event('input', {bubbles: true}))"
    late = saved_neurons(server.logdir / "second")[3]
    delay(tab, "neurons", f"text => /step={late}$/.test(text)", 800)
    tab.run(move, 3)  # answered after the next request
    tab.run(move, 10)
    outlast_delays(tab)
    saved = saved_neurons(server.logdir / "second")
    assert neurons_shown(tab, server, "second") == saved[10]
    # a second run's neurons, requested while the first ones are on their way
    tab.run(move, 3)
    choose(tab, "first")
    outlast_delays(tab)
    neurons_shown(tab, server, "first")


def test_zoomed_link_loads_every_point_at_once(page, tmp_path, made, serve):
    lines = (made / "first" / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    long = tmp_path / "long"
    long.mkdir()
    shutil.copy(made / "first" / "config.json", long)
    with (long / "history.jsonl").open("w") as file:
        for step in range(5000):
            file.write(json.dumps(rows[step % len(rows)] | {"step": step}) + "\n")
    _, address = serve(tmp_path)
    for axis, span in (("step", [2000, 2060]), ("log", [np.log10(2001), np.log10(2061)])):
        view = json.dumps({"runs": ["long"], "axis": axis, "range": list(span)})
        page.open_tab(address, "?p.phases.view=" + urllib.parse.quote(view))
        settled(page)
        inside = f"{FIGURE}.data[0].x.filter(x => x >= 2000 && x <= 2062).length"
        assert page.run(f"return {inside}") >= 61


@pytest.mark.parametrize("axis", ["step", "log"])
def test_view_stays_near_the_steps(tab, axis):
    use_axis(tab, axis)
    whole = steps_shown(tab)
    body = tab.driver.find_element(By.TAG_NAME, "body")
    tab.driver.find_element(By.TAG_NAME, "h1").click()
    for _ in range(12):
        body.send_keys("-")
    settled(tab)
    assert steps_shown(tab) == pytest.approx(whole)
    for _ in range(12):
        body.send_keys(Keys.ARROW_RIGHT)
    settled(tab)
    low, high = steps_shown(tab)
    assert whole[0] <= low < whole[1] < high
    assert tab.run("return document.getElementById('message').textContent") == ""


def test_keys_do_nothing_while_the_list_of_keys_is_open(tab):
    tab.run("document.getElementById('do-help').click()")
    tab.driver.find_element(By.TAG_NAME, "body").send_keys("a", "t")
    assert tab.run("return document.getElementById('axis').value") == "step"
    assert tab.run("return document.documentElement.dataset.theme") == "light"
    tab.run("document.getElementById('do-close').click()")


def test_focus_and_open_details_stay_when_runs_are_added(tab, server, made):
    settled(tab)
    tab.run("document.querySelector('#thresholds details').open = true")
    tab.run(
        "document.querySelector('#runs input[data-run=first]').closest('li').querySelector('.only').focus()"
    )
    tab.driver.switch_to.active_element.send_keys(Keys.ENTER)
    settled(tab)
    shutil.copytree(made / "first", server.logdir / "new")
    try:
        tab.until("document.querySelector('#runs input[data-run=new]')")
        settled(tab)
        assert tab.run("return document.activeElement.className") == "only"
        assert tab.run("return document.querySelector('#thresholds details').open")
    finally:
        shutil.rmtree(server.logdir / "new")


def test_only_as_many_runs_as_colours_are_drawn(page, tmp_path, made, serve):
    for number in range(14):
        shutil.copytree(made / "first", tmp_path / f"r{number:02}")
    _, address = serve(tmp_path)
    page.open_tab(address)
    settled(page)
    page.run(
        "for (const box of document.querySelectorAll('#runs input:not(:checked)')) box.click()"
    )
    settled(page)
    assert len(page.run("return [...document.querySelectorAll('#boundaries p b')]")) == 12
    assert "only the last 12" in page.run("return document.getElementById('message').textContent")
    colours = page.run(
        f"return {FIGURE}.data.filter(t => t.yaxis === 'y' && t.line?.dash === 'solid').map(t => t.line.color)"
    )
    assert len(set(colours)) == 12


def test_new_run_is_shown_at_its_first_record(page, tmp_path, made, serve):
    folder = tmp_path / "young"
    folder.mkdir()
    shutil.copy(made / "first" / "config.json", folder)
    _, address = serve(tmp_path)
    page.open_tab(address)
    page.until("document.getElementById('message').textContent.includes('Choose a run')")
    shutil.copy(made / "first" / "history.jsonl", folder)
    page.until(DRAWN)
    assert page.run("return document.querySelector('#boundaries b').textContent") == "young"


def test_replaced_history_is_reloaded(page, tmp_path, made, serve):
    lines = (made / "first" / "history.jsonl").read_text().splitlines(keepends=True)
    folder = tmp_path / "again"
    folder.mkdir()
    shutil.copy(made / "first" / "config.json", folder)
    (folder / "history.jsonl").write_text("".join(lines[:60]))
    _, address = serve(tmp_path)
    page.open_tab(address)
    page.until(f"{FIGURE}.data && Math.max(...{FIGURE}.data[0].x) === 59")
    (folder / "fresh").write_text("".join(lines[:10]))
    (folder / "fresh").replace(folder / "history.jsonl")
    page.until(f"Math.max(...{FIGURE}.data[0].x) === 9")
    settled(page)
    assert page.run(f"return {FIGURE}.data[0].x.length") == 10
    assert shapes(page, "onset:") == []


def test_overlay_keeps_curves_that_only_one_run_recorded(page, tmp_path, made, serve):
    for name, metrics in (("a", ["loss/train", "linearization/gradient_error_first"]), ("b", [])):
        shutil.copytree(made / "first", tmp_path / name)
        path = tmp_path / name / "history.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if metrics:
            few = {"linearization/gradient_error_first": 0.5}
            rows = [{k: r[k] for k in ("step", "loss/train")} | few for r in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, address = serve(tmp_path)
    page.open_tab(address)
    settled(page)
    choose(page, "a", "b")
    drawn = page.run(f"return {FIGURE}.data.map(t => t.hovertemplate)")
    assert any("a · gradient, 1st layer" in text for text in drawn)
    assert any("b · ζ*" in text for text in drawn)


def test_flickering_labels_leave_room_for_the_charts(page, tmp_path, made, serve):
    rows = [
        json.loads(line) for line in (made / "first" / "history.jsonl").read_text().splitlines()
    ]
    folder = tmp_path / "noisy"
    folder.mkdir()
    shutil.copy(made / "first" / "config.json", folder)
    rng = np.random.default_rng(0)
    with (folder / "history.jsonl").open("w") as file:
        for step, zeta in enumerate(np.exp(rng.standard_normal(3000))):
            row = rows[step % 20] | {"step": step, "heaviness/zeta_star": zeta}
            file.write(json.dumps(row) + "\n")
    _, address = serve(tmp_path)
    page.open_tab(address)
    settled(page)
    assert page.run(f"return {FIGURE}.layout.margin.t") < 140
    assert page.run(f"return {FIGURE}.layout.shapes.length") < 2500
    names = page.run(f"return {FIGURE}.layout.annotations.map(a => a.text)")
    assert any(name.endswith("more: zoom in") for name in names)
    assert page.run("return document.querySelectorAll('#boundaries tr').length") <= 101


HOSTILE = '<img src=x onerror="document.title=1">&lt;b&gt;'


def test_hostile_runs_are_shown_as_text_or_reported_as_unreadable(page, server, made):
    folders = {
        HOSTILE: None,
        "läuft ζ 実行": None,
        "n" * 200: None,
        "empty": b"",
        "corrupt": b"{]\n",
    }
    try:
        for name, content in folders.items():
            shutil.copytree(made / "first", server.logdir / name)
            if content is not None:
                (server.logdir / name / "history.jsonl").write_bytes(content)
        page.open_tab(server)
        page.until("document.querySelectorAll('#runs input').length === 7")
        choose(page, HOSTILE)
        page.until("document.querySelector('#boundaries b').textContent.includes('<img')")
        assert page.run("return document.querySelectorAll('#phases img').length") == 0
        choose(page, HOSTILE, "läuft ζ 実行", "n" * 200)
        assert page.run("return document.title") == "Phases"
        assert page.run(f"return {FIGURE}.querySelectorAll('img').length") == 0
        texts = page.run("return document.getElementById('runs').innerText")
        assert "nothing has been recorded yet" in texts
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")
        # choosing the corrupt run reports it; the other runs stay
        box = "[...document.querySelectorAll('#runs input')].find(b => b.dataset.run === 'corrupt')"
        page.run(f"{box}.click()")
        page.until(
            "document.getElementById('message').textContent.includes('history.jsonl, line 1')"
        )
        page.until("document.getElementById('runs').innerText.includes('unreadable')")
        page.picture("hostile")
    finally:
        for name in folders:
            shutil.rmtree(server.logdir / name, ignore_errors=True)


def test_first_run_appears_by_itself(page, tmp_path, made, serve):
    _, address = serve(tmp_path)
    page.open(f"{address}/data/plugin_entry.html?name=phases")
    page.until("document.getElementById('message').textContent.includes('No runs yet')")
    page.picture("empty")
    shutil.copytree(made / "first", tmp_path / "first")
    page.until(DRAWN)


def test_unreachable_server_is_reported(page, tmp_path, made, serve):
    shutil.copytree(made / "first", tmp_path / "first")
    process, address = serve(tmp_path)
    page.open(f"{address}/data/plugin_entry.html?name=phases")
    page.until(DRAWN)
    end_server(process)
    page.until("document.getElementById('message').textContent.includes('does not answer')")
    assert page.run(f"return {FIGURE}.data.length") > 0  # the charts stay
    assert all("net::ERR_" in line or "404" in line for line in page.errors())
