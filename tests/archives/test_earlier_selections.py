"""A folder of several selections: what is shown, what is corrected, and how one is left out."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.archives.archive_server import Served, serve
from tests.archives.test_download import arguments, check_folder
from tests.commands import survey


def test_show_counts_what_earlier_selections_will_still_fetch(served: list[Served], tmp_path: Path) -> None:
    for one in served[:20]:
        one.troubles = ["500 for ever"]
    with serve(served) as server:
        ids = f"ids=[{','.join(one.key for one in served[:20])}]"
        survey(*arguments(server, tmp_path / "out", ids, "retries=0"))
        asked = len(server.asked)
        given = arguments(server, tmp_path / "out", f"ids=[{served[30].key}]", "retries=0")
        files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
        shown = survey(*given, "show=true")
        assert {path: path.read_bytes() for path in files} == files
        assert "wanted: 1 files, 20 more of earlier selections" in shown.stdout
        assert "to fetch: 21 files" in shown.stdout
        assert len(server.asked) == asked
        survey(*given)
        assert len(server.asked) == asked + 21


def test_rows_of_a_wrong_column_do_not_stay_when_the_column_is_corrected(
    served: list[Served], tmp_path: Path
) -> None:
    path = tmp_path / "c.csv"
    path.write_text("obsid,other\n" + "".join(f"{one.key},x\n" for one in served[:5]) + ",x\n")
    wanted = (f"input={path}", "missing_above=0.4")
    with serve(served) as server:
        wrong = survey(*arguments(server, tmp_path / "out", *wanted, "columns={obsid: other}"))
        assert wrong.returncode == 1
        assert "6 of 6 files did not arrive" in wrong.stderr
        assert "remove" not in wrong.stderr
        done = survey(*arguments(server, tmp_path / "out", *wanted))
        assert done.returncode == 0, done.stderr
    missing = pq.read_table(tmp_path / "out/missing.parquet").to_pylist()
    assert [(row["key"], row["reason"]) for row in missing] == [(f"{path}#row-6", "bad_row")]
    assert pq.read_table(tmp_path / "out/catalogue.parquet")["obsid"].to_pylist() == [
        int(one.key) for one in served[:5]
    ]


def test_a_wrong_selection_is_left_out_by_removing_the_plan(served: list[Served], tmp_path: Path) -> None:
    with serve(served) as server:
        survey(*arguments(server, tmp_path / "out", "ids=[424242, 424243]"))
        given = arguments(server, tmp_path / "out", f"ids=[{served[0].key}]", "missing_above=0.05")
        done = survey(*given)
        assert done.returncode == 1
        plan = tmp_path / "out/plan.parquet"
        assert f"if an earlier selection for this folder was wrong, remove {plan}" in done.stderr
        asked = len(server.asked)
        plan.unlink()
        assert survey(*given).returncode == 0
        assert len(server.asked) == asked
    check_folder(tmp_path / "out", served[:1], {})
