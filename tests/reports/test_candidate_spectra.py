"""The spectra of the first candidates, each over a normal star, from a store and from survey files."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.output import InputReference
from survey.reports import catalog as report
from survey.reports.candidate_spectra import EDGE, LIKE, NORMAL_SNR, SHOWN, plot_spectra
from survey.reports.shown_lists import shown_lists
from survey.reports.spectra_of_stars import read_spectra_of
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import Store, open_store
from tests.catalog import skies
from tests.catalog.test_catalog import all_stars, list_of, run, without_classes
from tests.training import lessons

COUNT, SHARD = 150, 40


def predict_store(folder: Path, store: Store, **answers: Any) -> pa.Table:
    """Predictions of all spectra of a store, as if by labels alone; returns their rows."""
    rows = pa.concat_tables(list(store.tables(["path", "row", "visit", "velocity"])))
    sizes = [store.spectra(shard, ["row"]).num_rows for shard in range(store.shards)]
    ra = np.linspace(10, 300, rows.num_rows)
    table = skies.rows(ra, np.zeros(rows.num_rows), [f"J{number}" for number in range(rows.num_rows)])
    values: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    values |= {"shard": np.repeat(np.arange(len(sizes)), sizes), "flags": np.zeros(rows.num_rows)}
    values |= {"row_in_shard": np.concatenate([np.arange(size) for size in sizes])} | answers
    for name, value in values.items():
        field = table.schema.field(name)
        column = value if isinstance(value, pa.ChunkedArray) else pa.array(value)
        table = table.set_column(table.column_names.index(name), field, column.cast(field.type))
    source = InputReference(kind="store", path=store.path, id=store.id)
    size = max(sizes)
    skies.write(folder / "predictions", without_classes(table), size, classes=(), source=source)
    return table


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog of toy stars whose labels are right."""
    folder = tmp_path_factory.mktemp("spectra")
    store = open_store(str(lessons.store(folder / "store", COUNT, SHARD)))
    labels = lessons.stars(COUNT)
    answers = {name: labels[name] for name in skies.LABELS}
    snr = np.random.default_rng(3).uniform(10, 90, COUNT)
    predict_store(folder, store, **answers, snr=snr, domain=np.full(COUNT, 0.5))
    return run(folder, exports=[])


def stored(result: CatalogResult, row: dict[str, Any], low: float, high: float) -> np.ndarray:
    """The flux of a star between two wavelengths, straight from the toy store; NaN where bad."""
    number = int(row["visit"].removeprefix("v")) - 1000
    flux, ivar = lessons.spectra(lessons.stars(COUNT))
    inside = (lessons.GRID.wave >= low) & (lessons.GRID.wave <= high)
    return np.where(ivar[number] > 0, flux[number], np.nan)[inside]


def test_each_candidate_is_drawn_over_its_normal_star(result: CatalogResult, figures: list[Figure]) -> None:
    shown = {each.name: each for each in shown_lists(result)}["CEMP"]
    png, why = plot_spectra(result, shown)
    assert (png is not None, why) == (True, "")
    candidates, stars = list_of(result, "CEMP").to_pylist()[:SHOWN], all_stars(result).to_pylist()
    axes = figures[0].axes  # CN and the G band; the grid of the toys ends before C2
    assert len(axes) == 2 * len(candidates)
    for number, candidate in enumerate(candidates):
        line = axes[2 * number : 2 * number + 2]
        normal = nearest(candidate, stars)
        for axis, (low, high) in zip(line, ((4120, 4235), (4265, 4360)), strict=True):
            drawn = [np.asarray(each.get_ydata(), float) for each in axis.get_lines()]
            rows = [normal, candidate] if normal else [candidate]
            for flux, row in zip(drawn, rows, strict=False):
                np.testing.assert_allclose(flux, stored(result, row, low, high), rtol=1e-6)
        text = line[0].texts[0].get_text() + "".join(each.get_text() for each in line[0].texts)
        assert f"rank {candidate['rank']}: {candidate['star']}" in text
        assert (f"blue: {normal['star']}" if normal else "no normal star like it") in text


def test_labels_of_the_axis_are_away_from_the_ends_of_each_window(
    result: CatalogResult, figures: list[Figure]
) -> None:
    for shown in shown_lists(result):
        plot_spectra(result, shown)
    for axis in (axis for figure in figures for axis in figure.axes):
        low, high = axis.get_xlim()
        ticks = np.asarray(axis.get_xticks(), float)
        assert len(ticks)
        assert (np.minimum(ticks - low, high - ticks) >= EDGE * (high - low)).all()


def nearest(candidate: dict[str, Any], stars: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The normal star, star by star: not in the list, little carbon, a good spectrum, like labels."""
    best, best_distance = None, 4.0
    for star in stars:
        is_normal = not star["cemp_candidate"] and star["CFe"] < 0.5 and star["snr_best"] >= NORMAL_SNR
        square = sum(((star[name] - candidate[name]) / LIKE[name]) ** 2 for name in ("Teff", "FeH"))
        distance = float(np.sqrt(square + (NORMAL_SNR / star["snr_best"]) ** 2))
        if is_normal and star["flag_bad"] == 0 and distance < best_distance:
            best, best_distance = star, distance
    return best


def test_the_stars_of_the_test_have_normal_ones(result: CatalogResult) -> None:
    stars = all_stars(result).to_pylist()
    assert any(nearest(row, stars) for row in list_of(result, "CEMP").to_pylist()[:SHOWN])


def test_the_summary_says_which_pictures_are_left_out_and_why(
    result: CatalogResult, figures: list[Figure]
) -> None:
    del figures
    store = Path(result.folder).parent / "store"
    away = store.rename(store.with_name("away"))
    try:
        paths = report.pictures(result)
    finally:
        away.rename(store)
    assert not [path for path in paths if path.endswith("_spectra.png")]
    text = report.summary(result, paths)
    assert f"no plot    cemp_spectra: the store is not at {store} any more" in text
    assert [path for path in report.pictures(result) if path.endswith("_spectra.png")]
    assert "no plot" not in report.summary(result, [])


def test_another_store_at_the_same_place_is_not_taken_for_the_one_that_was_predicted(tmp_path: Path) -> None:
    store = open_store(str(lessons.store(tmp_path / "store", 20, 10)))
    predict_store(tmp_path, store)
    assert len(read_spectra_of(str(tmp_path / "predictions"), [(0, 1), (1, 3)]).flux) == 2
    lessons.store(tmp_path / "store", 20, 10, first=5000)
    spectra = read_spectra_of(str(tmp_path / "predictions"), [(0, 1)])
    assert spectra.flux == {}
    assert spectra.why == f"the store {store.path} has changed since it was predicted, or cannot be read"


def test_a_missing_or_damaged_shard_hides_its_stars_only(tmp_path: Path) -> None:
    store = open_store(str(lessons.store(tmp_path / "store", 30, 10)))
    predict_store(tmp_path, store)
    Path(store.file(0)).unlink()
    Path(store.file(1)).write_bytes(b"no table")
    spectra = read_spectra_of(str(tmp_path / "predictions"), [(0, 1), (1, 3), (2, 5)])
    assert list(spectra.flux) == [(2, 5)]
    assert spectra.why == ""


def test_survey_files_give_the_same_spectra_as_their_store(tmp_path: Path) -> None:
    make(Mock(out=str(tmp_path / "files"), n=12, broken=0.0))
    settings = Ingest.from_dict(
        "ingest",
        {
            "input": str(tmp_path / "files"),
            "store": str(tmp_path / "store"),
            "sources": ["lamost"],
            "shard": 5,
            "refuse_above": 1.0,
            "workers": 1,
            "bits": {"flux": 23},
        },
    )
    ingest(settings)
    store = open_store(settings.store)
    table = predict_store(tmp_path, store)
    places = [(0, 2), (1, 0), (1, 4)]
    of_store = read_spectra_of(str(tmp_path / "predictions"), places)
    files = InputReference(kind="files", path=settings.input, id="files")
    ingest_values = {"ingest": settings.plain()}
    skies.write(tmp_path / "predictions", table, 5, classes=(), source=files, settings=ingest_values)
    of_files = read_spectra_of(str(tmp_path / "predictions"), places)
    assert list(of_files.flux) == list(of_store.flux) == places
    np.testing.assert_array_equal(of_files.wave, of_store.wave)
    for place in places:
        np.testing.assert_allclose(of_files.flux[place], of_store.flux[place], rtol=1e-5)
        assert np.isfinite(of_files.flux[place]).mean() > 0.8
    (tmp_path / "files").rename(tmp_path / "away")
    gone = read_spectra_of(str(tmp_path / "predictions"), places)
    assert gone.why == f"the files of {settings.input} are not at their paths any more"


def test_predictions_that_are_gone_are_named() -> None:
    assert read_spectra_of("/nowhere", [(0, 0)]).why == "the predictions are not at /nowhere any more"
