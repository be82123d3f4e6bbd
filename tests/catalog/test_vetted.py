"""Verdicts of people in the lists of a catalog."""

from pathlib import Path

import pyarrow as pa
import pytest

from survey.catalog.settings import ListName
from survey.catalog.vetted import COLUMNS, Vetted
from survey.metrics.intervals import wilson
from survey.reports import catalog as report
from tests.catalog.test_catalog import list_of, plain, plain_copy, run

HEAD = "star,verdict,people,accept,reject,unsure,quality,verdicts,notes,list,list_id"


def verdict_line(star: str, verdict: str, quality: str = "", notes: str = "") -> str:
    return f'{star},{verdict},2,1,1,0,{quality},"ann: x","{notes}",cemp,f00d'


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Predictions, a first catalog, and verdicts about the first stars of its CEMP list."""
    folder = tmp_path_factory.mktemp("vetted")
    plain_copy(folder)
    stars = list_of(plain()[1], "CEMP")["star"].to_pylist()
    lines = [
        verdict_line(star, "accept" if n % 4 else "reject", "3.5", "strong, G band")
        for n, star in enumerate(stars[:20])
    ]
    lines += [verdict_line(stars[20], "unsure"), verdict_line("nobody", "accept")]
    (folder / "verdicts.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder, stars


def test_verdicts_are_in_the_lists_by_the_name_of_the_star(judged: tuple[Path, list[str]]) -> None:
    folder, stars = judged
    result = run(folder, catalog=str(folder / "second"), verdicts=str(folder / "verdicts.csv"))
    rows = {row["star"]: row for row in list_of(result, "CEMP").to_pylist()}
    assert list(rows) == stars
    assert [rows[star]["verdict"] for star in stars[:5]] == ["reject", "accept", "accept", "accept", "reject"]
    first = rows[stars[0]]
    assert (first["verdict_people"], first["verdict_quality"]) == (2, 3.5)
    assert first["verdict_notes"] == "strong, G band"
    assert rows[stars[20]]["verdict"] == "unsure"
    assert {rows[star]["verdict"] for star in stars[21:]} == {""}
    assert set(COLUMNS) <= set(list_of(result, "MP").column_names)


def test_the_accepted_share_is_given_with_its_interval(judged: tuple[Path, list[str]]) -> None:
    folder, _ = judged
    result = run(folder, catalog=str(folder / "second"), verdicts=str(folder / "verdicts.csv"))
    found = result.document.vetted["CEMP"]
    assert (found.accept, found.reject, found.unsure) == (15, 5, 1)
    low, high = wilson(15, 20)
    assert found.purity.value == 0.75
    assert found.purity.low == pytest.approx(float(low))
    assert found.purity.high == pytest.approx(float(high))
    assert "judged by eye: 15 accepted, 5 rejected, 1 unsure; purity of these 0.75" in report.summary(
        result, []
    )


def test_without_verdicts_nothing_is_added(judged: tuple[Path, list[str]]) -> None:
    folder, _ = judged
    result = run(folder)
    assert result.document.vetted == {}
    assert not set(COLUMNS) & set(list_of(result, "CEMP").column_names)


@pytest.mark.parametrize(
    ("list_name", "mp", "cemp"),
    [
        ("cemp", ["accept", None, None], ["accept", "reject", "unsure"]),
        ("next_mp", ["accept", "reject", "unsure"], [None, "reject", None]),
        ("carbon_stars", [None, None, None], [None, None, None]),
        ("", ["accept", "reject", "unsure"], ["accept", "reject", "unsure"]),
    ],
)
def test_a_verdict_counts_for_another_list_only_as_far_as_it_says_something_of_it(
    list_name: str, mp: list[str | None], cemp: list[str | None]
) -> None:
    """A CEMP star is metal-poor; who rejects a star as CEMP has not said that it is not metal-poor."""
    by_star = {verdict: (verdict, 2, 3.0, "note") for verdict in ("accept", "reject", "unsure")}
    vetted = Vetted(by_star, dict.fromkeys(by_star, list_name))
    ranked = pa.table({"star": list(by_star)})
    wanted: dict[ListName, list[str | None]] = {"MP": mp, "CEMP": cemp}
    for name, expected in wanted.items():
        table = vetted.add_to(ranked, name)
        assert table["verdict"].to_pylist() == expected
        assert table["verdict_people"].to_pylist() == [word and 2 for word in expected]
        assert table["verdict_quality"].to_pylist() == [3.0] * 3
        found = vetted.records({name: table})[name]
        assert [found.accept, found.reject] == [expected.count("accept"), expected.count("reject")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("star,verdict,look\na,accept,1\n", "no column people; give the table of survey report merge"),
        (
            f"{HEAD}\n{verdict_line('a', 'maybe')}\n",
            "row 2: the verdict is 'maybe'; give accept, reject, unsure",
        ),
        ("star,verdict,people\na,accept,\n", "row 2: people is None, quality None; give a whole number"),
        ("star,verdict,people\na,accept,2.5\n", "row 2: people is '2.5', quality None; give a whole"),
        ("star,verdict,people,quality\na,accept,1,good\n", "row 2: people is '1', quality 'good'; give"),
        ("star,verdict,people\na,accept,99999999999\n", "row 2: people is '99999999999', .* up to 1,000,000"),
        ("star,verdict,people\n,accept,1\n", "row 2: the star has no name; give its name, or leave"),
        ("star,verdict,people\na,accept,1\na,reject,1\n", "row 3: the star a is there twice; keep one row"),
    ],
)
def test_what_is_no_merged_table_is_refused(text: str, message: str, judged: tuple[Path, list[str]]) -> None:
    folder, _ = judged
    path = folder / "wrong.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        run(folder, catalog=str(folder / "third"), verdicts=str(path))
