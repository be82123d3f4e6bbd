"""Off the tested ground nothing is promised: no purity, no completeness, no count, and the text says why."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse

from survey.catalog.catalog import CatalogResult
from survey.catalog.check_settings import GroundSettings
from survey.catalog.flags import FlagRules
from survey.catalog.ground import Ground
from survey.catalog.settings import LIST_NAMES, ListGoal
from survey.catalog.thresholds import choose_threshold
from survey.reports import catalog as report
from tests.catalog import mixed_stars
from tests.catalog.test_asked import of_all_kinds
from tests.catalog.test_catalog import list_of, run, write_survey
from tests.catalog.test_catalog_odd import change
from tests.catalog.test_short_lists import scaled, with_column


def stars(domain: Any, snr: Any = 40.0, kind: str = "FGK", count: int = 100) -> pa.Table:
    """Asked stars with these distances and this signal to noise."""
    values = {"domain": domain, "snr_best": snr}
    columns: dict[str, Any] = {name: np.broadcast_to(value, count) for name, value in values.items()}
    return pa.table(columns | {"kind": [kind] * count, "asked": ["yes"] * count})


VALIDATION = mixed_stars.validation((300, 200, 400))
TESTED = VALIDATION.append_column("snr_best", pa.array(np.linspace(10, 90, 900))).append_column(
    "domain", pa.array(np.where(np.arange(900) < 27, 1.5, 0.5))
)
GIVEN = ListGoal(prior={"MP": 0.3, "CEMP": 0.2, "NMP": 0.5})
FAR = np.where(np.arange(100) < 30, 1.5, 0.5)


def judged(table: pa.Table, listed: pa.Table | None = None, **settings: float) -> tuple[str, ...]:
    """Why nothing is promised of the MP list of a survey of these stars; nothing if something is."""
    ground = Ground(TESTED, FlagRules(), GroundSettings(**settings))
    ground.add(table)
    threshold = choose_threshold(TESTED, "MP", GIVEN)
    result = ground.judge({"MP": threshold}, {"MP": listed if listed is not None else stars(0.5)})["MP"]
    promised = np.isfinite([result.purity.value, result.completeness.value])
    assert promised.all() if not result.withheld else not promised.any()
    assert np.isfinite(threshold.purity.value)
    return result.withheld


def test_many_stars_out_of_the_domain_forbid_a_promise() -> None:
    [reason] = judged(stars(FAR))
    assert reason.startswith("30% of the stars of asked kinds are farther from the training spectra")
    assert "of the validation stars 3% are (limit ground.domain=0.1 more)" in reason
    assert judged(stars(FAR), domain=0.3) == ()
    assert judged(stars(np.where(np.arange(100) < 12, 1.5, 0.5))) == ()
    assert judged(stars(np.where(np.arange(3) < 1, 1.5, 0.5), count=3)) == (), "that may be chance"
    assert judged(stars(FAR, kind="M")) == (), "other kinds are not asked"
    assert judged(stars(np.nan)) == ()


def test_a_survey_that_is_farther_as_a_whole_is_another_ground_though_no_star_is_out_of_the_domain() -> None:
    """Three quarters of the validation stars are at 0.5 or nearer."""
    [reason] = judged(stars(np.where(np.arange(100) < 70, 0.8, 0.4)))
    assert reason.startswith("70% of the stars of asked kinds are farther from the training spectra than 75%")
    assert "(limit ground.shift=0.5)" in reason
    assert judged(stars(np.where(np.arange(100) < 70, 0.8, 0.4)), shift=0.7) == ()
    assert judged(stars(np.where(np.arange(100) < 55, 0.8, 0.4))) == (), "that may be chance"


def test_a_signal_to_noise_that_was_not_tested_forbids_a_promise() -> None:
    [reason] = judged(stars(0.5, snr=5.0))
    assert reason.startswith("100% of the asked stars have a signal to noise outside that of the validation")
    assert "10 to 90 (limit ground.snr=0.2)" in reason
    assert judged(stars(0.5, snr=np.where(np.arange(100) < 20, 300.0, 40.0))) == ()
    assert judged(stars(0.5, snr=np.where(np.arange(100) < 40, 300.0, 40.0))) != ()


def test_a_list_that_is_mostly_out_of_the_domain_is_not_promised_though_the_survey_is() -> None:
    [reason] = judged(stars(0.5), listed=stars(np.where(np.arange(10) < 6, 1.5, 0.5), count=10))
    assert reason.startswith("6 of 10 stars of the list are farther")
    assert judged(stars(0.5), listed=stars(np.where(np.arange(10) < 5, 1.5, 0.5), count=10)) == ()
    assert judged(stars(0.5), listed=stars(0.5, count=0)) == ()


def test_nothing_is_promised_of_a_survey_too_small_to_know_its_class_shares() -> None:
    """Those of validation stars are none of a survey: with them 3 of 3 listed stars were promised."""
    ground = Ground(TESTED, FlagRules(), GroundSettings())
    ground.add(stars(0.5))
    for goal, promised in ((ListGoal(), False), (ListGoal(prior="validation"), True), (GIVEN, True)):
        threshold = choose_threshold(TESTED, "MP", goal)
        result = ground.judge({"MP": threshold}, {"MP": stars(0.5)})["MP"]
        assert np.isfinite(result.purity.value) == promised
        if not promised:
            assert result.withheld[0].startswith("fewer than 200 stars of the survey have class")
            assert result.withheld[0].endswith("give 'mp.prior={MP: 4, CEMP: 1, NMP: 95}'")


def test_some_stars_out_of_the_domain_are_a_note() -> None:
    ground = Ground(TESTED, FlagRules(), GroundSettings())
    ground.add(stars(np.where(np.arange(100) < 8, 1.5, 0.5)))
    result = ground.judge({"MP": choose_threshold(TESTED, "MP", GIVEN)}, {"MP": stars(0.5)})["MP"]
    assert result.withheld == ()
    assert result.notes[-1].startswith("8% of the stars of asked kinds are farther")
    ground = Ground(TESTED, FlagRules(), GroundSettings())
    ground.add(stars(np.nan))
    unknown = ground.judge({"MP": choose_threshold(TESTED, "MP", GIVEN)}, {"MP": stars(0.5)})["MP"]
    assert "the promises are not checked" in unknown.notes[-1]


@pytest.fixture(scope="module")
def off_ground(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog of a survey of which half the stars are out of the domain."""
    folder = tmp_path_factory.mktemp("off")
    write_survey(folder)
    change(folder, with_column("domain", lambda table: np.where(np.arange(table.num_rows) % 2, 1.5, 0.5)))
    return run(folder, exports=["votable", "fits"])


def test_a_catalog_off_the_ground_claims_nothing_anywhere(off_ground: CatalogResult) -> None:
    document = json.loads((Path(off_ground.folder) / "catalog.json").read_text())
    nothing = {"value": None, "low": None, "high": None}
    for name in LIST_NAMES:
        threshold = document["thresholds"][name]
        assert threshold["purity"] == threshold["completeness"] == nothing
        assert threshold["withheld"][0].startswith("50% of the stars of asked kinds")
        assert set(document["expected"][name].values()) == {None}
        table = list_of(off_ground, name)
        assert table.num_rows > 10
        assert table["purity_to_here"].null_count == table.num_rows
    for file in ("curves.parquet", "selection.parquet"):
        table = pq.read_table(Path(off_ground.folder) / file)
        assert table.num_rows
        assert {table[column].null_count for column in ("value", "low", "high")} == {table.num_rows}


def test_the_files_and_the_summary_say_why(off_ground: CatalogResult) -> None:
    resource = parse(Path(off_ground.folder) / "cemp_candidates.vot").resources[0]
    values = {param.name: param.value for param in resource.tables[0].params}
    assert np.isnan(values["expected_purity"])
    infos = [str(info.value) for info in resource.infos]
    assert any(text.startswith("nothing is promised of the list: 50% of the stars") for text in infos)
    header = fits.getheader(Path(off_ground.folder) / "cemp_candidates.fits", 1)
    assert header["expected_purity"] is None
    pictures = report.pictures(off_ground)
    names = {Path(path).name for path in pictures}
    assert not names & {"purity_completeness.png", "selection.png"}
    text = report.summary(off_ground, pictures)
    assert "expected purity" not in text
    assert "belong in it" not in text
    assert "class shares" not in text
    assert (
        "chosen for the best F1; nothing is promised of it, neither purity nor completeness, because" in text
    )
    assert "no plot    selection: nothing is promised of the lists: 50% of the stars" in text


@pytest.mark.long
def test_stars_of_other_kinds_do_not_take_a_survey_off_the_ground(tmp_path: Path) -> None:
    """White dwarfs and M stars are far from the training spectra, and are not asked."""
    write_survey(tmp_path)

    def far_if_other(table: pa.Table) -> pa.Table:
        table = of_all_kinds(table)
        is_other = np.isin(table["subclass"].to_numpy(), ("M3", "DA", "Carbon"))
        return with_column("domain", np.where(is_other, 9.0, 0.5))(table)

    change(tmp_path, far_if_other)
    threshold = run(tmp_path).document.thresholds["MP"]
    assert threshold.withheld == ()
    assert threshold.purity.value is not None


def test_a_short_list_off_the_ground_advises_without_promises(tmp_path: Path) -> None:
    write_survey(tmp_path)
    half_far = with_column("domain", lambda table: np.where(np.arange(table.num_rows) % 2, 1.5, 0.5))
    change(tmp_path, lambda table: half_far(scaled(0.02)(table)))
    result = run(tmp_path, cemp={"goal": "purity", "level": 0.99})
    assert result.document.candidates["CEMP"] < 10
    reasons = result.document.why_short["CEMP"]
    assert any("would list about" in reason for reason in reasons)
    assert not any("expected purity" in reason for reason in reasons)
