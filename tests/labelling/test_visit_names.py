"""Visits that are named after files: equal names in different folders, and in different surveys."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from survey.labelling.common_stars import common_stars, without_distant
from survey.labelling.unlabelled import unlabelled
from survey.labelling.visit_names import distinct_names, file_folders, visits_of_files
from tests.labelling import small_stores

NAMED: dict[str, tuple[str, int, str | None]] = {
    "/a/night1/star001.txt": ("star001", -1, "/a/night1"),
    "/a/Star.FITS.gz": ("Star", -1, "/a"),
    "star001.fits": ("star001", -1, ""),
    "/a/one.two.jpg": ("one.two", -1, "/a"),
    "s3://b/fold1/X.npy": ("X-7", 7, "s3://b/fold1"),
    "/a/night1/star002.txt": ("other", -1, None),
    "/a/spec-55859-F5590_sp01-003.fits.gz": ("55859-F5590-01-003", -1, None),
    "/b/spec-55859-F5590_sp01-003.fits": ("spec-55859-F5590_sp01-003", -1, None),
    "/b/spec-0266-51602-0001.fits": ("266-51602-1", -1, None),
    "/a/tables/s.parquet": ("s", 3, "/a/tables"),
    "/a/galaxies.tar": ("0001", 12, "/a/galaxies.tar/12"),
}


def test_a_visit_that_is_the_name_of_its_file_has_a_folder() -> None:
    visit, row, folder = zip(*NAMED.values(), strict=True)
    found = file_folders(pa.array(visit), pa.array([*NAMED]), pa.array(row))
    assert found.to_pylist() == list(folder)


def test_files_of_one_name_are_named_with_as_many_folders_as_tell_them_apart() -> None:
    paths = ["/a/n1/x.txt", "/a/n2/x.txt", "/a/n2/y.txt", "/p/q/n3/z.txt", "/p/r/n3/z.txt", "/a/n1/x.txt"]
    visits = ["x", "x", "y", "z", "z", "x"]
    rows = pa.table({"path": paths, "visit": visits, "row": [-1] * 6})
    expected = ["n1/x", "n2/x", "y", "q/n3/z", "r/n3/z", "n1/x"]
    assert visits_of_files(rows).to_pylist() == expected
    assert visits_of_files(rows.take([5, 4, 3, 2, 1, 0])).to_pylist() == expected[::-1]
    assert visits_of_files(rows.select(["visit"])).to_pylist() == visits, "nothing is known of the files"
    assert visits_of_files(rows.slice(0, 0)).to_pylist() == []


def test_a_visit_that_a_survey_names_is_the_same_in_every_folder() -> None:
    paths = [f"/dr{number}/spec-55859-F5590_sp01-003.fits.gz" for number in (8, 9)]
    rows = pa.table({"path": paths, "visit": ["55859-F5590-01-003"] * 2, "row": [-1, -1]})
    assert len(visits_of_files(rows).unique()) == 1


def test_a_copy_of_a_file_in_another_table_is_the_same_visit() -> None:
    folders = ["/a/cls/barred", "/b/cls/barred", "/b/cls/spiral", "/a/cls", "/b"]
    names = distinct_names(pa.array(["1", "1", "1", "2", "2"]), pa.array(folders), np.array([0, 1, 1, 0, 1]))
    assert names[0] == names[1] != names[2]
    assert names[3] == names[4]


def test_files_of_one_folder_per_class_are_as_many_stars(tmp_path: Path) -> None:
    rows = [
        small_stores.visit(
            number, path=f"/{kind}/{number:04d}.fits", visit=f"{number:04d}", star=None, ra=None, dec=None
        )
        for kind in ("barred", "spiral")
        for number in range(4)
    ]
    found = unlabelled(small_stores.store(tmp_path, rows, 3))
    assert found.star_N.tolist() == [f"visit {row['path'][1:-5]}" for row in rows]


def test_rows_of_a_name_that_are_far_apart_get_codes_of_their_own() -> None:
    ra = np.array([10, 10.001, 50, 50.001, 7, np.nan, 7, np.nan])
    codes = without_distant(np.array([0, 0, 0, 1, 1, 1, 2, 2]), ra, np.zeros(8))
    assert codes[0] == codes[1]
    assert len(set(codes[[0, 2, 3, 4, 5, 6]].tolist())) == 6
    assert codes[6] == codes[7], "nothing contradicts the name"


def test_stars_of_one_table_stay_together_at_any_distance() -> None:
    ra, star = np.array([10, 50, 50.0001, 120.0]), np.array([0, 0, 1, 0])
    found = common_stars(np.array([0, 0, 1, 1]), star, [], ra, np.zeros(4))
    assert found[0] == found[1] == found[2] != found[3]
