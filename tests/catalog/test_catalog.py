"""The whole catalog from predictions: each star once, lists as good as expected, and folders that exist."""

import ast
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.catalog.catalog import CatalogResult, make_catalog
from survey.catalog.exports import COLUMNS_FILE
from survey.catalog.settings import LIST_CLASSES, LIST_NAMES, CatalogSettings
from survey.folder import Folder
from survey.labels import CLASSES
from survey.metrics.settings import SEARCHES
from survey.predict import output
from survey.reports import catalog as report
from survey.settings import SettingsError
from tests.catalog import mixed_stars, skies
from tests.commands import ROOT
from tests.training import lessons

COUNTS, VALIDATION = (150, 60, 450), (150, 150, 150)
MANY, MANY_VALIDATION = (300, 80, 900), (400, 400, 400)
"""Stars of each class in the survey and in validation; many where a share is compared with the truth."""
ALL_FORMATS = ["votable", "fits", "csv"]
PATCH, SKY = ((115.0, 155.0), (0.58, 0.74)), ((0.0, 360.0), (-0.1, 0.9))
"""Right ascension and the sine of the declination: within one tile of the catalog, or in many of them."""
IRON, CARBON = np.array([-2.0, -2.2, 0.0]), np.array([0.2, 1.4, 0.0])
CLASS_COLUMNS = ("predicted_class", "class_entropy", "class_entropy_model")


def write_survey(
    folder: Path, classes: bool = True, seed: int = 0, shard: int = 400, sky: Any = PATCH, many: bool = False
) -> np.ndarray:
    """Predictions of a sky of stars, some with two visits, and `truth.csv`; returns the class of a star."""
    random = np.random.default_rng(seed)
    class_S, feature_S2 = mixed_stars.stars(random, MANY if many else COUNTS)
    order = random.permutation(len(class_S))
    class_S, feature_S2 = class_S[order], feature_S2[order]
    (low, high), (south, north) = sky
    ra_S = random.uniform(low, high, len(class_S))
    dec_S = np.degrees(np.arcsin(random.uniform(south, north, len(class_S))))
    star_N = np.concatenate([np.arange(len(class_S)), np.arange(0, len(class_S), 4)])
    table = skies.rows(ra_S[star_N], dec_S[star_N], [f"J{number}" for number in star_N], seed)
    p_NC = mixed_stars.probabilities(feature_S2)[star_N]
    values = {f"p_{name}": p_NC[:, number] for number, name in enumerate(("mp", "cemp", "nmp"))} | {
        "predicted_class": p_NC.argmax(1),
        "FeH": (p_NC * IRON).sum(1),
        "CFe": (p_NC * CARBON).sum(1),
        "snr": random.uniform(10, 90, len(p_NC)),
        "domain": np.full(len(p_NC), 0.5),
    }
    for name, array in values.items():
        field = table.schema.field(name)
        table = table.set_column(table.column_names.index(name), field, pa.array(array).cast(field.type))
    if not classes:
        table = without_classes(table)
    skies.write(folder / "predictions", table, shard, classes=CLASSES if classes else ())
    _write_validation(folder, random, seed, MANY_VALIDATION if many else VALIDATION)
    lines = [
        f"J{number},{ra:.6f},{dec:.6f},{IRON[c]},{CARBON[c]}"
        for number, (ra, dec, c) in enumerate(zip(ra_S, dec_S, class_S, strict=True))
    ]
    (folder / "truth.csv").write_text("\n".join(["star,ra,dec,FeH,CFe", *lines]) + "\n")
    return class_S


def without_classes(table: pa.Table) -> pa.Table:
    """The table without all that belongs to classes."""
    names = [name for name in table.column_names if name.startswith("p_") or name in CLASS_COLUMNS]
    return table.drop_columns(names)


def _write_validation(folder: Path, random: np.random.Generator, seed: int, counts: tuple[int, ...]) -> None:
    validation = mixed_stars.validation(counts, seed + 1)
    count = validation.num_rows
    columns = {
        "star": [f"v{number}" for number in range(count)],
        "snr": random.uniform(10, 90, count),
        "Teff": random.uniform(4500, 6500, count),
    }
    for name, values in columns.items():
        validation = validation.append_column(name, pa.array(values))
    pq.write_table(validation, folder / "predictions" / output.VALIDATION)


def change_document(folder: Path, **changes: Any) -> None:
    """Change the document of the predictions."""
    predictions = Folder(str(folder / "predictions"), output.PREDICTIONS)
    predictions.finish(predictions.document().model_copy(update=changes))


def run(folder: Path, **settings: Any) -> CatalogResult:
    """The catalog of the predictions in a folder, with its lists in Parquet only."""
    return make_catalog(settings_in(folder, **settings))


def settings_in(folder: Path, **settings: Any) -> CatalogSettings:
    """The settings of that catalog; few bins of the selection function take less time."""
    values = {
        "predictions": str(folder / "predictions"),
        "catalog": str(folder / "catalog"),
        "rows_per_file": 1000,
        "exports": [],
        "bins": {"snr": [10.0, 20.0], "teff": [4500.0]},
    }
    return CatalogSettings.from_dict("catalog", values | settings)


@functools.cache
def plain() -> tuple[Path, CatalogResult]:
    """A folder with a survey and its catalog, with all settings as they are; tests do not change it."""
    folder = Path(tempfile.mkdtemp(dir=lessons.kept_folder()))
    write_survey(folder)
    return folder, run(folder)


def plain_copy(folder: Path) -> Path:
    """A copy of that survey and its catalog, as if they had been made in this folder."""
    kept, _ = plain()
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    settings = folder / "catalog" / "settings.json"
    settings.write_text(settings.read_text().replace(str(kept), str(folder)))
    return folder


def list_of(result: CatalogResult, name: str) -> pa.Table:
    """A list of candidates."""
    table = result.table(f"{name.lower()}_candidates.parquet")
    assert table is not None
    return table


def all_stars(result: CatalogResult) -> pa.Table:
    """All stars with a position."""
    return pq.read_table(Path(result.folder) / "hats" / "stars" / "dataset")


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder = tmp_path_factory.mktemp("catalog")
    write_survey(folder, sky=SKY, many=True)
    truth = str(folder / "truth.csv")
    return run(folder, truth=truth, known=[truth], cemp={"goal": "purity", "level": 0.8})


def test_each_star_is_there_once_with_its_visits_combined(result: CatalogResult) -> None:
    table = all_stars(result)
    assert table.num_rows == sum(MANY) == result.document.stars
    assert len(set(table["star"].to_pylist())) == sum(MANY)
    assert sorted(set(table["n_visits"].to_pylist())) == [1, 2]
    assert sum(table["n_visits"].to_pylist()) == result.document.predictions.rows


@pytest.mark.parametrize("name", LIST_NAMES)
def test_a_list_is_ranked_and_holds_the_stars_that_are_marked(result: CatalogResult, name: Any) -> None:
    stars, candidates = all_stars(result), list_of(result, name)
    assert candidates["rank"].to_pylist() == list(range(1, candidates.num_rows + 1))
    score = candidates[f"score_{name.lower()}"].to_numpy()
    assert (np.diff(score) <= 0).all()
    assert score.min() >= np.float32(result.document.thresholds[name].value)
    marked = stars.filter(stars[f"{name.lower()}_candidate"])
    assert set(marked["star"].to_pylist()) == set(candidates["star"].to_pylist())
    assert set(candidates["flag_bad"].to_pylist()) == {0}
    assert candidates.schema.metadata[b"ensemble"] == b"e1"


@pytest.mark.parametrize("name", LIST_NAMES)
def test_a_list_takes_the_classes_of_the_search_of_the_same_name(name: Any) -> None:
    assert LIST_CLASSES[name] == SEARCHES[f"{name}_search"]


def test_the_expected_purity_and_completeness_are_those_of_the_true_labels(result: CatalogResult) -> None:
    """The survey has 23 % MP and 6 % CEMP stars, validation a third of each; the mix corrects for it."""
    measured = result.table("truth.parquet")
    assert measured is not None
    for row in measured.to_pylist():
        expected = getattr(result.document.thresholds[row["search"]], row["metric"])
        assert expected.low - 0.05 <= row["value"] <= expected.high + 0.05, (row, expected)
    rows = {(row["search"], row["metric"]): row for row in measured.to_pylist()}
    purity = rows["CEMP", "purity"]
    assert purity["high"] >= 0.8
    number = result.document.expected["CEMP"]
    assert number.low is not None
    assert number.high is not None
    assert number.low - 5 <= purity["hits"] <= number.high + 5


def test_known_stars_are_marked_and_counted(result: CatalogResult) -> None:
    known = result.table("known.parquet")
    assert known is not None
    assert known["observed"].to_pylist() == [sum(MANY)] * 2
    candidates = list_of(result, "CEMP")
    assert candidates["is_known"].to_pylist() == [True] * candidates.num_rows
    assert candidates["known_name"].to_pylist() == candidates["star"].to_pylist()


def test_the_summary_and_the_plots_show_the_catalog(result: CatalogResult) -> None:
    pictures = report.pictures(result)
    assert {Path(path).name for path in pictures} >= {
        "purity_completeness.png",
        "selection.png",
        "mp_candidates.png",
        "cemp_candidates.png",
    }
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in pictures)
    text = report.summary(result, pictures)
    assert f"{sum(MANY):,}, 320 with several visits, 0 without a position" in text
    assert "chosen for purity 0.8; expected purity" in text
    assert "CEMP purity" in text


def test_a_finished_catalog_is_left_as_it_is_and_made_again_if_the_predictions_have_grown(
    tmp_path: Path,
) -> None:
    plain_copy(tmp_path)
    first = plain()[1].document
    marker = tmp_path / "catalog" / "hats" / "collection.properties"
    written = marker.stat().st_mtime_ns
    second = run(tmp_path)
    assert (second.created, marker.stat().st_mtime_ns) == (False, written)
    assert second.document == first
    change_document(tmp_path, id="grown")
    grown = run(tmp_path)
    assert grown.created
    assert grown.document.id != first.id
    assert marker.stat().st_mtime_ns != written


def test_a_finished_catalog_is_not_replaced_by_one_of_other_predictions(tmp_path: Path) -> None:
    before = plain_copy(tmp_path).joinpath("catalog", "catalog.json").read_bytes()
    source = output.InputReference(kind="store", path="other", id="s2")
    change_document(tmp_path, id="other", source=source)
    with pytest.raises(
        SettingsError, match=r"was made from other predictions: .* of store by .* of other by"
    ):
        run(tmp_path)
    ensemble = output.open_predictions(str(tmp_path / "predictions")).document.ensemble
    source = output.InputReference(kind="store", path="elsewhere", id="s1")
    change_document(tmp_path, source=source, ensemble=ensemble.model_copy(update={"id": "e2"}))
    with pytest.raises(SettingsError, match=r"give the same predictions again, or another catalog="):
        run(tmp_path)
    assert (tmp_path / "catalog" / "catalog.json").read_bytes() == before
    change_document(tmp_path, source=source, ensemble=ensemble)
    assert run(tmp_path).created, "the store was only moved"


def test_predictions_of_the_same_relative_path_in_another_folder_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was given in one folder, and is given again in another one with predictions of its own."""
    for name, identity in (("one", "s1"), ("two", "s2")):
        plain_copy(tmp_path / name)
        source = output.InputReference(kind="files", path="files", id=identity)
        change_document(tmp_path / name, id=f"p{identity}", source=source)
    place = tmp_path / "common"
    monkeypatch.chdir(tmp_path / "one")
    run(tmp_path / "one", predictions="predictions", catalog=str(place))
    written = json.loads((place / "settings.json").read_text())
    (place / "settings.json").write_text(json.dumps(written | {"command_folder": str(tmp_path / "one")}))
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(SettingsError, match=r"was made from other predictions: predictions of files by"):
        run(tmp_path / "two", predictions="predictions", catalog=str(place))
    grown = output.InputReference(kind="files", path="files", id="s3")
    change_document(tmp_path / "one", id="grown", source=grown)
    assert run(tmp_path / "one", catalog=str(place)).created


def test_each_table_says_what_it_was_made_from(result: CatalogResult) -> None:
    tables = sorted(Path(result.folder).glob("*.parquet"))
    assert len(tables) == 14
    for path in tables:
        metadata = pq.read_schema(path).metadata
        origin = [metadata[name] for name in (b"ensemble", b"predictions", b"source")]
        assert origin == [b"e1", b"abc", b"store s1"], path
    assert (Path(result.folder) / COLUMNS_FILE).exists()
    assert result.document.definitions["CEMP"] == "[Fe/H] < -1 and [C/Fe] >= 0.7 (criterion carbon_0.7)"


def test_no_spectrum_at_all_gives_an_empty_catalog(tmp_path: Path) -> None:
    skies.write(tmp_path / "predictions", skies.rows(np.empty(0), np.empty(0), []))
    validation = mixed_stars.validation((40, 40, 40))
    names = pa.array([str(number) for number in range(120)])
    path = tmp_path / "predictions" / output.VALIDATION
    pq.write_table(validation.append_column("star", names), path)
    result = run(tmp_path)
    assert result.document.stars == 0
    assert result.document.candidates == {"MP": 0, "CEMP": 0}
    assert "0 candidates" in report.summary(result, report.pictures(result))


TRAINERS = ("torch", "survey.training", "survey.models", "survey.ensemble.ensemble")


def imported(body: list[ast.stmt]) -> Iterator[str]:
    """The modules, and names in them, that these statements load at once, not when a function is called."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif isinstance(node, (ast.If, ast.Try, ast.ClassDef, ast.With)):
            yield from imported(node.body)


def test_no_module_of_a_catalog_loads_a_trainer_or_torch() -> None:
    """All that is imported is found in the text of the modules, without the seconds that loading takes."""
    names, loaded = ["survey.catalog.catalog"], set()
    while names:
        name = names.pop()
        if name in loaded:
            continue
        loaded.add(name)
        names += [name.rpartition(".")[0]] if "." in name else []
        path = ROOT.joinpath(*name.split("."))
        file = next((one for one in (path / "__init__.py", path.with_suffix(".py")) if one.exists()), None)
        if name.startswith("survey") and file:
            names += imported(ast.parse(file.read_text()).body)
    assert {"survey.catalog.catalog", "survey.catalog.thresholds", "numpy"} <= loaded
    assert not [name for name in loaded if name.startswith(TRAINERS)]


@pytest.mark.long
def test_a_catalog_loads_no_trainer_and_no_torch() -> None:
    code = "import sys, survey.catalog.catalog; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    loaded = done.stdout.split()
    assert "survey.catalog.catalog" in loaded
    assert not [name for name in loaded if name.startswith(TRAINERS)]


def test_wrong_input_is_reported_before_the_work(tmp_path: Path) -> None:
    folder, _ = plain()
    other = r"was made with other settings: radius=3\.0 there, 2\.0 now; give the same settings"
    with pytest.raises(SettingsError, match=other):
        run(folder, radius=2.0)
    shutil.copytree(folder / "predictions", tmp_path / "predictions")
    (tmp_path / "predictions" / "validation.parquet").unlink()
    with pytest.raises(SettingsError, match=r"the ensemble ensemble has no validation stars"):
        run(tmp_path, catalog=str(tmp_path / "other"))
    with pytest.raises(SettingsError, match=r"the folder of another job \(catalog, not predictions\)"):
        run(tmp_path, predictions=str(folder / "catalog"), catalog=str(tmp_path / "third"))


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    write_survey(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(SettingsError, match=r"holds thesis\.tex but is no catalog"):
        run(tmp_path, catalog=str(tmp_path / "full"))


def test_a_catalog_of_an_older_version_is_refused(tmp_path: Path) -> None:
    path = plain_copy(tmp_path) / "catalog" / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    with pytest.raises(SettingsError, match=r"a catalog of version 1, this code reads version 3"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("leave_out", ["nonsense"], r"leave_out: .*there is no flag 'nonsense'; the flags are spectrum, "),
        ("limits", {"doubt": 1.0}, r"limits\.doubt: unknown setting"),
        ("limits", {"error": {"teff": 100.0}}, r"limits\.error: .*teff: give the label as Teff"),
        (
            "limits",
            {"error": {"Quux": 1.0}},
            r"limits\.error: .*there is no label 'Quux'; give one of Teff, ",
        ),
        ("limits", {"error": {"rv": 0.0}}, r"limits\.error: .*rv=0 is not above 0; give a number above 0"),
        ("mp", {"level": 0.95}, r"mp\.level: 0\.95: the best F1 has no level; give mp\.goal=purity or "),
        ("cemp", {"goal": "f1", "level": 0.5}, r"cemp\.level: 0\.5: the best F1 has no level"),
        ("exports", ["xlsx"], r"exports"),
    ],
)
def test_wrong_settings_are_reported_without_the_data(key: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CatalogSettings.from_dict("catalog", {"predictions": "x", "catalog": "y", key: value})


def test_columns_of_no_catalogue_are_refused() -> None:
    values = {"predictions": "x", "catalog": "y", "catalogue": "none", "catalogue_columns": ["gmag"]}
    with pytest.raises(SettingsError, match=r"catalogue_columns: .*catalogue=none adds no columns; give"):
        CatalogSettings.from_dict("catalog", values)
