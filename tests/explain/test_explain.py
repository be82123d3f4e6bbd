"""Which wavelengths a network uses: found where they were put, equal to obvious loops and to captum."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure

from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.explain.blocks import Blocks, ratio_interval
from survey.explain.chosen import find
from survey.explain.explain import Explained, explain
from survey.explain.features import FEATURES
from survey.explain.responses import (
    Change,
    integrated_gradients,
    respond,
    responses_without,
    targets,
)
from survey.explain.settings import FEWEST_IN_PART, ExplainSettings
from survey.reports import explain as report
from survey.reports import explain_plots
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training.batches import Spectra, read_spectra
from tests.ensemble import small_runs
from tests.training.lessons import GRID

WAVE = GRID.wave


def settings(place: Path, **changes: Any) -> ExplainSettings:
    values = {
        "of": str(place / "both"),
        "explain": str(place / "explained"),
        "split": "all",
        "least_snr": 5,
        "count": 64,
        "blocks": 15,
        "batches": 4,
        "steps": 8,
        "threads": 1,
    }
    return ExplainSettings.from_dict("explain", values | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for labels and classes that has learned where the lines of the toy stars are, and others."""
    folder = small_runs.place(tmp_path_factory.mktemp("explain"), "bands", "warm")
    small_runs.train(folder, "both", epochs=30, targets=["Teff", "FeH", "CH"])
    return folder


@pytest.fixture(scope="module")
def explained(place: Path) -> Explained:
    return explain(settings(place, spectra=["1003", "v1004"]))


@pytest.fixture(scope="module")
def ensemble(place: Path) -> Ensemble:
    return open_ensemble(str(place / "both"))


@pytest.fixture(scope="module")
def spectra(place: Path) -> Spectra:
    return read_spectra(open_store(str(place / "store")), np.array([(0, row) for row in range(24)]))


def best_blocks(explained: Explained, target: str, method: str, count: int) -> list[tuple[float, float]]:
    table = explained.table("importance.parquet")
    assert table is not None
    frame = table.to_pandas()
    chosen = frame[(frame.target == target) & (frame.method == method) & (frame.group == "all")]
    best = chosen.nlargest(count, "size")
    return list(zip(best.low, best.high, strict=True))


@pytest.mark.parametrize("method", ["occlusion", "noise", "permutation", "gradients"])
def test_a_label_is_found_to_follow_from_the_line_that_was_made_to_follow_it(
    explained: Explained, method: str
) -> None:
    """The line of temperature is at 4,100, the band of carbon at 4,300 angstrom."""
    assert any(low - 15 < 4100 < high + 15 for low, high in best_blocks(explained, "Teff", method, 2))
    assert any(low - 15 < 4300 < high + 15 for low, high in best_blocks(explained, "CH", method, 2))


def test_the_blocks_share_out_all_that_is_measured(explained: Explained) -> None:
    table = explained.table("importance.parquet")
    assert table is not None
    sums = table.to_pandas().groupby(["method", "target", "group"])["share"].sum()
    assert np.allclose(sums, 1)
    assert {"all", "MP", "CEMP", "NMP"} & set(table["group"].to_pylist()) >= {"all"}


def test_important_blocks_matter_more_than_random_ones(explained: Explained) -> None:
    records = {record.column: record for record in explained.document.strength}
    for name in ("Teff", "FeH", "CH"):
        assert records[name].low > 1, name
        assert records[name].low <= records[name].ratio <= records[name].high


def test_carbon_follows_from_the_bands_of_carbon(explained: Explained) -> None:
    table = explained.table("dependence.parquet")
    assert table is not None
    frame = table.to_pandas()
    carbon = frame[frame.target == "CH"].set_index("element")
    assert carbon["size"].idxmax() == "C"
    assert bool(carbon.loc["C", "is_own"])
    text = report.summary(explained, [])
    assert "CH         changes by" in text
    assert "without C" in text


def test_single_spectra_and_parts_of_the_store_have_tables(explained: Explained, ensemble: Ensemble) -> None:
    single, batches = explained.table("single.parquet"), explained.table("batches.parquet")
    assert single is not None
    assert batches is not None
    assert set(single["group"].to_pylist()) == {"1003", "v1004"}
    assert set(batches["batch"].to_pylist()) == {0, 1, 2, 3}
    assert len(explained.document.targets) == len(targets(ensemble)) == 6


def test_an_explanation_is_made_once(place: Path, explained: Explained) -> None:
    again = explain(settings(place, spectra=["1003", "v1004"]))
    assert not again.created
    assert again.document == explained.document
    with pytest.raises(SettingsError, match=r"was made with other settings: .*blocks"):
        explain(settings(place, spectra=["1003", "v1004"], blocks=16))


def test_many_targets_need_more_pictures_of_each_kind(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(axes: list[int]) -> Any:
        def png(draw: Any, *size: float) -> bytes:
            figure = Figure()
            draw(figure)
            axes.append(sum(bool(axis.get_title()) for axis in figure.axes))
            return b""

        return png

    counts: list[int] = []
    monkeypatch.setattr(explain_plots, "png", drawn(counts))
    monkeypatch.setattr(explain_plots, "MOST_ROWS", 4)
    names = [name for name, _ in explain_plots.draw(explained)]
    panels = dict(zip(names, counts, strict=True))
    assert "dependence" in panels
    for name in ("importance", "trend", "single-1", "single-2"):
        assert (panels[name], panels[f"{name}-2"]) == (4, 2), name
        assert f"{name}-3" not in panels
    assert ("groups" in panels) == ("groups-2" in panels)


def test_occlusion_is_what_a_loop_over_spectra_and_blocks_finds(ensemble: Ensemble, spectra: Spectra) -> None:
    blocks = Blocks.cut(WAVE, 6)
    found_BTK = responses_without(ensemble, spectra, blocks.masks(), Change("occlusion", 0))
    run = ensemble.members.runs[0]
    for block in range(6):
        for row in range(0, 24, 5):
            flux = spectra.flux[row].clone()
            flux[torch.from_numpy(blocks.block_P == block)] = 1
            before, after = (
                run.predict(Spectra(values[None], spectra.ivar[row][None]), "float32")
                for values in (spectra.flux[row], flux)
            )
            wanted = np.concatenate([after[name] - before[name] for name in ("mu", "p")], 1)[0]
            assert np.allclose(found_BTK[row, :, block], wanted, atol=1e-3, rtol=1e-3)


def test_a_permuted_block_is_that_of_another_spectrum_and_each_is_used_once(spectra: Spectra) -> None:
    pixels = np.zeros(len(WAVE), bool)
    pixels[40:50] = True
    changed = Change("permutation", 3).apply(spectra, pixels)
    assert torch.equal(changed.flux[:, ~torch.from_numpy(pixels)], spectra.flux[:, ~torch.from_numpy(pixels)])
    donor = [
        next(row for row in range(24) if torch.equal(changed.flux[here, 40:50], spectra.flux[row, 40:50]))
        for here in range(24)
    ]
    assert sorted(donor) == list(range(24))
    assert all(here != row for here, row in enumerate(donor))


def test_noise_in_place_of_a_block_has_the_size_of_the_errors(spectra: Spectra) -> None:
    pixels = np.ones(len(WAVE), bool)
    changed = Change("noise", 0).apply(spectra, pixels)
    good = spectra.ivar > 0
    deviation = ((changed.flux - 1) * spectra.ivar.sqrt())[good]
    assert float(deviation.std()) == pytest.approx(1, abs=0.05)
    assert bool((changed.flux[~good] == 1).all())


def test_gradients_add_up_to_the_difference_from_the_continuum(ensemble: Ensemble, spectra: Spectra) -> None:
    pixels_BTP = integrated_gradients(ensemble, spectra, 64)
    line = replace(spectra, flux=torch.ones_like(spectra.flux))
    difference_BT = respond(ensemble, spectra) - respond(ensemble, line)
    scale_T = np.abs(difference_BT).max(0)
    assert np.all(np.abs(pixels_BTP.sum(2) - difference_BT) < 0.02 * scale_T + 1e-6)


def test_gradients_are_summed_batch_by_batch(ensemble: Ensemble, spectra: Spectra) -> None:
    blocks, sizes = Blocks.cut(WAVE, 6), []

    def sums(value_BTP: np.ndarray) -> np.ndarray:
        sizes.append(len(value_BTP))
        return blocks.sums(value_BTP)

    found_BTK = integrated_gradients(ensemble, spectra, 2, sums, batch=10)
    assert sizes == [10, 10, 4]
    expected_BTK = blocks.sums(integrated_gradients(ensemble, spectra, 2))
    np.testing.assert_allclose(found_BTK, expected_BTK, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_captum(ensemble: Ensemble, spectra: Spectra) -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    run, few = ensemble.members.runs[0], spectra[slice(0, 6)]
    number = run.labels.index("FeH")

    def feh(flux: torch.Tensor) -> torch.Tensor:
        ivar = few.ivar.repeat(len(flux) // len(few), 1)
        mu: torch.Tensor = run.net(flux, ivar)["mu"][:, number]
        return mu * float(run.scaling.scale_L[number]) + float(run.scaling.center_L[number])

    flux = torch.where(few.ivar > 0, few.flux, 1.0)
    wanted = attr.IntegratedGradients(feh).attribute(
        flux, torch.ones_like(flux), n_steps=64, method="riemann_middle"
    )
    ours = integrated_gradients(ensemble, few, 64)[:, ensemble.labels.index("FeH")]
    assert np.allclose(ours, wanted.numpy(), atol=1e-4, rtol=1e-3)


def test_attention_is_told_where_there_is_some(place: Path) -> None:
    few: dict[str, Any] = {"methods": ["occlusion"], "count": 32, "blocks": 5}
    with_attention = explain(
        settings(place, of=str(place / "bands"), explain=str(place / "attention"), **few)
    )
    table = with_attention.table("attention.parquet")
    assert table is not None
    frame = table.to_pandas()
    assert np.allclose(frame.groupby(["member", "group"])["weight"].sum(), 1)
    assert frame["step"].nunique() == 6
    assert "attention.png" in {path.rpartition("/")[2] for path in report.pictures(with_attention)}


def wrong() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"spectra": ["9999999"]}, "explain: spectra: 9999999: no spectrum of"
    yield {"least_snr": 1e6}, "spectra have a signal to noise of 1e.06 or more, 8 are needed"
    yield {"of": "{place}/nothing"}, "no such folder; give the folder of a finished ensemble or run"


@pytest.mark.parametrize(("values", "message"), list(wrong()), ids=lambda value: str(value)[:30])
def test_what_cannot_be_explained_is_an_error(place: Path, values: dict[str, Any], message: str) -> None:
    given = {
        name: value.format(place=place) if isinstance(value, str) else value for name, value in values.items()
    }
    with pytest.raises((SettingsError, FileNotFoundError), match=message):
        explain(settings(place, explain=str(place / "never"), **given))
    assert not (place / "never" / "explanation.json").exists()


@pytest.mark.parametrize("methods", [["gradients"], ["occlusion", "occlusion"], []])
def test_occlusion_belongs_to_every_explanation(methods: list[str]) -> None:
    with pytest.raises(SettingsError, match="occlusion is not among them, or one is given twice"):
        ExplainSettings.from_dict("explain", {"of": "x", "explain": "y", "methods": methods})


@pytest.mark.parametrize(("count", "batches"), [(8, 2), (16, 4), (31, 7), (32, 8), (1000, 8)])
def test_the_number_of_parts_follows_a_small_count(count: int, batches: int) -> None:
    values = {"of": "x", "explain": "y", "count": count}
    given = ExplainSettings.from_dict("explain", values)
    assert given.batches == batches
    assert ExplainSettings.model_validate(given.model_dump()) == given
    message = f"16 parts of 40 spectra: a part has at least {FEWEST_IN_PART}; give batches=10 or fewer"
    with pytest.raises(SettingsError, match=message):
        ExplainSettings.from_dict("explain", values | {"count": 40, "batches": 16})


def test_trees_have_no_gradients_and_that_is_said(place: Path, tmp_path: Path) -> None:
    small_runs.train(place, "ridge", model="ridge", options={}, task="reg", targets=["FeH"], loss={})
    few = {"count": 32, "blocks": 5}
    result = explain(settings(place, of=str(place / "ridge"), explain=str(tmp_path / "ridge"), **few))
    assert result.document.methods == ("occlusion", "noise", "permutation")
    assert "no gradients: ridge has no gradients" in report.summary(result, [])


def test_a_ratio_of_equal_changes_is_1() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 100)
    assert ratio_interval(values, values, 0) == (1, 1, 1)
    ratio, low, high = ratio_interval(3 * values, values[::-1], 0)
    assert low < ratio < high
    assert ratio == pytest.approx(3)


def test_a_target_that_random_blocks_never_change_passes_the_test_of_strength(explained: Explained) -> None:
    some, none = np.ones(10), np.zeros(10)
    ratio, low, high = ratio_interval(some, none, 0)
    assert (ratio, low, high) == (np.inf, np.inf, np.inf)
    assert np.isnan(ratio_interval(none, none, 0)).all()
    records = [
        record.model_copy(update={"important": important, "random": 0.0, "ratio": np.inf, "low": np.nan})
        for record, important in zip(explained.document.strength, (1.0, 0.0), strict=False)
    ]
    assert [record.holds for record in records] == [True, False]
    document = explained.document.model_copy(update={"strength": tuple(records)})
    text = report.summary(replace(explained, document=document), [])
    assert f"  {records[0].column:<10} 1 K against 0 K\n" in text
    assert "against 0.00 dex: nothing changes, so the test says nothing" in text
    assert "NOT more than by chance" not in text


def test_an_importance_table_names_what_is_in_a_block(explained: Explained) -> None:
    path = Path(explained.folder) / "importance.parquet"
    field = pq.read_schema(path).field("features")
    assert field.metadata[b"description"] == b"lines and bands in the block"
    names = " ".join(pq.ParquetFile(path).read(["features"])["features"].to_pylist())
    assert "CH G band" in names
    assert "H delta" in names


def test_wavelengths_without_any_known_line_are_explained_without_elements(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = tuple(replace(feature, low=feature.low + 11000, high=feature.high + 11000) for feature in FEATURES)
    for module in ("survey.explain.blocks", "survey.explain.features", "survey.reports.explain_plots"):
        monkeypatch.setattr(f"{module}.FEATURES", far)
    result = explain(settings(place, explain=str(tmp_path / "far"), methods=["occlusion"]))
    table = result.table("dependence.parquet")
    assert table is not None
    assert table.num_rows == 0
    assert {target.element for target in result.document.targets} == {""}
    pictures = report.pictures(result)
    assert "dependence.png" not in {path.rpartition("/")[2] for path in pictures}
    text = report.summary(result, pictures)
    assert "follows from" not in text
    assert "what matters, most first" in text


@pytest.mark.parametrize(
    "name", ["spec-1003.fits", "x/spec-1003.fits", "/x/spec-1003.fits", "./x/spec-1003.fits"]
)
def test_a_file_is_found_with_or_without_its_folder(place: Path, name: str) -> None:
    store = open_store(str(place / "store"))
    found, plain = find(store, (name,)), find(store, ("1003",))
    assert found.place_N2.tolist() == plain.place_N2.tolist()
    with pytest.raises(SettingsError, match=r"spectra: y/spec-1003.fits: no spectrum of .* such as "):
        find(store, (name, "y/spec-1003.fits"))
