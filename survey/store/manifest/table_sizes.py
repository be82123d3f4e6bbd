"""How many spectra a table of them holds, as the start or the end of its file says."""

from survey import files
from survey.sources import reading
from survey.sources.reading import Sources, is_named
from survey.spectrum import Refused
from survey.tables.read import array_rows, first_bytes, parquet_header


def is_array_name(path: str) -> bool:
    """Whether the name is that of a table of spectra."""
    name = path.rpartition("/")[2]
    return name.endswith(".parquet") or (name.startswith("X") and name.endswith(".npy"))


def spectra_in_table(path: str) -> int | None:
    """The number of spectra in a table file; None if it is no table of spectra."""
    start = first_bytes(path)
    if start.startswith(b"\x93NUMPY"):
        return array_rows(path)
    if start.startswith(b"PAR1"):
        names, rows = parquet_header(path)
        return rows if "flux" in map(str.lower, names) else None
    if path.endswith((".npy", ".parquet")):
        raise ValueError(
            f"ingest: {path}: begins with {start[:8]!r}, so it is no {path.rpartition('.')[2]} file; "
            "write it again"
        )
    return None


def check_count(entry: files.Entry, count: int | None) -> None:
    """An error if a file cannot hold as many spectra as its header says: a spectrum takes a byte at least."""
    if count is not None and not 0 <= count <= entry.size:
        raise ValueError(
            f"ingest: {entry.path}: {entry.size:,} bytes cannot hold {count:,} spectra; copy the file again"
        )


def damage_of_table(path: str, sources: Sources) -> Refused | None:
    """Why a table of spectra cannot be read; None if it can, or if the name is not that of a table."""
    try:
        for source, patterns in reading.own_files(sources, "read_rows").items():
            if is_named(path, patterns):
                reading.table_count(source, path, sources[source])
        if is_array_name(path):
            spectra_in_table(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        return Refused("damaged", str(error).removeprefix("ingest: "))
    return None
