"""The prior test and the mirror test: against counts by hand and against lists that were published."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse

from survey.catalog.catalog import CatalogResult
from survey.catalog.check_settings import CempFrequency
from survey.catalog.frequency import cemp_frequency
from survey.catalog.visits import PROBABILITIES
from survey.metrics.intervals import wilson
from survey.reports import catalog as report
from survey.settings import SettingsError
from tests.catalog import mixed_stars
from tests.catalog.test_asked import of_all_kinds
from tests.catalog.test_catalog import all_stars, list_of, run, write_survey
from tests.catalog.test_catalog_odd import change, only_labels
from tests.catalog.test_short_lists import metal_rich_by_lines


def with_feh(*counts: tuple[float, int]) -> pa.Table:
    """So many stars of each [Fe/H]."""
    return pa.table({"FeH": np.repeat([feh for feh, _ in counts], [count for _, count in counts])})


def test_published_lists_are_judged_as_the_literature_allows() -> None:
    """Li X. 2025 (LAMOST DR10) has 8,440 very metal-poor stars; Fang 2025 lists 9,461 such CEMP stars in an
    earlier release, more than there are; Liu 2026 lists 1,408."""
    vmp = with_feh((-2.2, 6000), (-2.7, 2000), (-3.2, 440))
    too_long = cemp_frequency(vmp, with_feh((-2.3, 9461)), CempFrequency())
    possible = cemp_frequency(vmp, with_feh((-2.3, 1408)), CempFrequency())
    assert too_long is not None
    assert possible is not None
    assert 400 < too_long.fewest < 600
    assert 2000 < too_long.most < 2500
    assert too_long.warning.startswith("longer than can be: it has 9,461 stars")
    assert possible.warning == ""


def test_the_range_is_that_of_counting_by_hand() -> None:
    frequency = CempFrequency(edges=(-2.0,), least=(0.0, 0.1), most=(0.1, 0.5))
    mp = with_feh((-1.2, 100), (-2.0, 50), (-2.5, 30), (np.nan, 7))
    record = cemp_frequency(mp, with_feh((-1.0, 2), (-3.0, 12)), frequency)
    assert record is not None
    assert [(bin_.low, bin_.high, bin_.mp, bin_.cemp) for bin_ in record.bins] == [
        (-2.0, None, 150, 2),
        (None, -2.0, 30, 12),
    ]
    assert record.most == pytest.approx(30 + 2 * 30**0.5)
    assert record.fewest == pytest.approx(0)
    assert (record.listed, record.warning) == (14, "")
    assert cemp_frequency(pa.table({"star": ["a"]}), mp, frequency) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edges": [-2.0, -1.5]}, r"the edges do not fall"),
        ({"edges": [-2.0]}, r"1 edges make 2 bins; give as many shares"),
        ({"least": [0.5, 0, 0, 0, 0]}, r"a share is not between 0 and 1, or least is above most"),
    ],
)
def test_wrong_frequencies_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CempFrequency.from_dict("catalog", settings)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog whose CEMP list would be too long if CEMP stars were as rare as said here."""
    folder = tmp_path_factory.mktemp("checked")
    write_survey(folder)
    change(folder, lambda table: metal_rich_by_lines(of_all_kinds(table)))
    rare = {"edges": [-2.0], "least": [0.0, 0.0], "most": [0.0, 0.01]}
    return run(folder, exports=["votable"], frequency=rare, cemp={"goal": "completeness", "level": 0.9})


def test_the_mirror_counts_all_stars_that_pass_the_cut_whatever_their_flags(checked: CatalogResult) -> None:
    stars, table = all_stars(checked).to_pandas(), checked.table("mirror.parquet")
    assert table is not None
    rows = table.to_pylist()
    assert {row["group"] for row in rows} == {"metal_rich", "M", "white_dwarf"}
    rich = (stars["kind"] == "FGK") & (stars["FeH_lines"] - stars["FeH_lines_err"] > -0.5)
    for row, record in zip(rows, checked.document.mirror, strict=True):
        inside = rich if row["group"] == "metal_rich" else stars["kind"] == row["group"]
        passes = stars["score_cemp"] >= np.float32(checked.document.thresholds["CEMP"].value)
        if row["search"] == "MP":
            passes |= stars["score_mp"] >= np.float32(checked.document.thresholds["MP"].value)
        assert (row["n"], row["passed"]) == (inside.sum(), (inside & passes).sum())
        assert row["listed"] == (inside & stars[f"{row['search'].lower()}_candidate"]).sum()
        assert (row["low"], row["high"]) == pytest.approx(
            [float(end) for end in wilson(row["passed"], row["n"])]
        )
        assert (record.n, record.passed, record.share.value) == (row["n"], row["passed"], row["share"])
    kinds = [row for row in rows if row["group"] != "metal_rich" and row["search"] == "MP"]
    assert all(row["passed"] > 10 and row["listed"] == 0 for row in kinds)


def test_the_checks_are_in_the_document_the_summary_the_list_and_a_picture(checked: CatalogResult) -> None:
    frequency, cemp = checked.document.frequency, list_of(checked, "CEMP")
    assert frequency is not None
    assert frequency.listed == cemp.num_rows
    vmp = pc.sum(pc.less(list_of(checked, "MP")["FeH"], -2.0)).as_py()
    assert frequency.most == pytest.approx(0.01 * vmp + 2 * (0.01 * vmp) ** 0.5)
    pictures = report.pictures(checked)
    assert "checks.png" in {Path(path).name for path in pictures}
    lines = report.summary(checked, pictures).splitlines()
    assert any(
        line.startswith("warning    the CEMP list is longer than can be: it has") for line in lines[:4]
    )
    assert sum("longer than can be" in line for line in lines) == 1
    assert any(line.startswith("mirror     the MP cut, flags ignored, where none can be: ") for line in lines)
    infos = parse(Path(checked.folder) / "cemp_candidates.vot").resources[0].infos
    assert any("the list is longer than can be" in str(info.value) for info in infos)


def test_a_catalog_without_iron_has_no_prior_test(tmp_path: Path) -> None:
    write_survey(tmp_path)
    change(tmp_path, only_labels("Teff"), classes=(), labels=("Teff",))
    result = run(tmp_path)
    assert result.document.frequency is None
    assert "can be " not in report.summary(result, report.pictures(result))


def write_population(folder: Path, **columns: Any) -> None:
    """A test population: 80 draws of ten spectra, in turns clear CEMP stars and ordinary ones, and the
    validation spectra. The first 20 have a low signal to noise.
    """
    p_NC = mixed_stars.probabilities(np.array([[2.0, 1.5], [-2.0, 0.0]] * 40))
    columns |= {name: p_NC[:, number] for number, name in enumerate(PROBABILITIES)}
    population = pa.table(columns | {"base": np.arange(80) // 8, "domain": np.full(80, 0.5)})
    population = population.append_column("snr", pa.array(np.where(np.arange(80) < 20, 1.0, 40.0)))
    validation = pq.read_table(folder / "predictions" / "validation.parquet")
    tested = validation.select([*PROBABILITIES, "true_class", "snr"])
    others = {"base": np.arange(tested.num_rows) + 100, "blanked": np.zeros(tested.num_rows, bool)}
    for name, values in others.items():
        tested = tested.append_column(name, pa.array(values))
    tested = tested.append_column("tio5", pa.array(np.ones(tested.num_rows)))  # else their kind is unknown
    both = pa.concat_tables([population, tested], promote_options="permissive")
    pq.write_table(both, folder / "predictions" / "population.parquet")


def test_draws_without_bands_of_carbon_are_a_group_of_the_cemp_cut(tmp_path: Path) -> None:
    write_survey(tmp_path)
    write_population(tmp_path, blanked=np.arange(80) < 60)
    result = run(tmp_path)
    records, text = result.document.mirror, report.summary(result, [])
    assert "30 of 60 blanked; 0 stars are listed" in text, "draws are no stars of the catalog"
    [blanked] = [record for record in records if record.group == "blanked"]
    assert (blanked.search, blanked.n, blanked.passed, blanked.listed) == ("CEMP", 60, 30, 20)
    assert blanked.share.value == 0.5
    only_known = run(tmp_path, catalog=str(tmp_path / "fgk"), ask=["FGK"]).document.mirror
    [blanked] = [record for record in only_known if record.group == "blanked"]
    assert (blanked.n, blanked.listed) == (60, 0), "of no draw is the kind known"
    assert blanked.passed > 0


def test_stars_that_carbon_was_put_into_are_counted_by_their_carbon_and_decide_nothing(
    tmp_path: Path,
) -> None:
    write_survey(tmp_path)
    place = tmp_path / "predictions" / "population.parquet"
    write_population(tmp_path, blanked=np.zeros(80, bool))
    pq.write_table(pq.read_table(place).slice(80), place)
    without = run(tmp_path, catalog=str(tmp_path / "without")).document
    assert without.recovery == ()
    carbon = np.where(np.arange(80) < 40, np.where(np.arange(80) % 2 == 0, 1.2, 0.0), 1.8)
    write_population(tmp_path, blanked=np.zeros(80, bool), injected=carbon)
    result = run(tmp_path)
    assert result.document.thresholds == without.thresholds
    low, middle, high = result.document.recovery
    assert [(record.low, record.high, record.n) for record in (low, middle, high)] == [
        *((-0.2, 0.4, 20), (1.0, 1.5, 20)),
        (1.5, 2.2, 40),
    ]
    assert (low.stars, low.passed, low.listed, low.share.value) == (5, 0, 0, 0.0)
    assert (middle.passed, middle.listed, middle.share.value) == (20, 10, 0.5), "ten have a low S/N"
    assert (high.stars, high.passed, high.listed) == (5, 20, 20)
    assert middle.share.low is not None
    assert middle.share.high is not None
    assert middle.share.high - middle.share.low > 0.4, "20 draws of 5 stars are no 20 stars"
    line = (
        "recovery   carbon put into 5 real metal-poor stars; listed by [C/Fe]: -0.2 to 0.4 0%, 1 to 1.5 50%, "
    )
    assert line in report.summary(result, [])
