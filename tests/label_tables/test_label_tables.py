"""The job as a whole: rows are counted once, a finished folder stays, mistakes are named in one sentence."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.label_tables.solar import SCALES, solar_scale
from survey.settings import SettingsError
from tests.commands import survey
from tests.label_tables.catalogues_by_hand import make, write_csv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Any]:
    one = write_csv(tmp_path / "1.csv", "ra dec feh e_feh", [(n, 5, -1.1 - 0.1 * n, 0.1) for n in range(8)])
    two = write_csv(
        tmp_path / "2.csv", "ra dec feh e_feh", [(n, 5, -1.2 - 0.1 * n, 0.1) for n in range(4, 9)]
    )
    return {"one": {"file": one, "priority": 1}, "two": {"file": two}}


def test_every_row_is_used_or_refused_with_a_reason(sources: dict[str, Any], tmp_path: Path) -> None:
    catalogue = write_csv(tmp_path / "to.csv", "obsid ra dec", [(n, n, 5) for n in range(5)])
    result = make(tmp_path, sources, to=catalogue)
    for record in result.document.sources:
        assert record.rows == record.used + sum(record.refused.values())
    matches = result.table("matches.parquet")
    assert matches is not None
    rows = matches.to_pylist()
    assert len(rows) == 13
    assert all((row["star"] is None) == (row["reason"] is not None) for row in rows)
    assert [row["source"] for row in rows] == ["one"] * 8 + ["two"] * 5
    assert result.document.sources[1].refused == {"no such star in the survey": 4}


def test_a_finished_folder_is_left_and_other_files_or_settings_are_noticed(
    sources: dict[str, Any], tmp_path: Path
) -> None:
    first = make(tmp_path, sources)
    assert first.created
    assert not make(tmp_path, sources).created
    with pytest.raises(SettingsError, match=r"was made with other settings: natal=False there, True now"):
        make(tmp_path, sources, natal=True)
    write_csv(tmp_path / "2.csv", "ra dec feh e_feh", [(50, 5, -0.5, 0.1)])
    again = make(tmp_path, sources)
    assert again.created
    assert again.document.labelled == 9


def test_another_sun_in_the_same_file_makes_the_table_anew(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", "ra dec iron", [(1, 5, 5.5)])
    sun, other = tmp_path / "sun.yaml", tmp_path / "other.yaml"
    iron = {"FeH": {"column": "iron", "scale": "log_eps"}}
    sources: dict[str, Any] = {"one": {"file": table, "labels": iron, "solar": str(other)}}
    sun.write_text("{Fe: 7.5}\n")
    other.write_text("{Fe: 7.5}\n")
    assert make(tmp_path, sources, solar=str(sun)).created
    assert not make(tmp_path, sources, solar=str(sun)).created
    other.write_text("{Fe: 7.4}\n")
    assert make(tmp_path, sources, solar=str(sun)).created
    sun.write_text("{Fe: 7.0}\n")
    again = make(tmp_path, sources, solar=str(sun))
    labels = again.table("labels.parquet")
    assert labels is not None
    assert labels["FeH"].to_pylist() == [-1.5]


def test_without_a_survey_stars_are_named_by_what_each_of_them_has(tmp_path: Path) -> None:
    """One catalogue has visits, one obsids, one neither for a row."""
    visits = write_csv(tmp_path / "a.csv", "visit feh", [("55859-f1-sp01-001", -1.0)])
    numbers = write_csv(tmp_path / "b.csv", "obsid feh", [(11, -1.0), (12, -2.0)])
    sources = {
        "a": {"file": visits, "ids": {"visit": "visit"}, "position": {}},
        "b": {"file": numbers, "ids": {"obsid": "obsid"}, "position": {}},
    }
    table = make(tmp_path, sources).table("labels.parquet")
    assert table is not None
    assert table["star"].to_pylist() == ["visit 55859-f1-sp01-001", "visit 11", "visit 12"]


def test_a_damaged_table_is_made_anew(sources: dict[str, Any], tmp_path: Path) -> None:
    make(tmp_path, sources)
    (tmp_path / "out" / "labels.parquet").write_bytes(b"x")
    assert make(tmp_path, sources).created
    assert pq.read_table(tmp_path / "out" / "labels.parquet").num_rows == 9


def test_a_missing_file_says_what_it_is_and_may_be_left_out(sources: dict[str, Any], tmp_path: Path) -> None:
    lost = sources | {"saga": {"format": "saga", "file": "saga.tsv"}}
    with pytest.raises(
        FileNotFoundError, match=r"sources.saga.file: .*saga.tsv: no such file; .*missing=skip"
    ):
        make(tmp_path, lost)
    result = make(tmp_path, lost, missing="skip")
    assert result.document.skipped == ("saga",)
    with pytest.raises(FileNotFoundError, match=r"none of the files of saga is there"):
        make(tmp_path / "b", {"saga": {"format": "saga", "file": "saga.tsv"}}, missing="skip")


def test_no_match_at_all_is_an_error_with_the_reasons(sources: dict[str, Any], tmp_path: Path) -> None:
    catalogue = write_csv(tmp_path / "to.csv", "obsid ra dec", [(1, 200, 50)])
    with pytest.raises(ValueError, match=r"one: 8 no such star in the survey; two: 5 no such star"):
        make(tmp_path, sources, to=catalogue)


def test_an_own_solar_scale_and_wrong_ones(tmp_path: Path) -> None:
    own = tmp_path / "sun.yaml"
    own.write_text("{Fe: 7.45, C: 8.5}\n")
    assert solar_scale(str(own)) == {"Fe": 7.45, "C": 8.5}
    own.write_text("{C: 8.5}\n")
    with pytest.raises(SettingsError, match="has no value for Fe"):
        solar_scale(str(own))
    own.write_text("{Fe: 7.45, C: 85}\n")
    with pytest.raises(SettingsError, match="C: 85 is no log eps"):
        solar_scale(str(own))
    with pytest.raises(SettingsError, match="did you mean asplund2009"):
        solar_scale("asplund09")


@pytest.mark.parametrize("name", SCALES)
def test_a_solar_scale_has_iron_and_carbon_near_those_of_the_others(name: str) -> None:
    """The values of the papers differ by up to 0.2 dex, most for sulphur."""
    for element, value in SCALES[name].items():
        assert abs(value - np.median([scale[element] for scale in SCALES.values()])) < 0.2


def test_the_command_prints_what_matched_and_why_not(sources: dict[str, Any], tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    lines = [f"    {name}: {{file: {values['file']}}}" for name, values in sources.items()]
    recipe.write_text("labels:\n  sources:\n" + "\n".join(lines) + "\n")
    catalogue = write_csv(tmp_path / "to.csv", "obsid ra dec snrg", [(n, n, 5, 20 + n) for n in range(7)])
    done = survey("labels", str(recipe), f"to={catalogue}", f"labels={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "8 rows, 7 used of 7 stars (7 by position)" in done.stdout
    assert "not used: 1 no such star in the survey" in done.stdout
    assert "20 to 40: 7" in done.stdout
    out = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"labels.parquet", "matches.parquet", "report.txt", "labels.json", "ranges.png", "sky.png"} <= out
    again = survey("labels", str(recipe), f"to={catalogue}", f"labels={tmp_path / 'out'}")
    assert "was finished: nothing to do" in again.stdout
    looked = survey("status", str(tmp_path / "out"))
    assert "finished" in looked.stdout


def test_a_recipe_without_the_section_is_refused_with_those_that_have_it(tmp_path: Path) -> None:
    done = survey("labels", "mstars", f"labels={tmp_path / 'out'}")
    assert done.returncode == 1
    assert "this recipe has no section labels" in done.stderr
    assert "cemp" in done.stderr
    none = survey("labels", "labels=x", "sources={}")
    assert "sources: none is given" in none.stderr


def test_a_bad_catalogue_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh", [(n, 5, 6.5) for n in range(9)])
    sources = f"sources={{one: {{file: {path}}}}}"
    done = survey("labels", f"labels={tmp_path / 'out'}", sources)
    assert done.returncode == 1
    assert "this seems to be log eps" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "labels.json").exists()


KILLED = """
import os, signal
from survey import files
from survey.command import main

write = files.write_table

def write_or_die(path, *given, **named):
    if path.endswith("contradictions.parquet"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, *given, **named)

files.write_table = write_or_die
main()
"""


@pytest.mark.kill
def test_a_killed_job_is_completed_by_the_same_command(sources: dict[str, Any], tmp_path: Path) -> None:
    """It is killed after two of its tables."""
    out = tmp_path / "out"
    files = ", ".join(f"{name}: {{file: {values['file']}}}" for name, values in sources.items())
    command = ["labels", f"labels={out}", f"sources={{{files}}}"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert {"labels.parquet", "matches.parquet"} <= {path.name for path in out.iterdir()}
    assert not (out / "labels.json").exists()
    done = survey(*command)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(out / "labels.parquet").num_rows == 9
    assert (out / "contradictions.parquet").exists()
    assert not list(out.glob(".*"))


@pytest.mark.long
@pytest.mark.kill
def test_a_job_that_is_killed_at_any_moment_is_completed_by_the_same_command(tmp_path: Path) -> None:
    rows = [(round(0.01 * n, 4), round(0.004 * n - 60, 4), -1 - 0.00001 * n, 0.1) for n in range(30_000)]
    path = write_csv(tmp_path / "a.csv", "ra dec feh e_feh", rows)
    command = [
        *(sys.executable, "jobs/labels.py", f"labels={tmp_path / 'out'}"),
        f"sources={{one: {{file: {path}}}, two: {{file: {path}}}}}",
    ]
    for delay in (0.4, 0.8, 1.2, 1.6):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out" / "labels.parquet")
    assert table.num_rows == 30_000
    left = [path for path in (tmp_path / "out").glob(".*") if path.suffix != ".tmp"]
    assert not left, "a kill may leave the hidden file that was being written, nothing else"
