"""Empty and short lists say why, and what gives more; the next best stars have a list of their own."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse

from survey.arguments import load
from survey.catalog.catalog import CatalogResult
from survey.catalog.exports import ENDINGS
from survey.catalog.flag_settings import CatalogFlag, FlagLimits
from survey.catalog.flags import FlagRules
from survey.catalog.ranked_purity import COLUMNS as PURITY_COLUMNS
from survey.catalog.settings import LIST_NAMES, CatalogSettings
from survey.catalog.short_lists import SHORT
from survey.reports import catalog as report
from survey.settings import Settings
from tests.catalog.test_catalog import ALL_FORMATS, all_stars, list_of, plain, run, write_survey
from tests.catalog.test_catalog_odd import change

CEMP = 1


def scaled(factor: float) -> Any:
    """Multiplies the probability of CEMP; the others take what is left."""

    def scale(table: pa.Table) -> pa.Table:
        p_NC = np.stack([table[name].to_numpy() for name in ("p_mp", "p_cemp", "p_nmp")], 1).astype(float)
        p_NC[:, CEMP] *= factor
        p_NC /= p_NC.sum(1, keepdims=True)
        for number, name in enumerate(("p_mp", "p_cemp", "p_nmp")):
            column = pa.array(p_NC[:, number].astype(np.float32))
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
        return table

    return scale


def with_column(name: str, values: Any) -> Any:
    """Replaces a column of the predictions by one value, or by values of a function of the table."""

    def replace(table: pa.Table) -> pa.Table:
        number, field = table.column_names.index(name), table.schema.field(name)
        new = values(table) if callable(values) else np.full(table.num_rows, values)
        return table.set_column(number, field, pa.array(new).cast(field.type))

    return replace


def next_of(result: CatalogResult, name: str) -> pa.Table:
    """The list of the next best stars."""
    table = result.table(f"next_{name.lower()}.parquet")
    assert table is not None
    return table


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog without any CEMP candidate: no star of its survey looks like one."""
    folder = tmp_path_factory.mktemp("empty")
    write_survey(folder)
    change(folder, scaled(1e-6))
    cemp = {"goal": "purity", "level": 0.9, "prior": {"MP": 23, "CEMP": 1, "NMP": 76}}
    return run(folder, exports=["votable"], cemp=cemp)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog with candidates, some of which flags exclude."""
    folder = tmp_path_factory.mktemp("full")
    write_survey(folder)
    change(folder, with_column("snr", lambda table: np.where(np.arange(table.num_rows) % 5, 50.0, 1.0)))
    return run(folder, exports=ALL_FORMATS, next_best=20)


def test_an_empty_list_says_at_the_top_of_the_summary_why(empty: CatalogResult) -> None:
    assert list_of(empty, "CEMP").num_rows == 0
    lines = report.summary(empty, []).splitlines()
    assert lines[1].startswith("CEMP list  the list is empty: its threshold in score_cemp is ")
    assert any("chosen for a purity of 0.9 in a survey of which 1.00% are CEMP" in line for line in lines[:6])
    assert any("next_cemp.parquet holds the next best 100 stars" in line for line in lines[:8])
    [line] = [line for line in lines if line.startswith("CEMP list  0 candidates")]
    assert "expected purity" not in line, "of no star there is no purity"


def test_why_a_list_is_short_is_among_its_notes_and_in_its_files(empty: CatalogResult) -> None:
    why = empty.document.why_short["CEMP"]
    assert empty.document.thresholds["CEMP"].notes[: len(why)] == why
    infos = parse(Path(empty.folder) / "cemp_candidates.vot").resources[0].infos
    assert [info.value for info in infos if info.name == "note"][: len(why)] == list(why)
    assert "MP" not in empty.document.why_short
    assert list_of(empty, "MP").num_rows >= SHORT


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CatalogResult]:
    """A survey with few stars that look like CEMP stars, and a catalog that asks for a very pure list."""
    folder = tmp_path_factory.mktemp("short")
    write_survey(folder)
    change(folder, scaled(0.02))
    return folder, run(folder, cemp={"goal": "purity", "level": 0.99})


def settings_in(text: str) -> Settings:
    """The settings that a user gets who types the advice."""
    typed = [word for word in shlex.split(text) if "=" in word and not word.startswith("catalog=")]
    return load(CatalogSettings, "catalog", ["predictions=x", "catalog=y", *typed])


def test_an_advice_gives_more_candidates_if_it_is_typed(
    short: tuple[Path, CatalogResult], tmp_path: Path
) -> None:
    folder, result = short
    assert result.document.candidates["CEMP"] < SHORT
    advice = [note for note in result.document.why_short["CEMP"] if "would list" in note]
    assert advice
    for number, note in enumerate(advice):
        settings = settings_in(note.partition(" (and")[0])
        assert isinstance(settings, CatalogSettings)
        cemp = {"goal": "purity", "level": 0.99} | settings.cemp.model_dump(exclude_unset=True)
        more = run(folder, cemp=cemp, catalog=str(tmp_path / f"more{number}"))
        assert more.document.candidates["CEMP"] > result.document.candidates["CEMP"]


def test_the_advice_about_class_shares_can_be_typed(short: tuple[Path, CatalogResult]) -> None:
    _, result = short
    [note] = [note for note in result.document.why_short["CEMP"] if "if you know the class shares" in note]
    settings = settings_in(note.partition("give them: ")[2])
    assert isinstance(settings, CatalogSettings)
    assert settings.cemp.prior == {"MP": 4, "CEMP": 1, "NMP": 95}


def test_flags_that_empty_a_list_are_named_with_the_setting_behind_them(tmp_path: Path) -> None:
    write_survey(tmp_path)
    change(tmp_path, with_column("snr", 2.0))
    result = run(tmp_path)
    assert result.document.candidates == {"MP": 0, "CEMP": 0}
    [note] = [note for note in result.document.why_short["CEMP"] if "flags exclude" in note]
    table = next_of(result, "CEMP")
    assert note.startswith(f"{table.num_rows} more stars belong in it, but flags exclude them: ")
    assert f"{table.num_rows} very low snr; milder: limits.snr_bad=1.5" in note
    assert set(table["not_listed"].to_pylist()) == {"excluded by very low snr"}
    assert table.num_rows == plain()[1].document.candidates["CEMP"], "with a usual signal to noise"
    rules = FlagRules(FlagLimits(snr_bad=1.5))
    assert not (rules.excluding(table, *rules.flags(table)) & CatalogFlag.VERY_LOW_SNR).any()


def metal_rich_by_lines(table: pa.Table) -> pa.Table:
    """The second key calls every fourth star metal-rich, and agrees with the networks about the others."""
    is_rich_N = np.arange(table.num_rows) % 4 == 0
    table = with_column("FeH_lines", np.where(is_rich_N, 0.0, table["FeH"].to_numpy()))(table)
    return with_column("FeH_lines_err", 0.2)(with_column("FeH_err", 0.1)(table))


def test_a_star_that_its_lines_call_metal_rich_is_next_with_the_reason(tmp_path: Path) -> None:
    write_survey(tmp_path)
    change(tmp_path, metal_rich_by_lines)
    required = run(tmp_path, next_best=1000)
    stars = all_stars(required)
    disagree_N = (stars["flag_warn"].to_numpy() & CatalogFlag.KEYS_DISAGREE) != 0
    denied_N = disagree_N & (stars["FeH_lines"].to_numpy() > -0.4)
    thresholds = required.document.thresholds
    cemp_N, mp_N = (
        stars[f"score_{name.lower()}"].to_numpy() >= np.float32(thresholds[name].value)
        for name in ("CEMP", "MP")
    )
    for name, passes_N in (("CEMP", cemp_N), ("MP", mp_N | cemp_N)):
        expected = set(stars.filter(passes_N & denied_N)["star"].to_pylist())
        assert 0 < len(expected) < passes_N.sum()
        reasons = next_of(required, name).filter(pc.field("not_listed") == "excluded by keys disagree")
        assert expected == set(reasons["star"].to_pylist())
        listed = set(stars.filter(passes_N)["star"].to_pylist()) - expected
        assert set(list_of(required, name)["star"].to_pylist()) == listed


def test_a_list_without_validation_stars_of_its_class_says_what_is_missing(tmp_path: Path) -> None:
    write_survey(tmp_path)
    change(tmp_path, scaled(1e-6))
    path = tmp_path / "predictions" / "validation.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.not_equal(table["true_class"], CEMP)), path)
    why = run(tmp_path).document.why_short["CEMP"]
    assert why[0].startswith("the list is empty: its threshold in score_cemp is 0.5")
    assert "only 0 validation stars belong in it, too few to choose a threshold" in why[1]
    assert not any("chosen for" in reason for reason in why)


def test_a_long_list_needs_no_explanation(full: CatalogResult) -> None:
    assert full.document.why_short == {}
    assert "the list is empty" not in report.summary(full, [])


@pytest.mark.parametrize("name", LIST_NAMES)
def test_the_next_best_stars_are_the_best_of_those_not_listed(full: CatalogResult, name: Any) -> None:
    stars, next_best = all_stars(full), next_of(full, name)
    score, listed = f"score_{name.lower()}", f"{name.lower()}_candidate"
    others = stars.filter(pc.and_(pc.invert(stars[listed]), pc.equal(stars["flag_bad"], 0)))
    best = sorted(others[score].to_pylist(), reverse=True)[:20]
    below = next_best.filter(pc.starts_with(next_best["not_listed"], score))
    assert below[score].to_pylist() == best
    flagged = next_best.filter(pc.starts_with(next_best["not_listed"], "excluded by very low snr"))
    assert 0 < flagged.num_rows <= 20
    assert below.num_rows + flagged.num_rows == next_best.num_rows == full.document.next_best[name]


@pytest.mark.parametrize("name", LIST_NAMES)
def test_the_next_best_list_is_ranked_like_a_list_and_repeats_no_candidate(
    full: CatalogResult, name: Any
) -> None:
    candidates, next_best = list_of(full, name), next_of(full, name)
    assert not set(candidates["star"].to_pylist()) & set(next_best["star"].to_pylist())
    assert next_best["rank"].to_pylist() == list(range(1, next_best.num_rows + 1))
    assert (np.diff(next_best[f"score_{name.lower()}"].to_numpy()) <= 0).all()
    only_here = {"not_listed", *PURITY_COLUMNS}
    columns = [[c for c in table.column_names if c not in only_here] for table in (next_best, candidates)]
    assert columns[0] == columns[1]
    files = {path.name for path in Path(full.folder).glob(f"next_{name.lower()}.*")}
    assert files == {f"next_{name.lower()}.{ending}" for ending in ENDINGS.values()}


def test_the_reason_is_true_for_each_of_the_next_best_stars(full: CatalogResult) -> None:
    threshold = full.document.thresholds["CEMP"].value
    for row in next_of(full, "CEMP").to_pylist():
        if row["not_listed"].startswith("excluded by"):
            assert row["score_cemp"] >= np.float32(threshold)
            assert row["flag_bad"] & CatalogFlag.VERY_LOW_SNR
        else:
            assert row["score_cemp"] < threshold
            assert row["not_listed"] == (
                f"score_cemp {row['score_cemp']:.4g} is below the threshold {threshold:.4g}"
            )


def test_without_classes_labels_select_and_the_next_best_are_metal_poor_stars_with_the_most_carbon(
    tmp_path: Path,
) -> None:
    write_survey(tmp_path, classes=False)
    result = run(tmp_path, next_best=10)
    candidates = list_of(result, "CEMP")
    assert candidates.num_rows == result.document.candidates["CEMP"] > 0
    assert min(candidates["CFe"].to_pylist()) >= 0.7
    assert result.document.thresholds == {}
    assert "by labels" in report.summary(result, report.pictures(result))
    table = next_of(result, "CEMP")
    assert table.num_rows == 10
    assert max(table["FeH"].to_pylist()) < -1
    carbon = table["CFe"].to_pylist()
    assert 0.7 > carbon[0] == max(carbon)
    assert carbon == sorted(carbon, reverse=True)
    assert set(table["not_listed"].to_pylist()) == {
        "labels: not [Fe/H] < -1 and [C/Fe] >= 0.7 (criterion carbon_0.7)"
    }


@pytest.mark.parametrize(
    ("level", "prior"),
    [
        pytest.param(0.5, "estimated", marks=pytest.mark.long),
        (0.999, {"MP": 60, "CEMP": 39, "NMP": 1}),
        pytest.param(0.999, {"MP": 1, "CEMP": 1, "NMP": 98}, marks=pytest.mark.long),
    ],
)
def test_each_cemp_candidate_is_an_mp_candidate(tmp_path: Path, level: float, prior: Any) -> None:
    """Whatever the two lists are made for: here the MP list is strict and the CEMP list is wide."""
    write_survey(tmp_path)
    mp = {"goal": "purity", "level": level}
    cemp = {"goal": "completeness", "level": 0.99, "prior": prior}
    result = run(tmp_path, mp=mp, cemp=cemp)
    stars = all_stars(result)
    cemp_N, mp_N = stars["cemp_candidate"].to_numpy(), stars["mp_candidate"].to_numpy()
    assert cemp_N.sum() > SHORT
    assert (mp_N | ~cemp_N).all()
    threshold = np.float32(result.document.thresholds["MP"].value)
    assert np.array_equal(mp_N, (stars["score_mp"].to_numpy() >= threshold) | cemp_N)
    listed = set(list_of(result, "MP")["star"].to_pylist())
    assert set(list_of(result, "CEMP")["star"].to_pylist()) <= listed


def test_the_purity_of_the_mp_list_counts_the_stars_that_the_cemp_list_brings(tmp_path: Path) -> None:
    write_survey(tmp_path)
    truth = str(tmp_path / "truth.csv")
    wide = {"goal": "completeness", "level": 1.0, "prior": "validation"}
    result = run(tmp_path, truth=truth, mp={"goal": "purity", "level": 0.99}, cemp=wide)
    measured = pq.read_table(Path(result.folder) / "truth.parquet").to_pylist()
    for row in measured:
        if row["search"] == "MP":
            expected = getattr(result.document.thresholds["MP"], row["metric"])
            assert expected.low - 0.05 <= row["value"] <= expected.high + 0.05
    purity = result.document.thresholds["MP"].purity.value
    assert purity is not None
    assert purity < 0.99 - 0.05, "without them it is what the goal says"
