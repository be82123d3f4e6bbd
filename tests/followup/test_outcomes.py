"""What observed stars are, from tables as people write them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.followup.followup_document import FollowupDocument, SiteRecord
from survey.followup.outcomes import Outcomes, read_outcomes
from survey.settings import SettingsError

SITE = SiteRecord(name="x", longitude=0, latitude=0, height=0, dark_hours=10)


def document(search: str = "CEMP", criterion: str = "carbon_0.7") -> FollowupDocument:
    return FollowupDocument(
        version=1,
        id="x",
        settings={},
        of="x",
        of_id="x",
        search=search,
        definition="",
        criterion=criterion,
        site=SITE,
        listed=4,
        rejected=0,
        verdicts={},
        left_out={},
        by_yield=2,
        random=1,
        hours=1.0,
        expected=1.0,
        purity=0.5,
        promised=None,
        error=None,
        strata=(),
    )


def read(tmp_path: Path, text: str, search: str = "CEMP", criterion: str = "carbon_0.7") -> Outcomes:
    path = tmp_path / "results.csv"
    path.write_text(text)
    return read_outcomes(str(path), document(search, criterion), ["A", "B", "C", "D"], ["E"])


def test_words_for_true_and_false_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, "star,true\nA,True\nB,no\nC,1\nD,0\n")
    assert found.true_by_star == {"A": True, "B": False, "C": True, "D": False}
    assert read(tmp_path, "Star,Verdict\nA,TRUE\nB,\n").counts == {
        "rows": 2,
        "used": 1,
        "without a result": 1,
    }


def test_a_fraction_is_no_answer_and_whole_floats_are(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    pq.write_table(pa.table({"star": ["A", "B", "C"], "true": [1.0, 0.0, None]}), path)
    found = read_outcomes(str(path), document(), ["A", "B", "C"], [])
    assert found.true_by_star == {"A": True, "B": False}
    pq.write_table(pa.table({"star": ["A", "B"], "true": [1.0, 0.9]}), path)
    with pytest.raises(SettingsError, match=r"row 3: true is '0\.9'; give true, false or nothing"):
        read_outcomes(str(path), document(), ["A", "B"], [])


def test_an_empty_verdict_leaves_the_decision_to_measured_labels(tmp_path: Path) -> None:
    assert read(tmp_path, "star,verdict,FeH,CFe\nA,,-2,1\nB,,-2,0\n").true_by_star == {"A": True, "B": False}
    assert read(tmp_path, "star,verdict,FeH,CFe\nA,yes,-2,0\nB,,-2,1\n").true_by_star == {"A": True}
    assert read(tmp_path, "star,true,verdict\nA,,yes\nB,,\n").true_by_star == {"A": True}
    for text in ("star,verdict\nA,\n", "star,true,FeH,CFe\nA,,-2,1\n"):
        with pytest.raises(SettingsError, match="1 without a result"):
            read(tmp_path, text)


def test_measured_labels_decide_by_the_definition(tmp_path: Path) -> None:
    text = "star,FeH,CFe\nA,-2.0,1.0\nB,-2.0,0.3\nC,-0.5,\nD,-2.5,\n"
    found = read(tmp_path, text)
    assert found.true_by_star == {"A": True, "B": False, "C": False}
    assert found.counts["without a result"] == 1, "a metal-poor star without carbon is not decided"
    assert read(tmp_path, text, "MP").true_by_star == {"A": True, "B": True, "C": False, "D": True}
    assert read(tmp_path, text, criterion="carbon_1.0").true_by_star["A"]
    assert read(tmp_path, "star,[Fe/H],[C/H]\nA,-2.0,-1.0\n").true_by_star == {"A": True}
    assert read(tmp_path, "star,FeH,CFe\nA,-9999,-9999\nB,-2,2\n").counts["without a result"] == 1


def test_carbon_counts_from_either_of_its_labels_in_each_row(tmp_path: Path) -> None:
    found = read(tmp_path, "star,FeH,CFe,CH\nA,-2.0,,-1.0\nB,-2.0,0.3,-1.0\nC,-2.0,,\n")
    assert found.true_by_star == {"A": True, "B": False}


def test_beside_a_column_true_labels_do_not_count(tmp_path: Path) -> None:
    """They may be predicted: a person adds the column to the table of the sample."""
    text = "star,true,chosen_for,FeH,CFe\nA,false,yield,-2,1\nB,,yield,-2,1\n"
    for table in (text, text.replace("chosen_for,", "").replace("yield,", "")):
        found = read(tmp_path, table)
        assert found.true_by_star == {"A": False}
        assert found.counts["without a result"] == 1


@pytest.mark.parametrize("column", ["chosen_for", "Chosen_For", "inclusion_probability", "score_cemp"])
def test_the_predicted_labels_of_a_sample_are_no_results(column: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"has the column {column}, so its FeH is what .* predict; add "):
        read(tmp_path, f"star,{column},FeH,CFe\nA,1,-2,1\n")


def test_other_stars_and_equal_rows_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, "star,true\nA,true\nA,yes\nE,true\nZ,false\n")
    assert found.true_by_star == {"A": True}
    assert found.counts == {
        "rows": 4,
        "used": 1,
        "twice": 1,
        "of the list, but not in the sample": 1,
        "not in the list": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("star,true\nA,true\nB,no\nA,false\n", "star A: row 2 and row 4 say the opposite; keep one of them"),
        ("star,true\nA,perhaps\n", "row 2: true is 'perhaps'; give true, false or nothing"),
        ("star,verdict\nA,accept\n", "accept is a verdict by eye.*give this table as verdicts="),
        (
            "star,true\nA,yes\n3.21099E+18,no\n",
            r"column star: 1 ids, such as 3.21099E\+18, .* Write this column as",
        ),
        ("name,true\nA,true\n", "no column star; "),
        ("star,quality\nA,3\n", r"no column true \(true or false\), or FeH and CFe; "),
        ("star,true\nZ,true\n", "none of its 1 rows is a result of a star of the sample"),
        ("star,true\n", "has no rows, only the columns star, true"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
