"""Pages in a real Chromium, from the disk, without a network. The console of each window must stay empty."""

import base64
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.catalog.catalog import CatalogResult
from survey.pages.spectra_code import Chunk, unpack
from tests.commands import survey
from tests.pages.conftest import HOSTILE, Visitor
from tests.training import lessons

pytestmark = pytest.mark.browser


def names(page: Any) -> list[str]:
    """The stars of the table that are in sight, from the top."""
    shown: list[str] = page.evaluate("vetting.table.shown.map((entry) => vetting.star(entry))")
    return shown


def entry(page: Any) -> int:
    found: int = page.evaluate("vetting.entry")
    return found


def until(page: Any, condition: str) -> None:
    """Wait for a condition. (The waiting of Playwright itself evaluates text, which the page forbids.)"""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never true: {condition}")


def press(page: Any, *keys: str) -> None:
    """Keys one after the other; each waits until its candidate is drawn."""
    for key in keys:
        page.keyboard.press(key)
        until(page, "document.documentElement.dataset.entry === String(vetting.entry)")


def records(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("Object.fromEntries(vetting.book.records)")
    return found


def saved(page: Any, button: str, folder: Path) -> Path:
    """The file that a button saves."""
    with page.expect_download() as waiting:
        page.click(button)
    suggested: str = waiting.value.suggested_filename
    path = folder / suggested
    waiting.value.save_as(path)
    return path


def test_a_vetting_page_opens_from_the_disk_and_shows_the_first_candidate(
    vetting: Any, vetted: CatalogResult
) -> None:
    page = vetting
    table = vetted.table("cemp_candidates.parquet")
    assert table is not None
    assert page.inner_text("#star-name") == table["star"][0].as_py()
    assert page.locator("#spectrum canvas").count() == 1
    assert page.locator("#panels canvas").count() >= 1
    assert page.locator("#planes canvas").count() >= 1
    assert page.locator("#labels tr").count() == 3
    drawn = page.evaluate(
        "(() => { const canvas = document.querySelector('#spectrum canvas');"
        " const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        " return data.filter((value, at) => at % 4 === 3 && value > 0).length })()"
    )
    assert drawn > 1000


def test_the_browser_reads_the_same_spectra_as_python(vetting: Any, vetting_page: Path) -> None:
    page, text = vetting, vetting_page.read_text()
    read = page.evaluate("vetting.readers.best.get(1).then(({flux, sigma}) => [flux, Array.from(sigma)])")
    about = json.loads(text.split('id="data-best-about">')[1].split("<")[0])["chunks"][0]

    data = base64.b64decode(text.split('id="data-best-0">')[1].split("<")[0])
    flux, sigma = unpack(Chunk(about, data))
    browser_flux = np.array([np.nan if value is None else value for value in read[0]])
    np.testing.assert_allclose(browser_flux, flux[1], rtol=1e-9)
    np.testing.assert_allclose(read[1], sigma[1], rtol=1e-6)


def test_hostile_names_are_text_in_every_place(visitor: Visitor, vetting_page: Path, catalog: Any) -> None:
    page = visitor.open(vetting_page)
    listed = names(page)
    for name in HOSTILE:
        page.evaluate(f"vetting.open({listed.index(name)})")
        until(page, "document.documentElement.dataset.entry === String(vetting.entry)")
        assert page.evaluate("document.getElementById('star-name').textContent") == name
    assert page.evaluate("window.hacked") is None
    find = "#part-cemp-list .long-tools input >> nth=0"
    catalog.fill(find, "onerror")
    assert "1 of" in catalog.inner_text("#part-cemp-list .long-tools span >> nth=0")
    assert catalog.evaluate("window.hacked") is None
    catalog.fill(find, "")


def test_code_that_is_not_of_the_page_does_not_run(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    page.evaluate(
        "() => { const made = document.createElement('script'); made.textContent = 'window.hacked = 1';"
        " document.body.append(made) }"
    )
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in visitor.said_by_console)
    visitor.said_by_console.clear()


def test_a_column_sorts_upwards_and_downwards_and_back(vetting: Any) -> None:
    page = vetting
    before = names(page)
    iron = "vetting.table.shown.map((entry) => vetting.columns.FeH[vetting.row(entry)])"
    head = page.get_by_role("columnheader", name="Fe/H").locator("button")
    head.click()
    values = page.evaluate(iron)
    assert values == sorted(values)
    assert page.get_by_role("columnheader", name="Fe/H").get_attribute("aria-sort") == "ascending"
    head.click()
    assert page.evaluate(iron) == sorted(values, reverse=True)
    head.click()
    assert names(page) == before


def test_the_filter_takes_words_and_conditions(vetting: Any) -> None:
    page = vetting
    total = len(names(page))
    page.keyboard.press("/")
    page.keyboard.type("FeH<-2 snr_best>=40")
    values = page.evaluate(
        "vetting.table.shown.map((entry) =>"
        " ['FeH', 'snr_best'].map((name) => vetting.columns[name][vetting.row(entry)]))"
    )
    assert values
    assert len(values) < total
    assert all(iron < -2 and snr >= 40 for iron, snr in values)
    page.fill("#find", "HYPERLINK")
    assert set(names(page)) == {HOSTILE[2]}
    page.fill("#find", "Fe_H<1")
    assert "there is no column Fe_H" in page.inner_text("#found")
    page.fill("#find", "")
    page.locator("#find").blur()


def test_keys_zoom_and_change_what_is_drawn(vetting: Any) -> None:
    page = vetting
    assert page.evaluate("vetting.model.window") is None
    press(page, "z")
    low, high = page.evaluate("vetting.model.window")
    assert [low, high] == page.evaluate("vetting.about.presets[1].slice(1)")
    scale = page.evaluate("vetting.model.plots[0].plot.scales.x")
    assert (scale["min"], scale["max"]) == (low, high)
    press(page, "0")
    assert page.evaluate("vetting.model.window") is None
    press(page, "c", "e")
    assert page.evaluate("[vetting.model.choices.comparison, vetting.model.choices.errors]") == [False, False]
    assert page.get_attribute("#choice-comparison", "aria-pressed") == "false"
    press(page, "c", "e")


def test_dragging_over_the_spectrum_zooms_and_a_double_click_goes_back(
    vetting: Any,
) -> None:
    page = vetting
    box = page.locator("#spectrum .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=4)
    page.mouse.up()
    wave = page.evaluate("[vetting.wave[0], vetting.wave[vetting.wave.length - 1]]")
    low, high = page.evaluate("vetting.model.window")
    span = wave[1] - wave[0]
    assert low == pytest.approx(wave[0] + 0.25 * span, abs=0.03 * span)
    assert high == pytest.approx(wave[0] + 0.5 * span, abs=0.03 * span)
    page.mouse.dblclick(box["x"] + 60, box["y"] + 50)
    assert page.evaluate("vetting.model.window") is None


def test_verdicts_by_keyboard_outlive_a_reload(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    first, second, third = names(page)[:3]
    press(page, "a", "3", "n")
    page.keyboard.type("strong G band")
    page.keyboard.press("Enter")
    press(page, "j", "r", "j", "u", "u")
    page = visitor.open(vetting_page)
    found = records(page)
    assert set(found) == {f"1|{first}", f"1|{second}", f"1|{third}"}
    assert (found[f"1|{third}"]["verdict"], bool(found[f"1|{third}"]["time"])) == ("", True)  # taken back
    assert (found[f"1|{first}"]["verdict"], found[f"1|{first}"]["quality"]) == ("accept", 3)
    assert found[f"1|{first}"]["note"] == "strong G band"
    assert found[f"1|{second}"]["verdict"] == "reject"
    assert entry(page) == 2
    assert page.inner_text("#counts").startswith("2 of ")
    press(page, "k", "k")
    assert page.get_attribute("#verdict-accept", "aria-pressed") == "true"
    assert page.input_value("#note") == "strong G band"


def test_seen_and_unseen_are_told_apart_by_their_verdicts(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    total = len(names(page))
    press(page, "a", "j", "r")
    page.click("[data-seen=unseen]")
    assert len(names(page)) == total - 2
    page.click("[data-seen=seen]")
    assert len(names(page)) == 2
    press(page, "f")
    assert len(names(page)) == total


def test_after_a_verdict_the_page_goes_on_if_it_is_asked_to(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    press(page, "m", "a", "r", "u")
    assert entry(page) == 3
    assert [page.evaluate(f"vetting.record({number}).verdict") for number in range(3)] == [
        "accept",
        "reject",
        "unsure",
    ]


def test_a_second_look_shows_no_verdict_and_is_kept_apart(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    order = page.evaluate("vetting.about.order")
    again = next(at for at, (_, look) in enumerate(order) if look == 2)
    number = order[again][0]
    page.evaluate(f"vetting.open({order.index([number, 1])})")
    press(page, "a")
    page.evaluate(f"vetting.open({again})")
    star = page.inner_text("#star-name")
    assert page.get_attribute("#verdict-accept", "aria-pressed") == "false"
    press(page, "r")
    found = records(page)
    assert (found[f"1|{star}"]["verdict"], found[f"2|{star}"]["verdict"]) == ("accept", "reject")


def test_verdicts_of_two_people_do_not_mix(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    page.fill("#user", "ann")
    page.press("#user", "Tab")
    press(page, "a")
    page.fill("#user", "bob")
    page.press("#user", "Tab")
    assert records(page) == {}
    press(page, "r")
    page.fill("#user", "ann")
    page.press("#user", "Tab")
    assert [record["verdict"] for record in records(page).values()] == ["accept"]


def test_verdicts_before_the_name_is_given_join_those_of_the_name(
    visitor: Visitor, vetting_page: Path
) -> None:
    page = visitor.open(vetting_page)
    first, second, third = names(page)[:3]

    def name(text: str) -> None:
        page.fill("#user", text)
        page.press("#user", "Tab")

    name("ann")
    press(page, "a", "j", "a", "k")
    name("")
    assert records(page) == {}
    press(page, "j", "r", "j", "u")  # ann forgets her name
    name("ann")
    found = {star: record["verdict"] for star, record in records(page).items()}
    assert found == {f"1|{first}": "accept", f"1|{second}": "reject", f"1|{third}": "unsure"}
    name("")
    assert records(page) == {}
    page.evaluate("(star) => vetting.book.change(star, 1, { verdict: 'reject' })", first)
    page.evaluate(
        "(star) => { const record = vetting.book.get(star, 1); record.time = '2020-01-01T00:00:00Z';"
        " localStorage.setItem(vetting.book.key, JSON.stringify({ [`1|${star}`]: record })); }",
        first,
    )
    name("ann")
    assert records(page)[f"1|{first}"]["verdict"] == "accept", "an older verdict replaces no newer one"


def test_saved_verdicts_load_into_another_browser_and_merge(
    browser: Any, visitor: Visitor, vetting_page: Path, tmp_path: Path
) -> None:
    page = visitor.open(vetting_page)
    page.fill("#user", 'ann "A", 星')
    page.press("#user", "Tab")
    for key in "arua":
        press(page, key, "j")
    press(page, "k", "n")
    page.keyboard.type('a "note", with <b>')
    page.keyboard.press("Enter")
    as_csv, as_json = (saved(page, button, tmp_path) for button in ("#save-csv", "#save-json"))
    with as_csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["verdict"] for row in rows] == ["accept", "reject", "unsure", "accept"]
    assert rows[3]["note"] == 'a "note", with <b>'
    assert {row["user"] for row in rows} == {'ann "A", 星'}
    for path in (as_csv, as_json):
        other = browser.new_context(offline=True)
        fresh = other.new_page()
        fresh.goto(vetting_page.as_uri())
        fresh.wait_for_selector("html[data-ready]", state="attached")
        fresh.set_input_files("#load-file", path)
        until(fresh, "document.getElementById('message').textContent.includes('4 taken')")
        assert {key: each["verdict"] for key, each in records(fresh).items()} == {
            f"1|{row['star']}": row["verdict"] for row in rows
        }
        other.close()
    table = tmp_path / "merged.csv"
    done = survey("report", f"merge=['{as_csv}']", f"table={table}")
    assert done.returncode == 0, done.stderr
    assert "4 stars: 2 accept, 1 reject, 1 unsure" in done.stdout


def test_a_file_that_is_no_verdicts_is_answered_in_words(
    visitor: Visitor, vetting_page: Path, tmp_path: Path
) -> None:
    page, path = visitor.open(vetting_page), tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    page.set_input_files("#load-file", path)
    until(page, "document.getElementById('message').textContent.includes('no columns star and verdict')")
    assert records(page) == {}


def test_help_opens_and_closes_by_its_key(vetting: Any) -> None:
    page = vetting
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_the_theme_changes_and_stays(visitor: Visitor, vetting_page: Path) -> None:
    page = visitor.open(vetting_page)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    page.click("#theme")
    dark = page.evaluate(paper)
    assert dark != light
    page = visitor.open(vetting_page)
    assert page.evaluate(paper) == dark


def test_only_rows_in_sight_are_elements(catalog: Any) -> None:
    assert catalog.locator("#part-mp-list .long-row").count() < 60


def test_a_selection_in_one_plane_is_seen_in_all(catalog: Any) -> None:
    page = catalog
    host = "document.querySelector('[data-block=planes]').starGroup"
    canvas = page.locator("#part-stars canvas.plane").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 60, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 45, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    chosen = page.evaluate(f"{host}.count")
    assert 0 < chosen < page.evaluate(f"{host}.rows")
    assert f"{chosen:,} stars chosen" in page.inner_text("#part-stars .plane-key")
    view = page.evaluate(f"{host}.planes[0].view")
    first = page.evaluate(f"{host}.planes[0].about")
    values = page.evaluate(
        f"(() => {{ const group = {host}; return group.selected.reduce((found, one, star) => one ?"
        f" [...found, group.columns['{first['x']['column']}'][star]] : found, []) }})()"
    )
    assert all(view["x0"] <= value <= view["x1"] for value in values)
    page.click("#part-stars .plane-key button")
    assert page.evaluate(f"{host}.selected") is None


def test_many_stars_are_a_density_and_points_after_zooming_in(visitor: Visitor, catalog_page: Path) -> None:
    page = visitor.open(catalog_page)
    host = "document.querySelector('[data-block=planes]').starGroup"
    canvas = page.locator("#part-stars canvas.plane").first
    assert page.evaluate(f"{host}.planes[0].points")
    page.evaluate(
        f"(() => {{ const group = {host}; for (const name of Object.keys(group.columns)) {{"
        " const few = group.columns[name]; const many = new Float32Array(6000 + few.length);"
        " for (let star = 0; star < 6000; star += 1) many[star] = few[0];"
        " many.set(few, 6000); group.columns[name] = many }"
        " group.planes.forEach((plane) => plane.draw()) })()"
    )
    assert not page.evaluate(f"{host}.planes[0].points")
    assert "as density" in page.inner_text("#part-stars .plane-note >> nth=0")
    canvas.focus()
    view = page.evaluate(f"{host}.planes[0].view")
    page.keyboard.press("+")
    zoomed = page.evaluate(f"{host}.planes[0].view")
    assert zoomed["x1"] - zoomed["x0"] == pytest.approx(0.7 * (view["x1"] - view["x0"]))
    page.keyboard.press("0")
    assert page.evaluate(f"{host}.planes[0].view") == view


@pytest.mark.parametrize("name", ["vetting_page", "catalog_page"])
def test_nothing_is_wider_than_a_phone(name: str, phone: Visitor, request: pytest.FixtureRequest) -> None:
    page = phone.open(request.getfixturevalue(name))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_on_a_phone_the_list_opens_by_its_button_and_closes_by_a_choice(
    phone: Visitor, vetting_page: Path
) -> None:
    page = phone.open(vetting_page)
    assert not page.locator(".vet-list").is_visible()
    page.click("#list-button")
    assert page.locator(".vet-list").is_visible()
    page.click(".vet-list .long-row >> nth=3")
    until(page, "document.documentElement.dataset.entry === '3'")
    assert not page.locator(".vet-list").is_visible()


def test_everything_can_be_reached_by_the_tab_key(vetting: Any) -> None:
    wanted = {
        "user",
        "save-csv",
        "find",
        "verdict-accept",
        "quality-4",
        "note",
        "choice-visits",
        "long-body",
        "plane",
    }
    reached = set[str]()
    for _ in range(120):
        if wanted <= reached:
            break
        vetting.keyboard.press("Tab")
        reached.add(vetting.evaluate("document.activeElement.id || document.activeElement.className"))
    assert wanted <= reached


def test_every_button_and_field_has_a_name(vetting: Any, catalog: Any) -> None:
    for page in (vetting, catalog):
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, input, canvas[tabindex]')].filter((one) =>"
            " !(one.textContent.trim() || one.title || one.getAttribute('aria-label') || one.labels?.length"
            " || one.querySelector?.('img[alt]'))).map((one) => one.outerHTML.slice(0, 90))"
        )
        assert nameless == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for two epochs, and its evaluation."""
    folder = tmp_path_factory.mktemp("trained")
    lessons.store(folder / "store")
    path = lessons.train(folder, epochs=2)
    done = survey("evaluate", f"of={path}", "threads=1", "split=validation")
    assert done.returncode == 0, done.stderr
    return path


def test_a_run_has_linked_curves_a_confusion_matrix_and_residuals(
    visitor: Visitor, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    done = survey("report", f"of={trained}", f"page={path}")
    assert done.returncode == 0, done.stderr
    page = visitor.open(path)
    curves = page.locator("#part-training-curves .uplot")
    assert curves.count() >= 2
    assert page.locator("table.matrix td").count() == 9
    predicted = pq.ParquetFile(trained / "evaluations" / "validation" / "predictions.parquet").read()
    counts = [int(text.replace(",", "")) for text in page.locator("table.matrix td").all_inner_texts()]
    assert sum(counts) == predicted.num_rows
    for true in range(3):
        for called in range(3):
            both = (predicted["true_class"].to_numpy() == true) & (
                predicted["predicted_class"].to_numpy() == called
            )
            assert counts[3 * true + called] == both.sum()
    host = "document.querySelector('[data-block=planes]').starGroup"
    residual = page.evaluate(f"Array.from({host}.columns.residual_FeH)")
    expected = predicted["FeH"].to_numpy() - predicted["true_FeH"].to_numpy()
    np.testing.assert_allclose(residual, expected, atol=0.0011)
    box = curves.first.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    lines = page.locator("#part-training-curves .u-cursor-x")
    places = {lines.nth(number).get_attribute("style") for number in range(lines.count())}
    assert len(places) == 1  # the cursors of all plots stand at the same epoch
