"""The job from a catalog to a sample, and from results to a purity; its errors; what is done twice."""

import csv
import shutil
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse_single_table
from matplotlib.figure import Figure

from survey.folder import Folder
from survey.followup import followup
from survey.followup.exposures import exposures
from survey.followup.followup import SAMPLE
from survey.followup.followup_document import FOLLOWUP, RESULTS
from survey.followup.settings import ExposureSettings
from survey.followup.sites import find_site
from survey.reports import followup_plots
from tests.commands import survey
from tests.followup.conftest import Command, Drawn, VettedCatalog


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_sample_and_its_results_in_two_commands(drawn: Drawn, vetted: VettedCatalog) -> None:
    rows = rows_of(drawn.folder / "followup.csv")
    assert f"{len(rows)} stars in " in drawn.text
    assert [int(row["order"]) for row in rows] == list(range(1, len(rows) + 1))
    assert {row["chosen_for"] for row in rows} == {"yield", "random"}
    assert all(float(row["airmass"]) <= 2 for row in rows), "2 is the airmass at 30 degrees"
    assert all((row["inclusion_probability"] == "1") == (row["chosen_for"] == "yield") for row in rows)
    others = pq.ParquetFile(drawn.folder / "not_chosen.parquet").read()
    assert len(rows) + others.num_rows == vetted.table.num_rows
    assert {path.name for path in (drawn.folder).glob("*.png")} == {"yield.png", "sky.png", "strata.png"}

    document = Folder(str(drawn.folder / "results"), RESULTS).document()
    truth = {row["star"]: float(row["CFe"]) >= 0.7 for row in rows_of(Path(vetted.truth))}
    assert document.observed == len(rows)
    assert document.true == sum(truth[row["star"]] for row in rows)
    listed = [truth[star] for star in vetted.table["star"].to_pylist()]
    purity = document.list_purity
    assert purity.low is not None
    assert purity.high is not None
    assert purity.low <= np.mean(listed) <= purity.high
    assert purity.value is not None
    assert document.expected == pytest.approx(purity.value * vetted.table.num_rows)
    assert document.counts["used"] == len(rows)
    assert document.counts["of the list, but not in the sample"] == others.num_rows
    assert "of all stars that can be observed (stratified, without bias" in drawn.results
    assert (drawn.folder / "results" / "purity.png").exists()


def test_weights_from_the_files_give_the_same_purity(drawn: Drawn) -> None:
    """By hand: each observed star counts 1 / inclusion probability."""
    table = pq.ParquetFile(drawn.folder / "results" / "results.parquet").read()
    weight = 1 / table["inclusion_probability"].to_numpy()
    true = table["true"].to_numpy(zero_copy_only=False)
    document = Folder(str(drawn.folder / "results"), RESULTS).document()
    assert document.purity.value == pytest.approx((weight * true).sum() / weight.sum())


def test_a_second_command_does_nothing_and_more_results_replace_the_first(
    draw: Command, drawn: Drawn, tmp_path: Path
) -> None:
    before = (drawn.folder / "followup.json").read_bytes()
    assert "was drawn before: it stays as it is" in draw(drawn.folder)
    assert (drawn.folder / "followup.json").read_bytes() == before
    shutil.copytree(drawn.folder, tmp_path / "f", ignore=shutil.ignore_patterns("results"))
    rows = rows_of(tmp_path / "f" / "followup.csv")
    results = tmp_path / "seen.csv"
    results.write_text("star,true\n" + "".join(f"{row['star']},yes\n" for row in rows[: len(rows) // 2]))
    command = ["followup", f"followup={tmp_path / 'f'}", f"results={results}"]
    assert "(read now)" in survey(*command).stdout
    assert "(were read before: nothing to do)" in survey(*command).stdout
    results.write_text("star,true\n" + "".join(f"{row['star']},yes\n" for row in rows))
    text = survey(*command).stdout
    assert "(read now)" in text
    assert f"{len(rows)} of {len(rows)} are true" in text
    assert (tmp_path / "f" / "followup.json").read_bytes() == before
    results.write_text(f"{results.read_text()}J999999,yes\n")
    text = survey(*command).stdout
    assert "(read now)" in text
    assert "1 not in the list" in text


def test_the_purity_is_compared_with_what_was_expected_of_the_same_stars(drawn: Drawn) -> None:
    rows = [
        row
        for name in ("followup.parquet", "not_chosen.parquet")
        for row in pq.ParquetFile(drawn.folder / name).read().to_pylist()
    ]
    expected = [row["probability"] for row in rows if row["inclusion_probability"] is not None]
    assert len(expected) < len(rows), "some stars cannot be observed"
    document = Folder(str(drawn.folder / "results"), RESULTS).document()
    assert document.before == pytest.approx(np.mean(expected))
    assert document.before != pytest.approx(np.mean([row["probability"] for row in rows]))


def test_the_sample_stays_when_its_nights_are_over(
    draw: Command, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followup, "now", lambda: datetime(2028, 1, 1, 12, tzinfo=UTC))
    assert "was drawn before" in draw(drawn.folder)
    assert "the night of 2027-01-10 is over; give nights from 2028-01-01 on" in draw(tmp_path / "g")


@pytest.mark.parametrize(
    ("name", "utc", "night"),
    [
        ("Mauna Kea", "2027-01-11T04:00", "2027-01-10"),  # 6 in the evening
        ("Mauna Kea", "2027-01-11T16:00", "2027-01-10"),  # before dawn
        ("Mauna Kea", "2027-01-11T23:00", "2027-01-11"),  # after noon
        ("Siding Spring", "2027-01-10T10:00", "2027-01-10"),
        ("Siding Spring", "2027-01-10T20:00", "2027-01-10"),
        ("La Palma", "2027-01-11T01:00", "2027-01-10"),
    ],
)
def test_a_night_is_named_by_its_evening_at_the_site(name: str, utc: str, night: str) -> None:
    time = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert followup.night_at(find_site(name).longitude, time).isoformat() == night


def test_tonight_can_be_planned_in_the_evening_in_hawaii(
    draw: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followup, "now", lambda: datetime(2027, 1, 11, 4, tzinfo=UTC))
    given = ["site=Mauna Kea", "dates=2027-01-10"]
    assert "drawn now" in draw(tmp_path / "f", *given)
    assert "give nights from 2027-01-10 on" in draw(tmp_path / "g", *given[:1], "dates=2027-01-09")
    folder = Folder(str(tmp_path / "f"), FOLLOWUP)
    document, figure = folder.document(), Figure()
    sample, others, tracks = (folder.table(f"{name}.parquet") for name in (SAMPLE, "not_chosen", "tracks"))
    assert str(tracks["utc"][0]).startswith("2027-01-11")
    followup_plots._sky(figure, sample, others, tracks, document)
    assert "dark hours of the night of 2027-01-10" in figure.axes[1].get_xlabel()


def test_a_sample_that_was_stopped_is_drawn_again_and_is_the_same(
    draw: Command, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(followup, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert "stopped; run the same command again" in draw(tmp_path / "g")
    assert not Folder(str(tmp_path / "g"), FOLLOWUP).is_finished()
    draw(tmp_path / "g")
    assert rows_of(tmp_path / "g" / "followup.csv") == rows_of(drawn.folder / "followup.csv")


def test_verdicts_change_what_is_observed_but_not_a_sample_that_was_drawn(
    draw: Command, drawn: Drawn, vetted: VettedCatalog, tmp_path: Path
) -> None:
    stars = vetted.table["star"].to_pylist()
    verdicts = ["reject"] * 10 + ["accept"] * 10 + ["unsure"] * 5
    lines = [f"{star},{verdict},2,4" for star, verdict in zip(stars, verdicts, strict=False)]
    table = tmp_path / "verdicts.csv"
    table.write_text("\n".join(["star,verdict,people,quality", *lines, "J999999,accept,1,4"]) + "\n")
    text = draw(tmp_path / "f", f"verdicts={table}")
    assert f"{len(stars) - 10} stars, 10 rejected ones left out" in text
    assert "verdicts about stars that are not in this list: 1" in text
    names = [row["star"] for row in rows_of(tmp_path / "f" / "followup.csv")]
    assert not set(names) & set(stars[:10])
    others = pq.ParquetFile(tmp_path / "f" / "not_chosen.parquet").read().to_pylist()
    assert {row["reason"] for row in others if row["star"] in stars[:10]} == {"rejected by people"}
    draw(tmp_path / "g", f"verdicts={table}", "keep_rejected=true")
    probability = {
        row["star"]: row["probability"]
        for name in ("followup.parquet", "not_chosen.parquet")
        for row in pq.ParquetFile(tmp_path / "g" / name).read().to_pylist()
    }
    for row in pq.ParquetFile(drawn.folder / "followup.parquet").read().to_pylist():
        if row["star"] in stars[:10]:
            assert probability[row["star"]] < row["probability"]
    table.write_text(table.read_text().replace("J999999,accept", "J999999,reject"))
    assert "a second draw would spoil its inclusion probabilities" in draw(
        tmp_path / "f", f"verdicts={table}"
    )


def test_stars_without_a_magnitude_are_named(draw: Command, vetted: VettedCatalog, tmp_path: Path) -> None:
    lines = Path(vetted.magnitudes).read_text().splitlines()
    lines[1] = lines[1].split(",")[0] + ",-9999"
    lines[2] = lines[2].split(",")[0] + ","
    del lines[3]
    table = tmp_path / "magnitudes.csv"
    table.write_text("\n".join(lines) + "\n")
    text = draw(tmp_path / "f", f"magnitudes={table}")
    assert "3 cannot be observed: no magnitude in gmag" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["site=Lijang"],
            "followup: site: 'Lijang': there is no such site in the program; did you mean Lijiang?",
        ),
        (["dates=[2027-01-12,2027-01-10]"], "is not a first and a last night in this order"),
        (["dates=2026-11-01"], "the night of 2026-11-01 is over; give nights from 2026-12-01 on"),
        (["dates=tomorrow"], "is no list of dates; give [2027-01-10,2027-01-20]"),
        (["dates=[2027-01-10,2037-01-10]"], "are more than 400 nights"),
        (["sky.altitude=89.9"], "stars can be observed (never observable"),
        (["exposure.most=1", "exposure.least=0.1"], "too faint: needs more than 1 s"),
        (["magnitude=bmag"], "magnitudes.csv: no column bmag; similar: gmag"),
        (["verdicts={tmp}/none.csv"], "none.csv: no such file"),
        (["list=next_cemp"], "no star has a magnitude: gmag is empty, or of other stars; give magnitudes="),
        (["hours=0.1"], "give more hours="),
        (["of={tmp}"], "so no finished catalog"),
        (["certify=1.5"], "certify: 1.5:"),
    ],
)
def test_a_mistake_is_reported_in_one_message(
    draw: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    text = draw(tmp_path / "f", *(item.replace("{tmp}", str(tmp_path)) for item in arguments))
    assert message in text
    assert len(text.splitlines()) == 1


def test_a_catalog_without_magnitudes_says_what_to_give(draw: Command, tmp_path: Path) -> None:
    text = draw(tmp_path / "f", "magnitude=[phot_g,phot_r]", magnitudes=False)
    assert "list cemp: no star has a magnitude: phot_g, phot_r are missing; " in text
    assert "give magnitudes=TABLE with a column star" in text


@pytest.mark.parametrize("missing", ["site", "dates", "hours"])
def test_what_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    given = {"of": "x", "followup": str(tmp_path / "f"), "site": "SALT", "dates": "2027-01-10", "hours": "3"}
    del given[missing]
    done = survey("followup", *(f"{key}={value}" for key, value in given.items()))
    assert f"followup: {missing}: not given; give {missing}=" in done.stderr


def test_results_without_a_sample_and_a_sample_without_a_catalog_are_errors(tmp_path: Path) -> None:
    assert "of: not given; give of=CATALOG" in survey("followup", f"followup={tmp_path}").stderr
    done = survey("followup", f"followup={tmp_path / 'f'}", f"results={tmp_path}/r.csv")
    assert "so no finished followup" in done.stderr


def test_a_star_rejected_as_cemp_is_not_rejected_as_metal_poor(
    draw: Command, vetted: VettedCatalog, tmp_path: Path
) -> None:
    table, star = tmp_path / "verdicts.csv", vetted.table["star"][0].as_py()
    for about, said in (("cemp", False), ("mp", True)):
        table.write_text(f"star,verdict,people,quality,list\n{star},reject,2,4,{about}\n")
        text = draw(tmp_path / about, "list=mp", f"verdicts={table}")
        assert ("1 rejected one" in text) == said, text


@pytest.mark.parametrize("given", ["verdicts=new.csv", "list=mp", "odds.accept=4", "magnitudes=m.csv"])
def test_settings_of_a_sample_are_refused_beside_results_alone(given: str, tmp_path: Path) -> None:
    done = survey("followup", f"followup={tmp_path}", "results=r.csv", given)
    assert done.returncode == 1
    name = given.partition("=")[0].partition(".")[0]
    assert f"{name}: belongs to a new sample" in done.stderr
    assert f"leave {name}= out, or give of=CATALOG too" in done.stderr


def test_other_settings_for_a_finished_sample_are_an_error(draw: Command, drawn: Drawn) -> None:
    assert "hours=6.0 there, 7.0 now" in draw(drawn.folder, "hours=7")


def test_without_a_random_part_nothing_is_certified(
    draw: Command, vetted: VettedCatalog, tmp_path: Path
) -> None:
    assert "the purity cannot be certified; certify=0.3 changes that" in draw(tmp_path / "f", "certify=0")
    done = survey("followup", f"followup={tmp_path / 'f'}", f"results={vetted.truth}")
    assert "cannot be certified: no star that was drawn at random has a result" in done.stdout
    document = Folder(str(tmp_path / "f" / "results"), RESULTS).document()
    assert document.purity.value is None


def test_stars_that_cannot_be_observed_count_to_the_stratum_of_the_nearest_probability() -> None:
    values, wanted = np.array([0.3, 0.9, 0.5]), np.array([0.0, 0.39, 0.41, 0.8, 1.0])
    expected = [int(np.abs(values - value).argmin()) for value in wanted]
    assert followup._nearest(values, wanted).tolist() == expected
    assert followup._nearest(np.array([0.7]), wanted).tolist() == [0] * 5


def test_status_knows_a_sample_and_its_results(drawn: Drawn) -> None:
    for folder in (drawn.folder, drawn.folder / "results"):
        assert "finished" in survey("status", str(folder)).stdout


def test_other_programs_open_the_sample_with_its_units(drawn: Drawn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = parse_single_table(str(drawn.folder / "followup.vot")).to_table()
    assert len(table) == len(rows_of(drawn.folder / "followup.csv"))
    assert str(table["exposure"].unit) == "s"


def test_a_fainter_star_takes_the_time_that_the_noise_demands() -> None:
    """A magnitude is a factor of 2.512 in light: so much in time, with noise of the sky its square."""
    magnitude, airmass = np.array([16.0, 17.0, 16.0, np.nan]), np.array([1.0, 1.0, 2.0, 1.0])
    source = exposures(magnitude, airmass, ExposureSettings(seconds=1000.0, extinction=0.2))
    assert source == pytest.approx([1000, 2511.9, 1202.3, np.nan], rel=1e-4, nan_ok=True)
    sky = exposures(magnitude, airmass, ExposureSettings(seconds=1000.0, limited="sky", extinction=0.2))
    assert sky == pytest.approx([1000, 6309.6, 1445.4, np.nan], rel=1e-4, nan_ok=True)
    assert exposures(np.array([5.0]), np.array([1.0]), ExposureSettings()) == [60]
