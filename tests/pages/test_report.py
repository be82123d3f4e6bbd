"""One HTML file that needs nothing else, of any folder; nothing in the data is read as code."""

import base64
import gzip
import hashlib
import html.parser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.catalog.catalog import CatalogResult
from survey.catalog.document import EnsembleRecord
from survey.ensemble.ensemble import ENSEMBLE
from survey.evaluate.evaluate import evaluate
from survey.evaluate.settings import Evaluate
from survey.explain import tables
from survey.explain.explanation import EXPLANATION, ExplanationDocument
from survey.folder import Folder
from survey.pages.html import to_json
from survey.pages.report import KINDS, make_page
from survey.pages.settings import ReportSettings
from survey.pages.vetted_list import FEWEST_BETWEEN, VettedStars, work_order
from survey.pages.vetting import interval_text
from survey.status.look import JOB_OF
from tests.commands import ROOT, survey
from tests.finished import change_document
from tests.pages.conftest import HOSTILE
from tests.training import lessons


class Elements(html.parser.HTMLParser):
    """All elements of a page, with their attributes and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def read(path: Path) -> tuple[str, Elements]:
    text = path.read_text(encoding="utf-8")
    return text, Elements(text)


def packed(text: str, name: str) -> Any:
    """Packed JSON of a page."""
    found = re.search(f'id="data-{name}">([^<]*)<', text)
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


@pytest.mark.parametrize("name", ["vetting_page", "catalog_page"])
def test_a_page_loads_nothing_from_anywhere(name: str, request: pytest.FixtureRequest) -> None:
    _, elements = read(request.getfixturevalue(name))
    for tag, attributes in elements.found:
        for attribute in ("src", "href", "action", "data", "poster", "srcset"):
            address = attributes.get(attribute) or ""
            assert address.startswith(("data:", "#")) or not address, (tag, attributes)
        assert not [key for key in attributes if key.startswith("on") or key == "style"], (tag, attributes)
    assert not [
        tag for tag, _ in elements.found if tag in ("iframe", "object", "embed", "base", "form[action]")
    ]


@pytest.mark.parametrize("name", ["vetting_page", "catalog_page"])
def test_the_policy_allows_only_the_code_and_the_style_of_the_page(
    name: str, request: pytest.FixtureRequest
) -> None:
    text, elements = read(request.getfixturevalue(name))
    [policy] = [
        attributes["content"]
        for tag, attributes in elements.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for rule, pattern in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        [content] = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    plain = [attributes for tag, attributes in elements.found if tag == "script" and "type" not in attributes]
    assert len(plain) == 1


def test_hostile_names_are_in_the_page_as_text_only(vetting_page: Path, catalog_page: Path) -> None:
    for path in (vetting_page, catalog_page):
        text, elements = read(path)
        assert "window.hacked" not in text  # names of stars are in packed data
        assert not [tag for tag, attributes in elements.found if attributes.get("onerror")]
    stars = packed(vetting_page.read_text(), "candidates")["star"]
    assert set(HOSTILE) <= set(stars)


def test_json_in_a_page_has_no_character_that_html_reads() -> None:
    value = {"</script>": ["<!--", "&amp;", "\u2028", "星", float("nan"), np.float64("inf"), np.int64(3)]}
    text = to_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"</script>": ["<!--", "&amp;", "\u2028", "星", None, None, 3]}


def test_a_title_from_a_path_is_escaped(vetted: CatalogResult, tmp_path: Path) -> None:
    strange = tmp_path / "<img src=x onerror=alert(1)> & co"
    strange.symlink_to(vetted.folder)
    page = tmp_path / "x.html"
    done = survey("report", f"of={strange}", f"page={page}")
    assert done.returncode == 0, done.stderr
    text, elements = read(page)
    assert "&lt;img src=x" in text
    assert not [attributes for tag, attributes in elements.found if attributes.get("onerror")]


def test_the_second_run_leaves_the_page_and_another_setting_makes_it_anew(
    vetted: CatalogResult, tmp_path: Path
) -> None:
    page = tmp_path / "x.html"
    first = survey("report", f"of={vetted.folder}", "list=cemp", f"page={page}", "visits=false")
    assert "written now" in first.stdout
    before = page.stat().st_mtime_ns
    again = survey("report", f"of={vetted.folder}", "list=cemp", f"page={page}", "visits=false")
    assert "was up to date: nothing to do" in again.stdout
    assert page.stat().st_mtime_ns == before
    other = survey("report", f"of={vetted.folder}", "list=mp", f"page={page}", "visits=false")
    assert "written now" in other.stdout


def write_explanation(folder: Path, identity: str, share: float, of_id: str = "x") -> None:
    """A finished explanation with one block, whose share is given."""
    written = Folder(str(folder), EXPLANATION)
    written.begin({})
    row = {"method": "occlusion", "target": "p_CEMP", "group": "all", "spectra": 9, "block": 0}
    row |= {"low": 4000.0, "high": 4600.0, "features": "", "size": 1.0, "change": 1.0, "share": share}
    pq.write_table(tables.table([row], tables.IMPORTANCE), folder / "importance.parquet")
    counts = {"spectra": 9, "blocks": 1, "left_out": {}, "settings": {}, "version": EXPLANATION.version}
    names = dict.fromkeys(("of", "store", "store_id"), "x") | {"of_id": of_id}
    empty = dict.fromkeys(("methods", "targets", "strength", "attention", "single"), ())
    document = ExplanationDocument.model_validate({"id": identity, **counts, **names, **empty})
    written.finish(document, ["importance.parquet"])


def test_an_explanation_that_was_made_anew_makes_the_page_anew(vetted: CatalogResult, tmp_path: Path) -> None:
    page, folder = tmp_path / "x.html", tmp_path / "explained"
    given = {"of": vetted.folder, "list": "cemp", "page": str(page), "explanation": str(folder)}
    settings = ReportSettings.from_dict("report", given | {"visits": False})
    for identity, share in (("one", 0.25), ("two", 0.75)):
        write_explanation(folder, identity, share)
        assert make_page(settings).created
        assert packed(page.read_text(), "about")["explanation"]["blocks"] == [[4000.0, 4600.0, share]]
        assert not make_page(settings).created


def test_an_explanation_of_other_networks_is_named_as_such(vetted: CatalogResult, tmp_path: Path) -> None:
    page, folder, ensemble = tmp_path / "x.html", tmp_path / "explained", vetted.document.ensemble
    given = {"of": vetted.folder, "list": "cemp", "page": str(page), "explanation": str(folder)}
    settings = ReportSettings.from_dict("report", given | {"visits": False})
    [member] = ensemble.members
    for identity, of_id in (("one", ensemble.id), ("two", "other"), ("three", member.id)):
        write_explanation(folder, identity, 0.5, of_id)
        make_page(settings)
        text = packed(page.read_text(), "about")["explanation"]["text"]
        warning = f"(of other networks: x, but the answers of this list are of {ensemble.path})"
        assert (warning in text) == (of_id == "other")


def test_an_evaluation_and_its_plots_make_the_page_of_their_run_anew(tmp_path: Path) -> None:
    lessons.store(tmp_path / "store")
    run = lessons.train(tmp_path, epochs=1)
    settings = ReportSettings.from_dict("report", {"of": str(run)})

    def page() -> str:
        """The page, which was not up to date, and is now."""
        result = make_page(settings)
        assert result.created
        assert not make_page(settings).created
        return Path(result.page).read_text()

    assert "Evaluation: validation" not in page()
    evaluation = evaluate(
        Evaluate.from_dict("evaluate", {"of": str(run), "split": "validation", "threads": 1})
    )
    assert "Evaluation: validation" in page()
    (Path(evaluation.folder) / "kiel_of_mine.png").write_bytes(b"a picture")
    assert "kiel of mine" in page()
    (run / "curves.png").write_bytes(b"another picture")
    assert base64.b64encode(b"another picture").decode() in page()


def test_intervals_are_called_by_the_coverage_of_their_ensemble(
    vetted: CatalogResult, vetting_page: Path, tmp_path: Path
) -> None:
    about = packed(vetting_page.read_text(), "about")
    assert about["interval"] == "interval"  # this ensemble is nowhere
    assert "line: interval; tick: value" in vetting_page.read_text()
    shutil.copy(ROOT / "weights" / "cemp" / ENSEMBLE.file, tmp_path)
    written = json.loads((tmp_path / ENSEMBLE.file).read_text())
    calibration = written["calibration"] | {"coverage": 0.9}
    change_document(tmp_path / ENSEMBLE.file, {"calibration": calibration})
    record = EnsembleRecord(path=str(tmp_path), id=written["id"], members=())

    def text(record: EnsembleRecord) -> str:
        document = vetted.document.model_copy(update={"ensemble": record})
        return interval_text(VettedStars(vetted.folder, document, "cemp", pa.table({}), 0))

    assert text(record) == "90 % interval"
    assert text(record.model_copy(update={"id": "another"})) == "interval"


def test_a_file_that_is_no_page_is_not_replaced(vetted: CatalogResult, tmp_path: Path) -> None:
    page = tmp_path / "thesis.html"
    page.write_text("<p>a year of work</p>")
    done = survey("report", f"of={vetted.folder}", f"page={page}")
    assert done.returncode == 1
    assert "is there and was not made by survey report; give another name" in done.stderr
    assert page.read_text() == "<p>a year of work</p>"


def test_without_its_predictions_a_list_can_still_be_read(vetted: CatalogResult, tmp_path: Path) -> None:
    moved = Path(vetted.document.predictions.path)
    hidden = moved.with_name("hidden")
    moved.rename(hidden)
    try:
        page = tmp_path / "x.html"
        done = survey("report", f"of={vetted.folder}", "list=cemp", f"page={page}")
    finally:
        hidden.rename(moved)
    assert done.returncode == 0, done.stderr
    assert "are not at" in packed(page.read_text(), "about")["why"]
    assert "warning    it has no spectra: the predictions are not at" in done.stdout
    again = survey("report", f"of={vetted.folder}", "list=cemp", f"page={page}")
    assert "written now" in again.stdout
    assert "warning" not in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["of=nowhere"], "no such folder; give the folder that a job has made"),
        (["of=survey"], "so no job has made it; give the folder of a job"),
        (["of={catalog}", "list=m_subdwarfs"], "has no star; give list=cemp"),
        (["of={catalog}", "list=cmep"], "list"),
        (["of={catalog}", "list=cemp", "explanation=nowhere"], "no finished explanation"),
    ],
)
def test_a_mistake_is_answered_in_one_line(vetted: CatalogResult, arguments: list[str], message: str) -> None:
    done = survey("report", *(each.replace("{catalog}", vetted.folder) for each in arguments))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_finished_is_named_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"kind": "run", "settings": {}}))
    done = survey("report", f"of={tmp_path}")
    assert "a run that is not finished (no run.json)" in done.stderr
    assert "survey status" in done.stderr


@pytest.mark.parametrize("name", ["mock.json", "mock-begun.json"])
def test_a_mock_survey_has_no_page_and_that_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    done = survey("report", f"of={tmp_path}")
    assert done.returncode == 1
    assert f"report: of: {tmp_path}: a mock survey, which has no page" in done.stderr
    assert "ingest it, and give of= with the store" in done.stderr


def test_the_store_and_the_predictions_behind_a_catalog_have_pages(
    vetted: CatalogResult, tmp_path: Path
) -> None:
    folder = Path(vetted.folder).parent
    for name, words in (("store", "grid points"), ("predictions", "out of the domain")):
        page = tmp_path / f"{name}.html"
        done = survey("report", f"of={folder / name}", f"page={page}")
        assert done.returncode == 0, done.stderr
        text = page.read_text()
        assert words in text
        assert "Settings and provenance" in text


def test_every_kind_of_folder_has_a_page() -> None:
    assert set(JOB_OF) >= set(KINDS)
    assert all(isinstance(Folder("x", kind).file(kind.file), str) for kind, _ in KINDS.values())


def test_every_candidate_comes_once_and_some_come_again_later() -> None:
    stars = [f"J{number}" for number in range(400)]
    order = work_order(stars, "a list", 0.05)
    assert sorted(number for number, look in order if look == 1) == list(range(400))
    assert [number for number, look in order if look == 1] == list(range(400))
    again = [number for number, look in order if look == 2]
    assert len(set(again)) == len(again) == 20
    place = {entry: at for at, entry in enumerate(order)}
    for number in again:
        assert place[number, 2] - place[number, 1] > FEWEST_BETWEEN
    assert order == work_order(stars, "a list", 0.05)
    assert order != work_order(stars, "another list", 0.05)


def test_a_second_look_never_comes_soon_unless_the_list_is_too_short() -> None:
    for count, again in ((20, 0.6), (9, 0.1), (400, 0.9)):
        order = work_order([f"J{number}" for number in range(count)], "a list", again)
        for number in {number for number, look in order if look == 2}:
            between = order[order.index((number, 1)) + 1 : order.index((number, 2))]
            assert sum(look == 1 for _, look in between) >= FEWEST_BETWEEN
    short = work_order(["a", "b", "c", "d"], "a list", 0.5)
    assert [number for number, look in short if look == 2] in ([0, 1], [1, 0])


def test_comparison_stars_and_visits_are_in_the_page(vetting_page: Path, vetted: CatalogResult) -> None:
    about = packed(vetting_page.read_text(), "about")
    table = vetted.table("cemp_candidates.parquet")
    assert table is not None
    counts = [len(visits) + 1 for visits in about["spectra"]["visits"]]
    assert counts == table["n_visits"].to_pylist()
    stars = table["star"].to_pylist()
    listed = set(stars)
    for number in about["spectra"]["comparison"]:
        assert number == -1 or about["comparison"][number].split(",")[0] not in listed
    assert any(number >= 0 for number in about["spectra"]["comparison"])
