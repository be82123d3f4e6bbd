"""The whole catalog from predictions: every star once, lists that hold what they promise, and what is asked of a folder that is there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.catalog.catalog import Catalog, Outcome, catalog
from survey.predict import output
from survey.reports import catalog as candidates
from survey.settings import SettingsError
from tests.catalog import mixed_stars, skies

COUNTS = (300, 80, 900)
IRON, CARBON = np.array([-2.0, -2.2, 0.0]), np.array([0.2, 1.4, 0.0])


def survey(folder: Path, classes: bool = True, seed: int = 0, shard: int = 400) -> np.ndarray:
    """Predictions of a sky of stars, some with two visits, and `truth.csv`; the class of each star."""
    random = np.random.default_rng(seed)
    class_S, feature_S2 = mixed_stars.stars(random, COUNTS)
    order = random.permutation(len(class_S))
    class_S, feature_S2 = class_S[order], feature_S2[order]
    ra_S, dec_S = (
        random.uniform(0, 360, len(class_S)),
        np.degrees(np.arcsin(random.uniform(-0.1, 0.9, len(class_S)))),
    )
    star_N = np.concatenate([np.arange(len(class_S)), np.arange(0, len(class_S), 4)])
    table = skies.rows(ra_S[star_N], dec_S[star_N], [f"J{number}" for number in star_N], seed)
    p_NC = mixed_stars.probabilities(feature_S2)[star_N]
    values = {f"p_{name}": p_NC[:, number] for number, name in enumerate(("mp", "cemp", "nmp"))} | {
        "said": p_NC.argmax(1)
    }
    values |= {
        "FeH": (p_NC * IRON).sum(1),
        "CFe": (p_NC * CARBON).sum(1),
        "snr": random.uniform(10, 90, len(p_NC)),
        "domain": np.full(len(p_NC), 0.5),
    }
    for name, array in values.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(
            place, table.schema.field(place), pa.array(array).cast(table.schema.field(place).type)
        )
    if not classes:
        table = table.drop_columns(
            [
                name
                for name in table.column_names
                if name.startswith("p_") or name in ("said", "entropy", "doubt")
            ]
        )
    skies.folder(folder / "said", table, shard)
    described(folder, ["MP", "CEMP", "NMP"] if classes else [])
    validation = mixed_stars.validation((400, 400, 400), seed + 1)
    count = validation.num_rows
    more = {
        "star": [f"v{number}" for number in range(count)],
        "snr": random.uniform(10, 90, count),
        "Teff": random.uniform(4500, 6500, count),
    }
    for name, values_V in more.items():
        validation = validation.append_column(name, pa.array(values_V))
    pq.write_table(validation, folder / "said" / output.VALIDATION)
    lines = [
        f"J{number},{ra:.6f},{dec:.6f},{IRON[c]},{CARBON[c]}"
        for number, (ra, dec, c) in enumerate(zip(ra_S, dec_S, class_S, strict=True))
    ]
    (folder / "truth.csv").write_text("\n".join(["star,ra,dec,FeH,CFe", *lines]) + "\n")
    return class_S


def described(folder: Path, classes: list[str], **more: Any) -> None:
    """What finished predictions say of themselves."""
    note = folder / "said" / output.PREDICTIONS
    about = json.loads(note.read_text()) | {
        "classes": classes,
        "ensemble": {
            "path": "ensemble",
            "id": "e1",
            "about": {"members": [{"name": "one", "model": "prism", "id": "m1", "path": "nowhere"}]},
        },
        "source": {"kind": "store", "path": "store", "id": "s1"},
        **more,
    }
    note.write_text(json.dumps(about))


def made(folder: Path, **given: Any) -> Outcome:
    values = {"predictions": str(folder / "said"), "catalog": str(folder / "catalog"), "rows_per_file": 1000}
    return catalog(Catalog.checked("catalog", values | given))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("catalog")
    survey(folder)
    truth = str(folder / "truth.csv")
    return made(folder, truth=truth, known=[truth], cemp={"goal": "purity", "level": 0.8})


def test_every_star_is_there_once_with_its_visits_combined(outcome: Outcome) -> None:
    table = pq.read_table(Path(outcome.folder) / "hats" / "stars" / "dataset")
    assert table.num_rows == sum(COUNTS) == outcome.about["stars"]
    assert len(set(table["star"].to_pylist())) == sum(COUNTS)
    assert sorted(set(table["n_visits"].to_pylist())) == [1, 2]
    assert sum(table["n_visits"].to_pylist()) == outcome.about["predictions"]["rows"]


def test_the_lists_are_ranked_and_hold_just_the_stars_that_are_marked(outcome: Outcome) -> None:
    everything = pq.read_table(Path(outcome.folder) / "hats" / "stars" / "dataset")
    for kind in ("mp", "cemp"):
        table = outcome.table(f"{kind}_candidates.parquet")
        assert table is not None
        assert table["rank"].to_pylist() == list(range(1, table.num_rows + 1))
        score = table[f"score_{kind}"].to_numpy()
        assert (np.diff(score) <= 0).all()
        assert score.min() >= np.float32(outcome.about["thresholds"][kind.upper()]["value"])
        marked = everything.filter(everything[f"{kind}_candidate"])
        assert set(marked["star"].to_pylist()) == set(table["star"].to_pylist())
        assert set(table["flag_bad"].to_pylist()) == {0}
        assert table.schema.metadata[b"ensemble"] == b"e1"


def test_what_is_expected_of_a_list_is_what_comes_out(outcome: Outcome) -> None:
    """The survey has 23 % metal-poor and 6 % CEMP stars, validation a third of each: the estimated mix makes up for it."""
    compared = outcome.table("truth.parquet")
    assert compared is not None
    for row in compared.to_pylist():
        promised = outcome.about["thresholds"][row["search"]][row["metric"]]
        assert promised["low"] - 0.05 <= row["value"] <= promised["high"] + 0.05, (row, promised)
    purity = next(row for row in compared.to_pylist() if (row["search"], row["metric"]) == ("CEMP", "purity"))
    assert purity["high"] >= 0.8
    told = outcome.about["expected"]["CEMP"]
    assert abs(told["true"] - purity["hits"]) < 5 * told["spread"] + 5


def test_known_stars_are_marked_and_counted(outcome: Outcome) -> None:
    found = outcome.table("known.parquet")
    assert found is not None
    assert found["observed"].to_pylist() == [sum(COUNTS)] * 2
    table = outcome.table("cemp_candidates.parquet")
    assert table is not None
    assert table["known_name"].to_pylist() == table["star"].to_pylist()


def test_the_summary_and_the_plots_tell_what_there_is(outcome: Outcome) -> None:
    pictures = candidates.pictures(outcome)
    assert [Path(path).name for path in pictures] == [
        "purity_completeness.png",
        "selection.png",
        "mp_candidates.png",
        "cemp_candidates.png",
    ]
    assert all(Path(path).stat().st_size > 10_000 for path in pictures)
    told = candidates.summary(outcome, pictures)
    assert f"{sum(COUNTS):,}, 320 with several visits, 0 without a position" in told
    assert "chosen for purity 0.8; expected purity" in told
    assert "CEMP purity" in told


def test_a_catalog_that_is_there_is_left_alone_and_made_anew_when_the_predictions_have_grown(
    tmp_path: Path,
) -> None:
    survey(tmp_path)
    first = made(tmp_path)
    proof = Path(first.folder) / "hats" / "collection.properties"
    before = proof.stat().st_mtime_ns
    again = made(tmp_path)
    assert (first.made, again.made, proof.stat().st_mtime_ns) == (True, False, before)
    assert again.about == first.about
    described(tmp_path, ["MP", "CEMP", "NMP"], id="grown")
    grown = made(tmp_path)
    assert grown.made
    assert grown.about["id"] != first.about["id"]
    assert proof.stat().st_mtime_ns != before


def test_a_catalog_that_was_killed_half_way_is_made_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("survey.catalog.catalog._publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path)
    assert not (tmp_path / "catalog" / "catalog.json").exists()
    assert made(tmp_path).made


def test_without_classes_candidates_are_told_by_parameters(tmp_path: Path) -> None:
    survey(tmp_path, classes=False)
    found = made(tmp_path)
    table = found.table("cemp_candidates.parquet")
    assert table is not None
    assert table.num_rows == found.about["candidates"]["CEMP"] > 0
    assert min(table["CFe"].to_pylist()) >= 0.7
    assert found.about["thresholds"] == {}
    assert "by labels" in candidates.summary(found, candidates.pictures(found))


def test_no_spectrum_at_all_is_an_empty_catalog(tmp_path: Path) -> None:
    skies.folder(tmp_path / "said", skies.rows(np.empty(0), np.empty(0), []))
    described(tmp_path, ["MP", "CEMP", "NMP"], rows=0)
    pq.write_table(
        mixed_stars.validation((40, 40, 40)).append_column(
            "star", pa.array([str(number) for number in range(120)])
        ),
        tmp_path / "said" / "validation.parquet",
    )
    found = made(tmp_path)
    assert found.about["stars"] == 0
    assert found.about["candidates"] == {"MP": 0, "CEMP": 0}
    assert "0 candidates" in candidates.summary(found, candidates.pictures(found))


def test_what_cannot_be_done_is_told_before_any_work(tmp_path: Path) -> None:
    survey(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such file"):
        made(tmp_path, known=[str(tmp_path / "nowhere.csv")])
    assert made(tmp_path).made, "a mistyped path does not spoil the folder"
    with pytest.raises(
        SettingsError,
        match=r"was made with other settings: radius=3\.0 there, 2\.0 now; give these again, or another catalog=",
    ):
        made(tmp_path, radius=2.0)
    (tmp_path / "said" / "validation.parquet").unlink()
    with pytest.raises(
        SettingsError,
        match=r"nothing says how right ensemble is: it has no validation; make an ensemble of it",
    ):
        made(tmp_path, catalog=str(tmp_path / "other"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(SettingsError, match=r"holds thesis\.tex but is no catalog"):
        made(tmp_path, catalog=str(tmp_path / "full"))
    with pytest.raises(FileNotFoundError, match=r"no predictions\.json in it"):
        made(tmp_path, predictions=str(tmp_path / "full"), catalog=str(tmp_path / "third"))
