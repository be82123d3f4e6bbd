"""A catalogue of labels as plain arrays: ids, positions, labels with errors; a row is kept or refused once.

What a cell is, the settings of its source say; nothing is guessed. Columns that cannot be what they are said
to be (log eps taken for [Fe/H], hours taken for degrees) are errors. Shapes: R rows of the catalogue.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.label_tables import cuts
from survey.label_tables.catalogue_settings import VISIT_IDS, Cut, LabelColumn, LabelSource, Names
from survey.label_tables.label_values import ReadLabels, read_labels
from survey.label_tables.solar import SolarScale
from survey.label_tables.star_positions import StarPositions, read_positions
from survey.labelling import keys, star_id, values
from survey.labels import LABELS
from survey.tables.read import TableFile, open_table

Floats = NDArray[np.float64]
PARTS = "parts"
"""In place of the name of a column: the visit follows from the columns of its parts (lmjd, planid, ...)."""

KEPT = ""
NO_LABEL, NO_KEY = "no label", "neither id nor position"
NAME_DISAGREES = "name and position disagree"


@dataclass
class CatalogueRows:
    """The rows of a source.

    `reason_R` is empty where a row is kept, else says why it is not used. `ids` are texts by kind.
    `correction_R` is the evolutionary correction of [C/Fe]. `columns` are the columns of the labels.
    """

    name: str
    source: LabelSource
    ids: dict[str, pa.Array]
    positions: StarPositions
    labels: ReadLabels
    snr_R: Floats
    correction_R: Floats
    reason_R: NDArray[np.object_]
    columns: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reason_R)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """The rows that are kept until now."""
        return np.asarray(self.reason_R == KEPT, bool)

    def refuse(self, wrong_R: NDArray[np.bool_], reason: str) -> None:
        """Refuse the rows that were kept until now."""
        self.reason_R[self.kept & wrong_R] = reason


def read_catalogue(name: str, source: LabelSource, path: str, solar: SolarScale) -> CatalogueRows:
    """The rows of a source from its file."""
    table = open_table(path)
    source = source if source.labels or source.carbon_correction else _with_usual_labels(source, table)
    found = _Columns(name, source, table)
    cells = table.read(found.wanted())
    snr_R = np.full(cells.num_rows, np.nan)
    if column := found.first(source.snr):
        snr_R = keys.to_floats(cells[column].combine_chunks())
    correction_R = np.full(cells.num_rows, np.nan)
    if column := found.first(source.carbon_correction):
        correction_R = keys.to_floats(cells[column].combine_chunks())
        correction_R = np.where(np.abs(correction_R) <= 5, correction_R, np.nan)
    rows = CatalogueRows(
        name,
        source,
        ids=_read_ids(found, cells),
        positions=read_positions(source.position, found.sky(), cells, path),
        labels=read_labels(source, found.labels(), cells, solar, path),
        snr_R=snr_R,
        correction_R=correction_R,
        reason_R=np.full(cells.num_rows, KEPT, object),
        columns={label: column.column[0] for label, column in found.labels().items()},
    )
    _refuse(rows, found, cells)
    return rows


def _refuse(rows: CatalogueRows, found: "_Columns", cells: pa.Table) -> None:
    """Refuses rows by the cuts, those without a label, and those that cannot be found on the sky."""
    for column, cut in found.cuts(rows.source.cuts).items():
        where = f"{found.table.path}: {column}"
        rows.refuse(~cuts.passes(cells[column].combine_chunks(), cut, where), f"cut on {column}")
    has_label_R = np.isfinite(rows.correction_R)
    for label_R in rows.labels.label.values():
        has_label_R |= np.isfinite(label_R)
    rows.refuse(~has_label_R, NO_LABEL)
    rows.refuse(rows.positions.is_outside_R, "position outside the sky")
    rows.refuse(rows.positions.name_disagrees_R, NAME_DISAGREES)
    has_key_R = rows.positions.known.copy()
    for ids in rows.ids.values():
        has_key_R |= ids.is_valid().to_numpy(zero_copy_only=False)
    rows.refuse(~has_key_R, NO_KEY)


def _with_usual_labels(source: LabelSource, table: TableFile) -> LabelSource:
    """The source with the columns that have usual names of labels."""
    found = {}
    for row in LABELS:
        if row.name == "rv":
            continue
        if column := values.label_column(table, row.name, {}):
            error = values.error_column(table, row.name, {})
            found[row.name] = LabelColumn(column=(column,), error=(error,) if error else ())
    if not found:
        raise ValueError(
            f"labels: {table.path}: no column has the usual name of a label; {table.similar('feh')}; "
            "give labels={FeH: {column: ...}} of the source, or its format"
        )
    return source.model_copy(update={"labels": found})


@dataclass
class _Columns:
    """The columns of a file that a source names. A column that is needed and not there is an error."""

    name: str
    source: LabelSource
    table: TableFile

    def first(self, names: Names) -> str | None:
        """The first of the names that the file has; names in another case come last."""
        exact = next((name for name in names if name in self.table.names), None)
        return exact or (self.table.find(*names) if names else None)

    def needed(self, names: Names, what: str) -> str:
        """The same; an error if there is none."""
        column = self.first(names)
        if column is None:
            where = f"; the catalogue is expected from {self.source.where}" if self.source.where else ""
            raise ValueError(
                f"labels: {self.table.path}: there is no column {' or '.join(names)} (for {what}); "
                f"{self.table.similar(names[0])}; give sources.{self.name}.{what}{where}"
            )
        return column

    def ids(self) -> dict[str, str]:
        """The columns of ids, by kind; ids that the file does not have are left out."""
        ids = self.source.ids
        if not ids and not self.source.format:
            usual = keys.key_columns(self.table, {}, "auto")
            found = {"obsid": usual.obsid, "file": usual.file, "visit": usual.visit}
            return {kind: column for kind, column in found.items() if column}
        chosen = {kind: self.first(names) for kind, names in ids.items() if names != (PARTS,)}
        return {kind: column for kind, column in chosen.items() if column}

    def parts(self) -> keys.KeyColumns | None:
        """The columns of the parts of a visit's name, if the source names its visits by them."""
        if self.source.ids.get("visit") != (PARTS,):
            return None
        usual = keys.key_columns(self.table, {}, "auto")
        return usual if usual.parts else None

    def sky(self) -> dict[str, str]:
        """The columns of the position, by ra, dec, pmra, pmdec, epoch, name."""
        sky = self.source.position
        if not sky.ra and not sky.name and not self.source.format:
            usual = keys.key_columns(self.table, {}, "auto")
            return {"ra": usual.ra, "dec": usual.dec} if usual.ra and usual.dec else {}
        found: dict[str, str | None] = {"name": self.first(sky.name)}
        if sky.ra:
            has_other_key = bool(self.ids() or self.parts() or found["name"])
            find = self.first if has_other_key else lambda names: self.needed(names, "position")
            found |= {"ra": find(sky.ra), "dec": find(sky.dec)}
        if isinstance(sky.epoch, str):
            found["epoch"] = self.needed((sky.epoch,), "position.epoch")
        pair = self.first(sky.pmra), self.first(sky.pmdec)
        if all(pair):
            found |= {"pmra": pair[0], "pmdec": pair[1]}
        return {name: column for name, column in found.items() if column}

    def labels(self) -> dict[str, LabelColumn]:
        """The columns of labels, each with the one name that the file has."""
        chosen = {}
        for label, column in self.source.labels.items():
            if column.optional and self.first(column.column) is None:
                continue
            error, limit = self.first(column.error), self.first(column.limit)
            chosen[label] = column.model_copy(
                update={
                    "column": (self.needed(column.column, f"labels.{label}.column"),),
                    "error": (error,) if error else (),
                    "limit": (limit,) if limit else (),
                    "good": self.cuts(column.good),
                }
            )
        return chosen

    def cuts(self, wanted: dict[str, Cut]) -> dict[str, Cut]:
        """The cuts by the columns that the file has."""
        found = {}
        for name, cut in wanted.items():
            column = self.first((name,)) if cut.optional else self.needed((name,), "cuts")
            if column:
                found[column] = cut
        return found

    def wanted(self) -> list[str]:
        """All columns that are read."""
        names = [*self.ids().values(), *self.sky().values(), *self.cuts(self.source.cuts)]
        parts = self.parts()
        names += parts.names() if parts else []
        for label in self.labels().values():
            names += [*label.column, *label.error, *label.limit, *label.good]
        names += [
            name for name in (self.first(self.source.snr), self.first(self.source.carbon_correction)) if name
        ]
        return list(dict.fromkeys(names))


def _read_ids(found: _Columns, cells: pa.Table) -> dict[str, pa.Array]:
    """The ids of each row as text, by kind; visits and files as the names of visits."""
    ids: dict[str, pa.Array] = {}
    none = keys.KeyColumns(None, None, None, None, None, None)
    for kind, column in found.ids().items():
        if kind in VISIT_IDS:
            one = keys.KeyColumns(**{**vars(none), kind: column})
            key = "visit" if kind == "file" else kind
            ids[key] = keys.table_keys(key, cells, one).cast(pa.string())  # type: ignore[arg-type]
        else:
            ids[kind] = star_id.clean_ids(cells[column].combine_chunks(), column)
    if parts := found.parts():
        ids["visit"] = keys.table_keys("visit", cells, parts)
    return ids


def source_path(source: LabelSource, folder: str) -> str:
    """The path of the file of a source."""
    is_absolute = files.is_remote(source.file) or source.file.startswith(("/", "~"))
    return files.absolute(source.file if is_absolute or not folder else files.join(folder, source.file))
