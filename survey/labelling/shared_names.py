"""Keys that are the names of files: where several files of a store have one name, paths tell them apart.

Shapes: R rows of the table, N spectra of the store, S spectra whose names others have too.
"""

from collections import defaultdict
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.labelling import keys
from survey.labelling.keys import KeyColumns
from survey.labelling.visit_names import file_folders, repeated_rows, replaced

NameKey = Literal["file", "visit"]
NAME_KEYS: tuple[NameKey, ...] = ("file", "visit")
"""A visit is named after its file, unless a survey or a user has named it."""


def name_keys(
    key: NameKey, table: pa.Table, columns: KeyColumns, spectra: pa.Table
) -> tuple[pa.Array, pa.Array]:
    """The values of such a key in a label table and in a store: names of files without folders, or of visits.

    Files of the store that share a name have their paths instead. A row of the table with such a name gets
    the path that ends as what the table gives; none if no path does, or several do.
    """
    name_R, name_N = keys.table_keys(key, table, columns), keys.store_keys(key, spectra)
    named = _named_columns(key, columns)
    rows = repeated_rows(name_N) if named else np.empty(0, np.int64)
    if not rows.size:
        return name_R, name_N
    path_S = _paths_of_files(key, spectra.take(pa.array(rows)))
    files = pa.table({"name": name_N.take(pa.array(rows)), "path": path_S}).drop_null()
    counted = files.group_by("name", use_threads=False).aggregate([("path", "count_distinct")])
    shared = counted.filter(pc.greater(counted["path_count_distinct"], 1))["name"].combine_chunks()
    is_shared_R, is_shared_S = pc.is_in(name_R, value_set=shared), pc.is_in(files["name"], value_set=shared)
    given_R = pc.coalesce(*(keys.null_if_empty(_paths(table[name].combine_chunks())) for name in named))
    paths = pc.unique(files["path"].filter(is_shared_S)).to_pylist()
    full_R = pa.array(_full_paths(pc.if_else(is_shared_R, given_R, None).to_pylist(), paths), pa.string())
    is_one_of_several_S = pc.is_in(path_S, value_set=pa.array(paths, pa.string()))
    path_S = pc.if_else(is_one_of_several_S, path_S, name_N.take(pa.array(rows)))
    return pc.if_else(is_shared_R, full_R, name_R), replaced(name_N, rows, path_S)


def _named_columns(key: NameKey, columns: KeyColumns) -> list[str]:
    """The columns of a table that give a key as the path of a file."""
    named = (columns.file, columns.image) if key == "file" else (columns.visit,)
    return [name for name in named if name]


def _paths_of_files(key: NameKey, spectra: pa.Table) -> pa.Array:
    """The path of the file that gives a spectrum its name; null if it has another name."""
    if key == "file":
        is_own_file = pc.less(spectra["row"].combine_chunks(), 0)
        return _paths(pc.if_else(is_own_file, spectra["path"].combine_chunks(), None))
    visit = spectra["visit"].combine_chunks()
    folder = file_folders(visit, spectra["path"].combine_chunks(), spectra["row"].combine_chunks())
    return _paths(pc.binary_join_element_wise(folder, visit, "/"))


def has_unclear_name(table: pa.Table, columns: KeyColumns, spectra: pa.Table) -> NDArray[np.bool_]:
    """Rows with the name of several files of the store, and a path that does not tell which of them it is."""
    unclear_R = np.zeros(table.num_rows, bool)
    for key in NAME_KEYS:
        if _named_columns(key, columns):
            key_R, name_R = name_keys(key, table, columns, spectra)[0], keys.table_keys(key, table, columns)
            unclear_R |= pc.and_(key_R.is_null(), name_R.is_valid()).to_numpy(zero_copy_only=False)
    return unclear_R


def _paths(paths: pa.Array) -> pa.Array:
    """Paths as they are compared: without ./ and ../ before them, the name as `file_stems` gives it."""
    text = pc.replace_substring(pc.utf8_trim_whitespace(pc.cast(paths, pa.string())), "\\", "/")
    folders = pc.replace_substring_regex(pc.replace_substring_regex(text, r"[^/]*$", ""), r"^(\.{1,2}/)+", "")
    return pc.binary_join_element_wise(folders, keys.file_stems(text), "")


def _full_paths(given: list[str | None], paths: list[str]) -> list[str | None]:
    """For each given path the only path that ends so, None if there is none, or more than one.

    Leading folders that no path has are left out, but one folder stays: a table may be from another machine.
    Of given paths that then mean one path, the one that agrees longest is right.
    """
    path_of_end = _paths_by_end(paths)
    full_of: dict[str, str | None] = {}
    shortened = defaultdict[str, list[tuple[int, str]]](list)
    for path in {path for path in given if path}:
        parts = path.split("/")
        ends = ("/".join(parts[first:]) for first in range(max(len(parts) - 1, 1)))
        end = next((end for end in ends if end in path_of_end), "")
        full = path_of_end.get(end)
        if end == path:
            full_of[path] = full
        elif full:
            shortened[full].append((end.count("/"), path))
    for full in shortened.keys() - full_of.values():
        most = max(agreeing for agreeing, _ in shortened[full])
        best = [path for agreeing, path in shortened[full] if agreeing == most]
        if all(max(best, key=len).endswith(path) for path in best):  # else they are several files
            full_of |= dict.fromkeys(best, full)
    return [full_of.get(path) if path else None for path in given]


def _paths_by_end(paths: list[str]) -> dict[str, str | None]:
    """The path of each end of a path; None for an end of several."""
    path_of_end: dict[str, str | None] = {}
    for path in paths:
        parts = path.split("/")
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            path_of_end[end] = path if path_of_end.get(end, path) == path else None
    return path_of_end
