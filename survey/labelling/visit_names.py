"""Whether the name of a visit says which spectrum or image it is: the one place where this is decided.

LAMOST and SDSS name each visit once. Other spectra and images are named after their file, and files in two
folders may have one name: many surveys, nights and classes count their files from 1. Such a name counts where
one file has it. Where several have it, each is named with as many of its folders as tell them apart:
`night1/star001`. Shapes: N rows, F folders.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.labelling.star_id import Codes, encode
from survey.sources.naming import namings

FOLDER = "folder"
"""The column of samples with the folder of a file after which a visit is named, null for other visits."""

FILE_COLUMNS = ("visit", "path", "row")


def with_folders(table: pa.Table) -> pa.Table:
    """The table with its column of folders, from the visit, the path and the row in a file of many."""
    if FOLDER in table.column_names or not set(FILE_COLUMNS) <= set(table.column_names):
        return table
    visit, path, row = (array(table[name]) for name in FILE_COLUMNS)
    return table.append_column(FOLDER, file_folders(visit, path, row))


def file_folders(visit: pa.Array, path: pa.Array, row: pa.Array) -> pa.Array:
    """The folder of each file after which a visit is named; null where a survey or a user has named it.

    An image in a tar file has the tar file and its own number in there as its folder.
    """
    path = pc.cast(path, pa.string())
    name = pc.replace_substring_regex(path, r"^.*/", "")
    begins_so = pc.equal(
        *(pc.utf8_slice_codeunits(text, 0, 1) for text in (name, visit))
    )  # most others end here
    in_tar = pc.and_(pc.ends_with(path, ".tar", ignore_case=True), pc.greater_equal(row, 0))
    rows = _where(pc.or_kleene(begins_so, in_tar))
    name, visit, path, row, in_tar = (
        column.take(pa.array(rows)) for column in (name, visit, path, row, in_tar)
    )
    plain = pc.replace_substring_regex(name, r"\.gz$", "")
    stem = pc.list_element(pc.split_pattern(plain, ".", max_splits=1, reverse=True), 0)
    number = pc.cast(row, pa.string())
    named_N = pc.or_(pc.equal(visit, plain), pc.equal(visit, stem))
    named_N = pc.or_(named_N, pc.equal(visit, pc.binary_join_element_wise(stem, number, "-")))
    for naming in namings():  # such files are named after the visit
        named_N = pc.and_(named_N, pc.invert(pc.match_substring_regex(stem, naming.file)))
    folder = pc.replace_substring_regex(path, r"/?[^/]*$", "")
    folder = pc.if_else(in_tar, pc.binary_join_element_wise(path, number, "/"), folder)
    folder = pc.if_else(pc.or_(named_N, in_tar), folder, None)
    return replaced(pa.nulls(len(begins_so), pa.string()), rows, folder)


def distinct_names(visit: pa.Array, folder: pa.Array, table_N: Codes | None = None) -> pa.Array:
    """Names of visits that are equal only for the same file, or for visits that a survey or user has named.

    `table_N` numbers the tables of the rows. Files of two tables may be copies in other folders: a name that
    one file of each table has is one visit. Where several files of one table have it, the folders are
    compared too, as far as they tell these files apart.
    """
    visit = pc.cast(visit, pa.string())
    folder_N, folder_F = encode(folder)
    name_N = encode(visit)[0]
    rows = np.flatnonzero((name_N >= 0) & (folder_N >= 0))
    table_N = np.zeros(len(visit), np.int64) if table_N is None else table_N
    tables, names, depth = int(table_N.max(initial=0)) + 1, visit, 0
    name_R = name_N[rows]
    while True:
        place_R = name_R * tables + table_N[rows]
        files = np.sort(place_R * len(folder_F) + folder_N[rows])
        other_file = files[1:][(np.diff(files) > 0) & (np.diff(files // max(len(folder_F), 1)) == 0)]
        shared = np.zeros(int(name_R.max(initial=-1)) + 1, bool)
        shared[other_file // max(len(folder_F), 1) // tables] = True
        rows = rows[shared[name_R]]
        if not rows.size:
            return names
        depth += 1
        end_F = pc.replace_substring_regex(folder_F, rf"^.*/((?:[^/]*/){{{depth - 1}}}[^/]*)$", r"\1")
        ends, stems = end_F.take(pa.array(folder_N[rows])), visit.take(pa.array(rows))
        longer = pc.binary_join_element_wise(ends, stems, "/")
        names, name_R = replaced(names, rows, longer), encode(longer)[0]


def visits_of_files(table: pa.Table) -> pa.Array:
    """The names of the visits of all rows of one store or of predictions (see `distinct_names`).

    Without columns of files, the names are taken as they are.
    """
    visit = pc.cast(array(table["visit"]), pa.string())
    if not set(FILE_COLUMNS) <= set(table.column_names):
        return visit
    rows = repeated_rows(visit)
    if not rows.size:
        return visit
    repeated = with_folders(table.select(FILE_COLUMNS).take(pa.array(rows)))
    names = distinct_names(array(repeated["visit"]), array(repeated[FOLDER]))
    return replaced(visit, rows, names)


def repeated_rows(texts: pa.Array) -> NDArray[np.int64]:
    """The rows with a text that other rows have too."""
    code_N = encode(texts)[0]
    count = np.bincount(code_N + 1)
    return np.flatnonzero((code_N >= 0) & (count[code_N + 1] > 1))


def replaced(texts: pa.Array, rows: NDArray[np.int64], others: pa.Array) -> pa.Array:
    """The texts with other ones at these rows."""
    index = np.arange(len(texts))
    index[rows] = len(texts) + np.arange(len(rows))
    return pa.concat_arrays([texts, others.cast(texts.type)]).take(pa.array(index))


def _where(mask: pa.Array) -> NDArray[np.int64]:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))


def array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
