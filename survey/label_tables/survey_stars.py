"""The stars that labels are wanted for: those of a survey's catalogue or a store, with all their visits.

Rows with the same id are one star. So are rows within 3 arcsec of each other, as in the store: one star has
several designations, which are made from measured coordinates. Only two Gaia ids are two stars at any
distance. Shapes: N visits, S stars.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey import files
from survey.label_tables.catalogue_settings import STAR_IDS, VISIT_IDS, Names, SkyColumns
from survey.label_tables.settings import SurveyColumns
from survey.label_tables.star_positions import StarPositions, read_positions
from survey.labelling import keys, star_id
from survey.labelling.star_id import Codes, Floats
from survey.store.store import STORE, open_store
from survey.tables.columns import CATALOGUE_COLUMNS, FILE_COLUMNS
from survey.tables.read import TableFile, open_table

USUAL_IDS: dict[str, tuple[str, ...]] = {
    "gaia_dr3": ("gaia_source_id", "gaia_dr3_source_id", "source_id"),
    "designation": ("designation", "desig", "lamost", "star"),
    "apogee_id": ("apogee_id",),
}
"""The usual names of columns of ids. A gaia_source_id is taken for that of DR3;
`survey.ids` may say that it is that of DR2."""

GAIA_IDS = {"gaia_dr3", "gaia_dr2"}
USUAL_SNR = ("snr_g", "snrg", "snr", "snr_r", "snrr")
USUAL_MOTION = (("pmra", "pm_ra"), ("pmdec", "pmde", "pm_dec"))
CARRIED = ("obsdate", "lmjd", "planid", "spid", "fiberid", "plate", "mjd", "class", "subclass", *FILE_COLUMNS)
"""Columns that the result keeps: they name the file of a visit, and say what the survey calls the object."""


@dataclass
class SurveyStars:
    """The visits of a survey, and the star of each. `ids` are texts by kind; `carried` are other columns."""

    path: str
    ids: dict[str, pa.Array]
    positions: StarPositions
    snr_N: Floats
    carried: dict[str, pa.Array]
    star_N: Codes
    name_S: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.star_N)

    @property
    def stars(self) -> int:
        """Number of stars."""
        return len(self.name_S)

    def best_visits(self, usable_N: NDArray[np.bool_]) -> Codes:
        """The usable visit with the highest S/N of each star; -1 for a star without one."""
        order = np.lexsort((np.arange(len(self)), -np.nan_to_num(self.snr_N, nan=-np.inf), self.star_N))
        order = order[usable_N[order]]
        first = np.flatnonzero(np.diff(self.star_N[order], prepend=-1))
        best_S = np.full(self.stars, -1, np.int64)
        best_S[self.star_N[order[first]]] = order[first]
        return best_S


def open_survey(path: str, settings: SurveyColumns) -> SurveyStars:
    """The stars of a store or of a catalogue."""
    path = files.absolute(path)
    if files.exists(files.join(path, STORE.file)):
        opened, table = _read_store(path, settings)
    else:
        opened = open_table(path)
        table = opened.read(_wanted(settings, opened))
    return _stars(table, settings, opened)


def _read_store(path: str, settings: SurveyColumns) -> tuple[TableFile, pa.Table]:
    """The columns of a store that are wanted, without its pixels."""
    store, tables = open_store(path), []
    for shard in range(store.shards):
        with files.open_file(store.file(shard)) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            opened = TableFile(path, tuple(file.schema_arrow.names), "parquet")
            tables.append(file.read(columns=_wanted(settings, opened), use_threads=False))
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables]).combine_chunks()
    if not table.num_rows:
        raise ValueError(f"labels: to: {path}: the store has no spectra; give another one")
    return opened, table


def _wanted(settings: SurveyColumns, table: TableFile) -> list[str]:
    """The columns that are read. A column of the user that is not there is an error."""
    given = {f"ids.{kind}": names for kind, names in settings.ids.items()}
    given |= {name: getattr(settings, name) for name in ("ra", "dec", "pmra", "pmdec", "snr")}
    for setting, names in given.items():
        if names and not table.find(*names):
            raise ValueError(
                f"labels: survey.{setting}: {table.path}: there is no column {' or '.join(names)}; "
                f"{table.similar(names[0])}"
            )
    found = [table.find(*names) for names in _id_names(settings).values()]
    found += [table.find(*names) for names in _sky_names(settings).values()]
    found += [*_snr_names(settings, table), *(table.find(name) for name in (*CARRIED, "visit"))]
    return [name for name in dict.fromkeys(found) if name]


def _id_names(settings: SurveyColumns) -> dict[str, Names]:
    """The names of the columns of ids, by kind: those of the settings, else the usual ones."""
    usual = USUAL_IDS | {"obsid": CATALOGUE_COLUMNS["obsid"], "visit": ("visit",)}
    if "gaia_dr2" in settings.ids:
        usual.pop("gaia_dr3")
    return usual | settings.ids


def _sky_names(settings: SurveyColumns) -> dict[str, Names]:
    return {
        "ra": settings.ra or CATALOGUE_COLUMNS["ra"],
        "dec": settings.dec or CATALOGUE_COLUMNS["dec"],
        "pmra": settings.pmra or USUAL_MOTION[0],
        "pmdec": settings.pmdec or USUAL_MOTION[1],
    }


def _snr_names(settings: SurveyColumns, table: TableFile) -> list[str]:
    """The columns of S/N, the preferred one first: a store has those of all surveys, whoever fills them."""
    found = map(table.find, settings.snr or USUAL_SNR)
    return [name for name in dict.fromkeys(found) if name]


def _snr(table: pa.Table, names: list[str]) -> Floats:
    """The S/N of each visit, from the first of these columns that has a number there; else NaN."""
    snr_N = np.full(table.num_rows, np.nan)
    for name in names:
        snr_N = np.where(np.isnan(snr_N), keys.to_floats(table[name].combine_chunks()), snr_N)
    return snr_N


def _stars(table: pa.Table, settings: SurveyColumns, opened: TableFile) -> SurveyStars:
    find, path = opened.find, opened.path
    sky = {name: column for name, names in _sky_names(settings).items() if (column := find(*names))}
    if not {"pmra", "pmdec"} <= sky.keys():
        sky = {name: column for name, column in sky.items() if not name.startswith("pm")}
    if not {"ra", "dec"} <= sky.keys():
        sky = {}
    positions = read_positions(SkyColumns(unit="deg", epoch=settings.epoch), sky, table, path)
    ids = _ids(table, _id_names(settings), opened)
    if not sky and not ids:
        raise ValueError(
            f"labels: to: {path}: there is no column of an id (obsid, gaia_source_id, designation ...) or a "
            f"position; the columns are {', '.join(opened.names[:40])}; give survey.ids= or survey.ra="
        )
    carried = {name: table[name].combine_chunks() for name in dict.fromkeys(filter(None, map(find, CARRIED)))}
    star_N, name_S = _find_stars(ids, positions, table.num_rows)
    return SurveyStars(
        path,
        ids,
        positions,
        _snr(table, _snr_names(settings, opened)),
        {name.lower(): column for name, column in carried.items()},
        star_N,
        name_S,
    )


def _ids(table: pa.Table, names: dict[str, Names], opened: TableFile) -> dict[str, pa.Array]:
    """The ids of each visit as text, by kind. The visit follows from its parts where no column names it."""
    none = keys.KeyColumns(None, None, None, None, None, None)
    ids: dict[str, pa.Array] = {}
    for kind, wanted in names.items():
        column = opened.find(*wanted)
        if column is None:
            continue
        if kind in VISIT_IDS:
            one = keys.KeyColumns(**{**vars(none), kind: column})
            key = "visit" if kind == "file" else kind
            ids[key] = keys.table_keys(key, table, one).cast(pa.string())  # type: ignore[arg-type]
        else:
            ids[kind] = star_id.clean_ids(table[column].combine_chunks(), column)
    if "visit" not in ids:
        parts = keys.key_columns(replace(opened, names=tuple(table.column_names)), {}, "auto")
        if parts.parts:
            ids["visit"] = keys.table_keys("visit", table, parts)
    return ids


def _find_stars(
    ids: dict[str, pa.Array], positions: StarPositions, rows: int
) -> tuple[Codes, NDArray[np.object_]]:
    """The star of each visit, and the names of the stars."""
    encoded = {kind: star_id.encode(ids[kind]) for kind in STAR_IDS if kind in ids}
    ra_N = np.where(positions.known, positions.ra_R, np.nan)
    near_N = star_id.friends_of_friends(ra_N, positions.dec_R)
    for kind in GAIA_IDS & encoded.keys():
        near_N = _without_neighbours(near_N, encoded[kind][0])
    star_N = star_id.connect(*(codes for codes, _ in encoded.values()), near_N)
    numbered = pc.binary_join_element_wise("row", pa.array(np.arange(rows)).cast(pa.string()), " ")
    visits = pc.coalesce(*(ids[kind] for kind in ("visit", "obsid") if kind in ids), numbered)
    return star_N, star_id.name_stars(star_N, [*encoded.values()], ra_N, positions.dec_R, visits)


def _without_neighbours(near_N: Codes, gaia_N: Codes) -> Codes:
    """The codes of visits near each other; -1 for those with a Gaia id where another Gaia id is near."""
    has_both_N = (near_N >= 0) & (gaia_N >= 0)
    codes = gaia_N.max(initial=0) + 1
    pairs = np.unique(near_N[has_both_N] * codes + gaia_N[has_both_N])
    stars = np.bincount(pairs // codes, minlength=near_N.max(initial=0) + 1)
    return np.where(has_both_N & (stars[near_N] > 1), -1, near_N)
