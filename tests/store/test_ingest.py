"""The ingest: every file once, in stable shards, whatever stops it or changes its input."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from isal import isal_zlib

from survey import checked, files
from survey.reports.ingest import summary
from survey.settings import SettingsError
from survey.spectrum import VISIT_COLUMNS
from survey.store import make as shard_module
from survey.store.ingest import IngestResult, RefusalsError, ingest
from survey.store.manifest import open_manifest
from survey.store.schema import ARRAY_COLUMNS, STORE_COLUMNS, Flag
from survey.store.settings import Ingest
from survey.store.store import open_store
from tests import survey_files

COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
"""A grid of 451 points: the tests are about files and rows, not about pixels."""


def settings(folder: Path, **changes: Any) -> Ingest:
    values = {
        "input": str(folder / "in"),
        "store": str(folder / "store"),
        "shard": 4,
        "refuse_above": 1.0,
        "prepare": COARSE,
    }
    return Ingest.from_dict("ingest", values | changes)


def ingested(folder: Path, numbers: range = range(10), broken: bool = True, **changes: Any) -> IngestResult:
    survey_files.write(folder / "in", numbers, broken)
    return ingest(settings(folder, **changes))


def contents(store: Path, *kinds: str) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file of a store, or of these of its folders."""
    found = [path for kind in kinds or (".",) for path in sorted((store / kind).rglob("*")) if path.is_file()]
    return {str(path.relative_to(store)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def texts(store: Path, *kinds: str) -> dict[str, bytes]:
    return {name: data for name, (data, _) in contents(store, *kinds).items()}


def rows(store: Path, kind: str = "spectra") -> pd.DataFrame:
    tables = [
        pq.read_table(path).replace_schema_metadata() for path in sorted((store / kind).glob("*.parquet"))
    ]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def stacked(column: "pd.Series[Any]") -> np.ndarray:
    """A column of lists as an array with two dimensions."""
    return np.stack(column.to_list())


def touch(path: Path, data: bytes) -> None:
    """Another content and a later time."""
    before = path.stat().st_mtime
    path.write_bytes(data)
    os.utime(path, (before + 100, before + 100))


def dying(after: int) -> Callable[..., Iterator[dict[str, Any]]]:
    """A `map` that is killed after so many results, as far as a function can be."""

    def run(function: Callable[[int], dict[str, Any]], items: Iterable[int]) -> Iterator[dict[str, Any]]:
        for number, item in enumerate(items):
            if number == after:
                raise KeyboardInterrupt
            yield function(item)

    return run


def test_every_file_is_written_or_refused_exactly_once(tmp_path: Path) -> None:
    result = ingested(tmp_path)
    spectra, refused = rows(tmp_path / "store"), rows(tmp_path / "store", "refused")
    assert (result.document.files, result.document.rows_in, result.document.written) == (13, 13, 10)
    assert result.document.refused == {"empty": 1, "not_fits": 1, "bad_gzip": 1}
    assert sorted([*spectra["path"], *refused["path"]]) == sorted(
        str(path) for path in (tmp_path / "in").iterdir()
    )
    assert dict(zip(refused["path"].map(os.path.basename), refused["reason"], strict=True)) == {
        "broken-0.fits": "empty",
        "broken-1.fits": "not_fits",
        "broken-2.fits.gz": "bad_gzip",
    }


def test_rows_are_in_the_order_of_the_file_names_and_hold_the_values_of_the_files(tmp_path: Path) -> None:
    ingested(tmp_path)
    spectra = rows(tmp_path / "store")
    assert spectra["path"].is_monotonic_increasing
    assert spectra["obsid"].tolist() == [1000 + number for number in range(10)]
    assert spectra["visit"].is_unique
    assert set(spectra["survey"]) == {"lamost-lrs"}
    assert spectra["ra"].tolist() == [10.0 + number for number in range(10)]
    assert [*spectra.columns] == [
        "path",
        "row",
        "crc",
        *VISIT_COLUMNS,
        *list(STORE_COLUMNS)[3:],
        "flux",
        "ivar",
    ]
    data = (tmp_path / "in" / survey_files.name(4)).read_bytes()
    assert spectra["crc"][4] == isal_zlib.crc32(data)


def test_flux_of_the_store_times_continuum_and_scale_is_the_flux_of_the_file(tmp_path: Path) -> None:
    ingested(tmp_path, range(3), broken=False, prepare=COARSE | {"continuum": "dual", "velocity": "none"})
    spectra = rows(tmp_path / "store")
    wave = 4000.0 + 10.0 * np.arange(451)
    for number in range(3):
        raw = survey_files.spectrum(number)
        good = spectra["ivar"][number] > 0
        again = spectra["flux"][number] * spectra["continuum"][number] * spectra["flux_scale"][number]
        off = np.abs(again / np.interp(wave, raw[2], raw[0]) - 1)[good]
        assert good.mean() > 0.9
        assert np.median(off) < 0.02  # linear resampling of noise of 2 %


def test_a_second_run_changes_no_file(tmp_path: Path) -> None:
    first = ingested(tmp_path)
    before = contents(tmp_path / "store")
    second = ingest(settings(tmp_path))
    assert contents(tmp_path / "store") == before
    assert (second.created, second.document.written, second.document.refused) == (
        0,
        first.document.written,
        first.document.refused,
    )


def test_the_same_input_gives_the_same_bytes_in_another_store(tmp_path: Path) -> None:
    ingested(tmp_path)
    ingest(settings(tmp_path, store=str(tmp_path / "other")))
    kinds = ("spectra", "refused", "markers")
    assert texts(tmp_path / "store", *kinds) == texts(tmp_path / "other", *kinds)
    assert open_store(str(tmp_path / "store")).document == open_store(str(tmp_path / "other")).document


def test_a_damaged_file_leaves_the_other_rows_of_its_shard_as_they_were(tmp_path: Path) -> None:
    ingested(tmp_path, broken=False)
    survey_files.write(tmp_path / "hurt", range(10))
    (tmp_path / "hurt" / survey_files.name(5)).write_bytes(survey_files.file(5)[:9000])
    ingest(settings(tmp_path, input=str(tmp_path / "hurt"), store=str(tmp_path / "store-2")))
    sound, hurt = (
        rows(tmp_path / "store").drop(columns="path"),
        rows(tmp_path / "store-2").drop(columns="path"),
    )
    sound = sound.drop(index=5).reset_index(drop=True)
    # the batch may change a float32's last bit, and so a rounding to 14 or 7 bits
    for name, tolerance in (("flux", 2e-4), ("ivar", 1e-2)):
        np.testing.assert_allclose(stacked(sound.pop(name)), stacked(hurt.pop(name)), rtol=tolerance)
    pd.testing.assert_frame_equal(sound, hurt)
    assert rows(tmp_path / "store-2", "refused")["reason"].tolist() == ["truncated"]


def test_a_file_that_vanishes_between_listing_and_reading_is_refused_as_missing(tmp_path: Path) -> None:
    ingested(tmp_path, range(4), broken=False)
    (tmp_path / "in" / survey_files.name(1)).unlink()
    for path in (tmp_path / "store" / "markers").iterdir():
        path.unlink()
    result = ingest(settings(tmp_path))
    assert (result.document.written, result.document.refused, result.plan.vanished) == (3, {"missing": 1}, 1)


def _gone(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("harm", [_gone, _cut])
@pytest.mark.parametrize("kind", ["spectra", "refused", "markers"])
def test_only_shards_with_a_missing_or_cut_file_are_made_again(
    tmp_path: Path, kind: str, harm: Callable[[Path], None]
) -> None:
    ingested(tmp_path)
    store = tmp_path / "store"
    before = contents(store)
    hurt = sorted((store / kind).iterdir())[1]
    harm(hurt)
    result = ingest(settings(tmp_path))
    after = contents(store)
    assert result.created == 1
    assert {name: data for name, (data, _) in after.items()} == {
        name: data for name, (data, _) in before.items()
    }
    changed = {name for name in after if after[name][1] != before[name][1] and "part-" in name}
    assert changed == {
        f"{folder}/part-00001.{'json' if folder == 'markers' else 'parquet'}"
        for folder in ("spectra", "refused", "markers")
    }


def test_a_run_that_was_stopped_half_way_is_completed_by_the_next(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(10), broken=True)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings(tmp_path), dying(2))
    half = contents(tmp_path / "store", "spectra")
    assert len(half) == 2
    assert not (tmp_path / "store" / "store.json").exists()
    result = ingest(settings(tmp_path))
    assert (result.created, result.document.shards) == (2, 4)
    assert {
        name: file for name, file in contents(tmp_path / "store", "spectra").items() if name in half
    } == half
    ingest(settings(tmp_path, store=str(tmp_path / "fresh")))
    kinds = ("spectra", "refused", "markers", "store.json")
    assert texts(tmp_path / "store", *kinds) == texts(tmp_path / "fresh", *kinds)


def test_a_run_that_loses_shards_does_not_finish_the_store(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(10))
    with pytest.raises(RuntimeError, match="2 of 3 shards"):
        ingest(settings(tmp_path), lambda function, shards: map(function, list(shards)[:2]))
    assert not (tmp_path / "store" / "store.json").exists()


def test_a_store_is_opened_only_when_it_is_finished(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(10))
    with pytest.raises(KeyboardInterrupt):
        ingest(settings(tmp_path), dying(1))
    with pytest.raises(
        FileNotFoundError, match=r"no store\.json in it, so no finished store; run survey ingest"
    ):
        open_store(str(tmp_path / "store"))
    ingest(settings(tmp_path))
    store = open_store(str(tmp_path / "store"))
    assert sum(table.num_rows for table in store.tables(["visit"])) == 10


def test_a_store_is_unfinished_while_a_part_of_it_is_made_again(tmp_path: Path) -> None:
    ingested(tmp_path)
    (tmp_path / "store" / "spectra" / "part-00000.parquet").unlink()
    with pytest.raises(KeyboardInterrupt):
        ingest(settings(tmp_path), dying(0))
    with pytest.raises(FileNotFoundError):
        open_store(str(tmp_path / "store"))


def test_other_settings_are_refused_with_key_old_and_new_value(tmp_path: Path) -> None:
    ingested(tmp_path)
    before = contents(tmp_path / "store")
    with pytest.raises(SettingsError) as caught:
        ingest(settings(tmp_path, shard=5, prepare=COARSE | {"masks": "or"}, bits={"flux": 20}))
    message = str(caught.value)
    assert message.startswith(f"ingest: store: {tmp_path / 'store'}: was made with other settings: ")
    for part in (
        "shard=4 there, 5 now",
        "prepare.masks=and there, or now",
        "bits.flux=14 there, 20 now",
        "or another store=",
    ):
        assert part in message
    assert contents(tmp_path / "store") == before


def test_settings_that_change_no_row_may_differ(tmp_path: Path) -> None:
    ingested(tmp_path)
    before = contents(tmp_path / "store")
    ingest(settings(tmp_path, refuse_above=0.9, workers=1, preview=0, compare="size"))
    assert contents(tmp_path / "store") == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(2))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("x")
    with pytest.raises(
        SettingsError, match=r"store: .*holds thesis\.tex but is no store; give an empty or a new folder"
    ):
        ingest(settings(tmp_path))
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.tex"]


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    ingested(tmp_path)
    path = tmp_path / "store" / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 0}))
    with pytest.raises(SettingsError, match="a store of version 0, this code reads version 4; make it again"):
        ingest(settings(tmp_path))


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    ingested(tmp_path)
    (tmp_path / "store" / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json: damaged .*; put a copy back"):
        ingest(settings(tmp_path))


def test_a_second_night_adds_shards_and_leaves_the_old_ones_alone(tmp_path: Path) -> None:
    ingested(tmp_path, range(8))
    old = contents(tmp_path / "store", "spectra", "refused", "markers")
    before = open_store(str(tmp_path / "store")).document
    survey_files.write(tmp_path / "in", range(8, 15))
    result = ingest(settings(tmp_path))
    new = contents(tmp_path / "store", "spectra", "refused", "markers")
    assert (result.created, result.plan.new_rows, result.document.shards) == (2, 7, 5)
    assert {name: file for name, file in new.items() if name in old} == old
    grown = open_store(str(tmp_path / "store")).document
    assert grown.id != before.id
    assert (grown.files, grown.written, before.files) == (18, 15, 11)
    assert sorted(rows(tmp_path / "store")["obsid"]) == [1000 + number for number in range(15)]


def test_a_store_may_be_read_while_it_grows(tmp_path: Path) -> None:
    ingested(tmp_path, range(8))
    before = open_store(str(tmp_path / "store"))
    survey_files.write(tmp_path / "in", range(8, 15))
    with pytest.raises(KeyboardInterrupt):
        ingest(settings(tmp_path), dying(1))
    assert open_store(str(tmp_path / "store")).document == before.document


def test_a_second_folder_may_be_added_to_a_store(tmp_path: Path) -> None:
    ingested(tmp_path, range(4), broken=False)
    survey_files.write(tmp_path / "more", range(4, 6))
    result = ingest(settings(tmp_path, input=str(tmp_path / "more")))
    assert (result.created, result.document.written, result.plan.vanished) == (1, 6, 0)


def test_changed_files_are_reported_and_not_read_again(tmp_path: Path) -> None:
    ingested(tmp_path)
    before = contents(tmp_path / "store")
    touch(tmp_path / "in" / survey_files.name(4), survey_files.file(44))
    result = ingest(settings(tmp_path))
    assert (result.plan.changed, result.plan.examples, result.created) == (
        1,
        (str(tmp_path / "in" / survey_files.name(4)),),
        0,
    )
    assert contents(tmp_path / "store") == before


def reread_like_a_fresh_store(tmp_path: Path) -> None:
    ingest(settings(tmp_path, store=str(tmp_path / "fresh")))
    assert texts(tmp_path / "store", "spectra", "refused", "store.json") == texts(
        tmp_path / "fresh", "spectra", "refused", "store.json"
    )


def test_reread_makes_the_shards_of_changed_files_again(tmp_path: Path) -> None:
    ingested(tmp_path)
    before = contents(tmp_path / "store", "spectra", "refused", "markers")
    touch(tmp_path / "in" / survey_files.name(0), survey_files.file(40))
    result = ingest(settings(tmp_path, reread=True))
    after = contents(tmp_path / "store", "spectra", "refused", "markers")
    assert (result.created, result.plan.redo) == (1, (0,))
    assert {name for name in after if after[name] != before[name]} == {
        name for name in before if "part-00000" in name
    }
    reread_like_a_fresh_store(tmp_path)
    assert ingest(settings(tmp_path, reread=True)).created == 0


def test_reread_reads_missing_files_when_they_exist(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(10), broken=False)
    catalogue = tmp_path / "catalogue.csv"
    catalogue.write_text(
        "obsid,file\n" + "".join(f"{number},in/{survey_files.name(number)}\n" for number in range(10))
    )
    away = tmp_path / "in" / survey_files.name(5)
    away.rename(tmp_path / "away")
    result = ingest(settings(tmp_path, input=str(catalogue)))
    assert result.document.refused == {"missing": 1}
    assert ingest(settings(tmp_path, input=str(catalogue), reread=True)).created == 0
    (tmp_path / "away").rename(away)
    assert ingest(settings(tmp_path, input=str(catalogue))).document.refused == {"missing": 1}
    healed = ingest(settings(tmp_path, input=str(catalogue), reread=True))
    assert (healed.created, healed.document.refused, healed.document.written) == (1, {}, 10)


@pytest.mark.parametrize("reread", [True, False])
def test_the_next_run_completes_a_store_killed_after_the_manifest_was_updated(
    tmp_path: Path, reread: bool
) -> None:
    ingested(tmp_path)
    touch(tmp_path / "in" / survey_files.name(0), survey_files.file(40))
    with pytest.raises(KeyboardInterrupt):
        ingest(settings(tmp_path, reread=True), dying(0))
    result = ingest(settings(tmp_path, reread=reread))
    assert (result.created, result.plan.redo) == (1, ())
    reread_like_a_fresh_store(tmp_path)


def test_a_change_that_keeps_size_and_time_is_found_by_content(tmp_path: Path) -> None:
    ingested(tmp_path)
    path = tmp_path / "in" / survey_files.name(4)
    facts = path.stat()
    path.write_bytes(survey_files.file(44))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    assert ingest(settings(tmp_path)).plan.changed == 0
    result = ingest(settings(tmp_path, compare="hash", reread=True))
    assert (result.plan.compared, result.plan.changed, result.plan.redo) == (13, 1, (1,))
    reread_like_a_fresh_store(tmp_path)
    assert ingest(settings(tmp_path, compare="hash", reread=True)).plan.changed == 0


def test_too_many_refusals_fail_the_job_after_everything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RefusalsError) as caught:
        ingested(tmp_path, refuse_above=0.05)
    message = str(caught.value)
    assert (
        "the store is complete, but 3 of 13 rows (23.1%) were refused, more than refuse_above=0.05 allows"
        in message
    )
    assert f"empty 1, such as {tmp_path}/in/" in message
    assert "broken-0.fits: no bytes" in message
    assert "then correct the input or give refuse_above=0.25" in message
    assert (
        "rows of a wrong input stay in the store: forget=missing takes out those whose files are" in message
    )
    assert open_store(str(tmp_path / "store")).document.written == 10
    before = contents(tmp_path / "store")
    with pytest.raises(RefusalsError):
        ingest(settings(tmp_path, refuse_above=0.05))
    assert ingest(settings(tmp_path, refuse_above=0.25)).created == 0
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ["lamots"]}, "ingest: sources: there is no source 'lamots'; did you mean lamost?"),
        ({"options": {"lamots": {}}}, "there is no source 'lamots'"),
        ({"options": {"lamost": {"mrs": "both"}}}, "ingest: options.lamost.mrs: 'both'"),
        (
            {"options": {"lamost": {"msr": "single"}}},
            "ingest: options.lamost.msr: unknown setting (value 'single'); did you mean options.lamost.mrs?",
        ),
    ],
)
def test_an_unknown_source_or_option_fails_before_any_work(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        ingested(tmp_path, **changes)
    assert message in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_markers_hold_the_sizes_and_checksums_of_the_files(tmp_path: Path) -> None:
    ingested(tmp_path)
    store = tmp_path / "store"
    shards = pq.read_table(store / "shards.parquet").to_pylist()
    for number, path in enumerate(sorted((store / "markers").iterdir())):
        marker = checked.read_json(str(path), "")
        for kind, key in (("spectra", "spectra"), ("refused", "refused_files")):
            data = (store / kind / f"part-{number:05d}.parquet").read_bytes()
            assert marker[key] == {"size": len(data), "crc": isal_zlib.crc32(data)}
        assert marker["shard"] == number
        assert (
            marker["written"] == pq.read_metadata(store / "spectra" / f"part-{number:05d}.parquet").num_rows
        )
        assert marker["rows_in"] == marker["files"] == marker["written"] + sum(marker["refused"].values())
        as_text = {name: json.dumps(marker[name]) for name in ("refused", "flagged")}
        assert shards[number] == marker | as_text


READERS = """
import sys, json
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "survey"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Forbidden())
import duckdb, numpy as np, pandas as pd, pyarrow.parquet as pq
folder = sys.argv[1] + "/spectra"
arrow = pq.read_table(folder)
plain = np.asarray(arrow["flux"].combine_chunks().flatten()).reshape(arrow.num_rows, -1)
panda = np.stack(pd.read_parquet(folder)["flux"].to_numpy())
names = [row[0] for row in duckdb.sql(f"select obsid from '{folder}/*.parquet' order by path").fetchall()]
rows = duckdb.sql(f"select flux from '{folder}/*.parquet' order by path").fetchall()
duck = np.array([row[0] for row in rows], np.float32)
assert arrow["obsid"].to_pylist() == names
assert np.array_equal(plain, panda) and np.array_equal(plain, duck)
query = f"select count(*), avg(snr) from '{folder}/*.parquet' where ivar[200] > 0"
((count, snr),) = duckdb.sql(query).fetchall()
kind = str(arrow.schema.field("flux").type)
total = float(plain.astype(float).sum())
print(json.dumps({"shape": plain.shape, "sum": total, "count": count, "snr": snr, "kind": kind}))
"""


def test_pyarrow_pandas_and_duckdb_read_a_store_without_ray(tmp_path: Path) -> None:
    ingested(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", READERS, str(tmp_path / "store")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    flux = stacked(rows(tmp_path / "store")["flux"])
    assert found["shape"] == [10, 451]
    assert found["sum"] == flux.astype(float).sum()
    assert found["kind"].startswith("fixed_size_list<")
    assert found["count"] > 0
    assert found["snr"] > 3


def test_the_flags_are_counted_and_the_summary_explains_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(1)
    np.save(tmp_path / "in" / "X.npy", (1 + draw.normal(0, 0.05, (6, 3909))).astype(np.float32))
    result = ingest(settings(tmp_path, options={"arrays": {"grid": "lamost3909"}}))
    flags = rows(tmp_path / "store")["flags"].to_numpy()
    expected = {
        str(flag.name).lower(): int(((flags & flag) > 0).sum()) for flag in Flag if (flags & flag).any()
    }
    assert result.document.flagged == expected == {"no_velocity": 6, "no_obsid": 6, "noise_estimated": 6}
    text = summary(result)
    assert "6  noise_estimated: the file gives no errors: ivar and S/N are estimated from the flux" in text
    assert "give prepare.velocity=rest if the spectra are in the rest frame already" in text


@pytest.mark.parametrize("scale", [1.0, 3000.0])
def test_spectra_without_errors_get_the_signal_to_noise_of_their_flux(tmp_path: Path, scale: float) -> None:
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(2)
    ratio = np.array([8.0, 20.0, 40.0, 80.0])
    flux = scale * (1 + draw.normal(0, 1, (4, 3909)) / ratio[:, None])
    np.save(tmp_path / "in" / "X.npy", flux)
    prepare = COARSE | {
        "velocity": "rest",
        "grid": {"start": 3.6, "stop": 3.94, "step": 1e-4, "scale": "log"},
    }
    ingest(settings(tmp_path, options={"arrays": {"grid": "lamost3909"}}, prepare=prepare))
    spectra = rows(tmp_path / "store")
    on_grid = np.sqrt(1.5)  # a straight line between two pixels has less noise than either
    np.testing.assert_allclose(spectra["snr"] / on_grid, ratio, rtol=0.25)
    assert not (spectra["flags"] & int(Flag.LOW_SNR | Flag.NO_VELOCITY)).any()


def test_an_array_of_spectra_with_labels_becomes_rows(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    flux = np.stack([survey_files.spectrum(number)[0] for number in range(6)])
    flux[2] = np.nan
    np.save(tmp_path / "in" / "X.npy", flux)
    labels = "obsid,ra,dec,class\n" + "".join(f"{2000 + number},{number},-5,STAR\n" for number in range(6))
    (tmp_path / "in" / "y.csv").write_text(labels)
    result = ingest(settings(tmp_path, options={"arrays": {"grid": "lamost3909"}}))
    spectra, refused = rows(tmp_path / "store"), rows(tmp_path / "store", "refused")
    assert (result.document.rows_in, result.document.written, result.document.shards) == (6, 5, 2)
    assert spectra["row"].tolist() == [0, 1, 3, 4, 5]
    assert spectra["obsid"].tolist() == [2000, 2001, 2003, 2004, 2005]
    assert refused["row"].tolist() == [2]
    before = contents(tmp_path / "store")
    assert ingest(settings(tmp_path, options={"arrays": {"grid": "lamost3909"}})).created == 0
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("columns", "values", "shift", "is_noted"),
    [
        ("z", "16.5", "z=16.5 (column redshift or z of the catalogue)", False),
        ("redshift,z", "15,0.1", "z=15 (column redshift or z of the catalogue)", False),
        ("rv", "-99000", "rv=-99000 km/s (column rv of the catalogue)", False),
        ("u,g,r,i,z", "19,18,17,17,16.5", "", True),
        ("u,g,r,i,z,redshift", "19,18,17,17,16.5,0.01", "", True),
    ],
)
def test_a_coverage_refusal_names_the_shift_and_a_magnitude_z_is_none(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    columns: str,
    values: str,
    shift: str,
    is_noted: bool,
) -> None:
    (tmp_path / "in").mkdir()
    lines = [f"{wave} {1 + wave % 7 / 100} 0.02" for wave in range(3900, 9000, 4)]
    (tmp_path / "in" / "a.txt").write_text("\n".join(lines))
    (tmp_path / "in" / "c.csv").write_text(f"file,ra,dec,{columns}\na.txt,10,5,{values}\n")
    ingest(settings(tmp_path, input=str(tmp_path / "in" / "c.csv"), sources=["ascii"]))
    refused = rows(tmp_path / "store", "refused")
    assert len(refused) == bool(shift)
    if shift:
        assert refused["reason"][0] == "coverage"
        assert refused["detail"][0].endswith(f", after the shift by {shift}")
    notes = [record.getMessage() for record in caplog.records]
    assert [": column z: taken as a magnitude, because" in note for note in notes] == [True] * is_noted


def test_wavelengths_that_are_guessed_are_logged_once_and_are_in_the_summary(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("X1", "X2"):
        np.save(tmp_path / "in" / f"{name}.npy", np.ones((1, 4900), "f4"))
    result = ingest(settings(tmp_path))
    note = (
        f"{tmp_path}/in/X1.npy: wavelengths: taken as cemp4900, because it has 4900 points; "
        "give options.arrays.grid= if that is wrong"
    )
    assert [record.getMessage() for record in caplog.records] == [note]
    assert f"\nassumed    {note}\n" in summary(result)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sources": ["ascii"]}, "wavelengths of ascii were taken as in vacuum (options.ascii.medium=)"),
        (
            {"sources": ["ascii"], "options": {"ascii": {"medium": "air"}}},
            "wavelengths of ascii were taken as in air (options.ascii.medium=)",
        ),
        (
            {"sources": ["arrays"]},
            "wavelengths of arrays were taken as in vacuum; convert those in air before",
        ),
    ],
)
def test_the_medium_of_wavelengths_that_was_assumed_is_in_the_summary(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "X.npy", np.ones((1, 4900), "f4"))
    np.savetxt(tmp_path / "in" / "a.txt", np.stack([np.linspace(3800, 9000, 600), np.ones(600)], 1))
    assert f"\nmedium     {line}\n" in summary(ingest(settings(tmp_path, **changes)))


def test_a_catalogue_names_the_files_and_gives_velocities(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "files", range(3))
    lines = [f"{survey_files.name(number)},{100.0 * number},star-{number}" for number in range(3)] + [
        "nowhere.fits,0,x",
        ",0,y",
    ]
    (tmp_path / "catalogue.csv").write_text("filename,rv,source_id\n" + "\n".join(lines) + "\n")
    result = ingest(settings(tmp_path, input=str(tmp_path / "catalogue.csv"), files=str(tmp_path / "files")))
    spectra, refused = rows(tmp_path / "store"), rows(tmp_path / "store", "refused")
    assert spectra["velocity"].tolist() == [0.0, 100.0, 200.0]
    assert spectra["star"].tolist() == ["star-0", "star-1", "star-2"]
    assert refused["reason"].tolist() == ["missing", "missing"]
    assert refused["path"].iloc[1] == f"{tmp_path / 'catalogue.csv'}#row-5"
    assert (result.document.rows_in, result.plan.nameless) == (5, 1)


def catalogue_of(folder: Path, numbers: range) -> Path:
    """A catalogue that names its files by the columns of LAMOST's own catalogues."""
    lines = [f"{1000 + number}|55859|TEST01|1|{1 + number}" for number in numbers]
    path = folder / "catalogue.csv"
    path.write_text("\n".join(["obsid|lmjd|planid|spid|fiberid", *lines]) + "\n")
    return path


def test_the_files_of_a_catalogue_may_lie_flat_in_one_folder(tmp_path: Path) -> None:
    flat = survey_files.write(tmp_path / "flat", range(6))
    nested = survey_files.write(tmp_path / "nested" / "TEST01", range(6)).parent
    table = catalogue_of(tmp_path, range(6))
    for folder, store in ((flat, "one"), (nested, "two")):
        made = ingest(settings(tmp_path, input=str(table), files=str(folder), store=str(tmp_path / store)))
        assert (made.document.written, made.document.refused) == (6, {})
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert one["obsid"].tolist() == two["obsid"].tolist() == [1000 + number for number in range(6)]


def test_too_many_missing_files_are_an_error_that_names_two_of_them_and_says_what_to_give(
    tmp_path: Path,
) -> None:
    table = catalogue_of(tmp_path, range(6))
    with pytest.raises(RefusalsError) as caught:
        ingest(settings(tmp_path, input=str(table), files=str(tmp_path / "wrong"), refuse_above=0.5))
    message, first = str(caught.value), tmp_path / "wrong" / "TEST01"
    assert (
        f"{first}/spec-55859-TEST01_sp01-001.fits.gz and {first}/spec-55859-TEST01_sp01-002.fits.gz"
        in message
    )
    assert "give files= with their folder, and with it forget=missing, which takes out these rows" in message
    right = survey_files.write(tmp_path / "right", range(6))
    with pytest.raises(RefusalsError, match="the input does not name them any more: give forget=missing"):
        ingest(settings(tmp_path, input=str(table), files=str(right), refuse_above=0.4))


def test_the_rows_of_a_wrong_attempt_are_taken_out_and_the_rest_stays(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(5))
    ingest(settings(tmp_path))
    table, right = catalogue_of(tmp_path, range(5, 12)), survey_files.write(tmp_path / "right", range(5, 12))
    ingest(settings(tmp_path, input=str(table), files=str(tmp_path / "wrong")))
    before = texts(tmp_path / "store", "spectra")
    mixed = ingest(settings(tmp_path, input=str(table), files=str(right)))
    assert (mixed.document.written, mixed.document.refused, mixed.plan.vanished) == (12, {"missing": 7}, 7)
    result = ingest(settings(tmp_path, input=str(table), files=str(right), forget="missing"))
    assert (result.document.written, result.document.refused) == (12, {})
    assert (result.document.rows_in, result.plan.rows, result.plan.forgotten) == (12, 12, 7)
    after = texts(tmp_path / "store", "spectra")
    assert all(
        after[name] == before[name] for name in ("spectra/part-00000.parquet", "spectra/part-00001.parquet")
    )
    assert sorted(rows(tmp_path / "store")["obsid"]) == [1000 + number for number in range(12)]
    again = ingest(settings(tmp_path, input=str(table), files=str(right), forget="missing"))
    assert (again.created, again.plan.forgotten, again.plan.vanished) == (0, 0, 0)


def test_missing_files_that_the_input_still_names_are_not_forgotten(tmp_path: Path) -> None:
    table, folder = catalogue_of(tmp_path, range(6)), survey_files.write(tmp_path / "in", range(4))
    for _ in range(2):
        result = ingest(settings(tmp_path, input=str(table), files=str(folder), forget="missing"))
        assert (result.document.written, result.document.refused) == (4, {"missing": 2})
        assert result.plan.forgotten == 0


def test_a_store_that_was_killed_after_rows_were_taken_out_is_completed(tmp_path: Path) -> None:
    table, right = catalogue_of(tmp_path, range(6)), survey_files.write(tmp_path / "right", range(6))
    ingest(settings(tmp_path, input=str(table), files=str(tmp_path / "wrong")))
    with pytest.raises(KeyboardInterrupt):
        ingest(settings(tmp_path, input=str(table), files=str(right), forget="missing"), dying(1))
    result = ingest(settings(tmp_path, input=str(table), files=str(right)))
    assert (result.document.written, result.document.refused) == (6, {})


def test_a_relative_store_and_one_in_the_home_folder_mean_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    survey_files.write(tmp_path / "in", range(2))
    ingest(settings(tmp_path, input="in", store="one"))
    ingest(settings(tmp_path, input="~/in", store="~/two"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "one", "two"]
    assert texts(tmp_path / "one", "spectra", "store.json") == texts(
        tmp_path / "two", "spectra", "store.json"
    )


def test_a_store_inside_its_input_is_not_its_own_input(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(2))
    store = str(tmp_path / "in" / "store")
    ingest(settings(tmp_path, store=store))
    assert ingest(settings(tmp_path, store=store)).document.rows_in == 2


def test_a_store_of_another_name_inside_the_input_is_not_read(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(3))
    ingest(settings(tmp_path, store=str(tmp_path / "in" / "old" / "store")))
    result = ingest(settings(tmp_path))
    assert result.document.rows_in == 3
    assert "other files ignored (such as old/store/" in str(result.plan)


def test_the_size_of_slices_does_not_change_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingested(tmp_path)
    monkeypatch.setattr(shard_module, "SLICE", 2)
    ingest(settings(tmp_path, store=str(tmp_path / "other")))
    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "other"))
    pd.testing.assert_frame_equal(rows(tmp_path / "store", "refused"), rows(tmp_path / "other", "refused"))


def test_the_error_of_rounding_is_as_promised(tmp_path: Path) -> None:
    ingested(tmp_path, range(4), broken=False)
    ingest(settings(tmp_path, store=str(tmp_path / "exact"), bits={"flux": 23, "ivar": 23}))
    for name, bits in (("flux", 14), ("ivar", 7)):
        kept, exact = (stacked(rows(tmp_path / store)[name]).astype(float) for store in ("store", "exact"))
        assert np.array_equal(kept == 0, exact == 0)
        assert np.abs(kept / np.where(exact == 0, 1, exact) - 1)[exact != 0].max() <= 2.0 ** -(bits + 1)


def test_the_schema_describes_every_column(tmp_path: Path) -> None:
    ingested(tmp_path, range(2), broken=False)
    schema = pq.read_schema(tmp_path / "store" / "spectra" / "part-00000.parquet")
    assert all(
        schema.field(name).metadata[b"description"]
        for name in (*STORE_COLUMNS, *VISIT_COLUMNS, "flux", "ivar")
    )
    assert json.loads(schema.metadata[b"grid"])["points"] == 451
    assert schema.field("ivar").metadata[b"description"].decode() == ARRAY_COLUMNS["ivar"]


def test_files_of_every_layout_of_real_surveys_are_ingested(tmp_path: Path, shared: Path) -> None:
    folders = [
        shared / "lamost" / name for name in ("lrs_image", "lrs_table", "lrs_image_subcont", "mrs")
    ] + [
        shared / "sdss" / "spec",
        shared / "sdss" / "sky",
    ]
    (tmp_path / "in").mkdir()
    for folder in folders:
        for path in sorted(folder.iterdir())[:8]:
            (tmp_path / "in" / f"{folder.name}-{path.name}").symlink_to(path)
    result = ingest(settings(tmp_path, shard=16, options={"lamost": {"mrs": "single"}}))
    spectra, refused = rows(tmp_path / "store"), rows(tmp_path / "store", "refused")
    seen = {name.rpartition("/")[2].partition("-")[0] for name in [*spectra["path"], *refused["path"]]}
    assert seen == {folder.name for folder in folders}
    assert (
        result.document.rows_in == len(spectra) + len(refused) > result.document.files
    )  # a medium-resolution file holds several exposures
    assert {"lrs_image", "lrs_table", "lrs_image_subcont"} <= set(spectra["layout"])
    sky = refused[refused["path"].str.contains("/sky-")]
    assert set(sky["reason"]) == {"no_object"}


def test_a_shard_may_consist_of_refused_files_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, data in survey_files.BROKEN.items():
        (tmp_path / "in" / name).write_bytes(data)
    result = ingest(settings(tmp_path, shard=2))
    assert (result.document.shards, result.document.written, result.document.rows_in) == (2, 0, 3)
    store = open_store(str(tmp_path / "store"))
    assert [store.spectra(number).num_rows for number in range(2)] == [0, 0]
    assert [store.refused(number).num_rows for number in range(2)] == [2, 1]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SettingsError, match=r"in: holds no spectrum at all; give a folder with files \.fits"):
        ingest(settings(tmp_path))


def test_the_manifest_and_the_store_agree_on_every_file(tmp_path: Path) -> None:
    ingested(tmp_path)
    listed = open_manifest(str(tmp_path / "store"))
    for number in range(listed.shards):
        here = {
            path
            for kind in ("spectra", "refused")
            for path in pq.read_table(tmp_path / "store" / kind / f"part-{number:05d}.parquet")[
                "path"
            ].to_pylist()
        }
        assert here == set(listed.shard(number)["path"].to_pylist())


def test_unfinished_writes_are_not_part_of_a_store(tmp_path: Path) -> None:
    ingested(tmp_path)
    (tmp_path / "store" / "spectra" / ".part-00000.parquet.1-abcd.tmp").write_bytes(b"left by a kill")
    (tmp_path / "store" / "markers" / ".part-00000.json.1-abcd.tmp").write_bytes(b"{")
    assert ingest(settings(tmp_path)).created == 0
    assert pq.read_table(tmp_path / "store" / "spectra").num_rows == 10


def test_the_walk_through_a_folder_omits_files_that_vanish_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.fits", "b.fits", "c.fits"):
        (tmp_path / name).write_bytes(b"x")
    scandir = os.scandir

    class Late:
        """A listing of which one file is removed before it is looked at."""

        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)
            (tmp_path / "b.fits").unlink()

        def __enter__(self) -> Iterator[Any]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Late)
    assert [Path(entry.path).name for entry in files.walk(str(tmp_path))] == ["a.fits", "c.fits"]


def test_the_summary_names_the_counts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.doc").write_text("x")
    text = summary(ingested(tmp_path))
    assert "rows in    13" in text
    assert "1 other files ignored (such as notes.doc)" in text
    assert f"next       survey train RECIPE store={tmp_path}/store labels=TABLE run=RUN" in text
    assert "refused    3 (23.08%)" in text
    assert io.StringIO(text).readline().startswith("store ")
