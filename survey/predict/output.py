"""Predictions on disk: the files of their folder, the columns of their tables, and how they are opened.

settings.json        the settings, the ensemble and the input; written first
plan.json            batch, precision and compilation, which are fixed before the first shard
predictions/         a Parquet file per shard of the input, one row per spectrum
refused/             files that did not become a spectrum, with the reason (only with survey files as input)
markers/             counts and checksums of each shard
arrays/              probabilities and labels as .npy files, if wanted
validation.parquet   the answers of the ensemble for its validation spectra, with the truth
population.parquet   the same for its test population, if it has one
shards.parquet       all markers as a table
predictions.json     the document; written last

A row has the identity columns of the store, its position in the input, the answers (`survey.answers`), and
[Fe/H] from indices of lines, which knows nothing of the networks (`survey.ensemble.line_key`).
An unknown number is null.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from survey.answers import LINE_COLUMNS, RULED_OUT_COLUMN, ColumnSpec, answer_columns
from survey.checked import WrittenFile
from survey.folder import Document, Folder, Kind
from survey.labels import label
from survey.predict.settings import Precision
from survey.spectrum import VISIT_COLUMNS
from survey.store.indices import INDICES
from survey.store.markers import SHARDS, Marker, markers_from, shard_file
from survey.store.schema import STORE_COLUMNS
from survey.tables.columns import described_field

PLAN, ARRAYS = "plan.json", "arrays"
VALIDATION, POPULATION = "validation.parquet", "population.parquet"

NOT_KEPT = ("crc", "n_good", "n_outlier")
IDENTITY_COLUMNS: dict[str, tuple[str, str]] = {name: STORE_COLUMNS[name] for name in ("path", "row")}
IDENTITY_COLUMNS |= VISIT_COLUMNS
IDENTITY_COLUMNS |= {name: column for name, column in STORE_COLUMNS.items() if name not in NOT_KEPT}
"""The columns that come from the store unchanged: Arrow type, description."""

UNITS = {"ra": "deg", "dec": "deg", "lmjd": "d", "velocity": "km s-1", "egp": "mag"}
UNITS |= dict.fromkeys(("mag_g", "mag_r", "mag_i", "mag_gaia"), "mag")
"""The units of the store's columns; those of labels are in `survey.labels`."""

UCDS = {
    "path": "meta.id;meta.file",
    "row": "meta.record",
    "visit": "meta.id;obs",
    "star": "meta.id;src",
    "obsid": "meta.id;obs.sequence",
    "survey": "meta.curation",
    "layout": "meta.note",
    "release": "meta.version",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "lmjd": "time.epoch;obs",
    "planid": "meta.id;obs.field",
    "spid": "meta.id;instr",
    "fiberid": "meta.id;instr",
    "fiber_mask": "meta.code.qual;instr",
    "class": "src.class",
    "subclass": "src.spType",
    "z": "src.redshift",
    "z_err": "stat.error;src.redshift",
    "snr_u": "stat.snr;em.opt.U",
    "snr_g": "stat.snr;em.opt.B",
    "snr_r": "stat.snr;em.opt.R",
    "snr_i": "stat.snr;em.opt.I",
    "snr_z": "stat.snr;em.opt.I",
    "gaia_source_id": "meta.id.cross",
    "mag_g": "phot.mag;em.opt.B",
    "mag_r": "phot.mag;em.opt.R",
    "mag_i": "phot.mag;em.opt.I",
    "mag_gaia": "phot.mag;em.opt",
    "mag_system": "meta.note;phot",
    "velocity": "spect.dopplerVeloc.opt",
    "snr": "stat.snr;em.opt",
    "coverage": "stat.filling",
    "bad_share": "stat.value",
    "egp": "phot.color;em.opt.B",
    **{name: "spect.index" if index.is_ratio else "spect.line.eqWidth" for name, index in INDICES.items()},
    "flags": "meta.code.qual",
    "flux_scale": "arith.factor",
}
"""The meaning of the store's columns in the vocabulary of the IVOA (UCD1+)."""

POSITION_COLUMNS: dict[str, ColumnSpec] = {
    "shard": ("int32", "shard of the input", "", "meta.number"),
    "row_in_shard": ("int32", "row of the spectrum in its shard", "", "meta.record"),
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(_Part):
    """What is fixed before the first shard, so that every shard and every rerun gives the same numbers."""

    batch: int
    precision: Precision
    compiled: bool = False
    notes: tuple[str, ...] = ()


class MemberReference(_Part):
    """A member of the ensemble: a run, at its full path."""

    name: str
    path: str
    id: str
    model: str


class EnsembleReference(_Part):
    """The ensemble that predicted; `ranges` are the lowest and highest label among its training spectra."""

    path: str
    id: str
    members: tuple[MemberReference, ...]
    calibrated: bool
    domain: bool
    ranges: dict[str, tuple[float, float]]


class MissedShare(_Part):
    """The share of the tested spectra near a list that a cascade rules out, and the most that is likely."""

    share: float | None
    high: float | None


class CascadeReference(_Part):
    """The cascade that predicted: its id, the member that saw all spectra, and what it misses of each list.

    `ruled_out` counts the spectra that this member alone answered.
    """

    id: str
    fastest: str
    ruled_out: int
    missed: dict[str, MissedShare]


class InputReference(_Part):
    """The spectra that were predicted: a store, or survey files."""

    kind: Literal["store", "files"]
    path: str
    id: str


class PredictionsDocument(Document):
    """The document of predictions.

    Every row of the input is predicted or refused. `no_answer` counts the rows without a class or a label,
    `outside_training` those that are farther from the training spectra than 99 % of the validation spectra,
    `per_class` the spectra by predicted class.
    """

    shards: int
    rows_in: int
    rows: int
    no_answer: int
    outside_training: int
    refused: dict[str, int]
    per_class: dict[str, int]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    units: dict[str, str]
    ensemble: EnsembleReference
    cascade: CascadeReference | None = None
    source: InputReference
    choice: Choice
    arrays: bool = False
    settings: dict[str, Any]
    fingerprint: str


class PredictionMarker(Marker):
    """A predicted shard, with the same counts as the document; `refused_files` only for survey files."""

    rows: int
    no_answer: int
    outside_training: int
    per_class: dict[str, int]
    ruled_out: int | None = None
    predictions: WrittenFile
    refused_files: WrittenFile | None = None


PREDICTIONS = Kind("predictions", PredictionsDocument, version=4, job="predict", shared=True)


def schema(
    classes: tuple[str, ...],
    labels: tuple[str, ...],
    members: Sequence[str] = (),
    features: int = 0,
    metadata: dict[str, str] | None = None,
    cascade: bool = False,
) -> pa.Schema:
    """The columns of predictions; also those of these members, of so many features, and of a cascade, where
    wanted.
    """
    columns = {name: (*column, UNITS.get(name, ""), UCDS[name]) for name, column in IDENTITY_COLUMNS.items()}
    columns |= POSITION_COLUMNS | answer_columns(labels, classes) | LINE_COLUMNS
    columns |= RULED_OUT_COLUMN if cascade else {}
    for number, name in enumerate(members):
        columns |= _member_columns(number, name, classes, labels)
    fields = [described_field(name, *column) for name, column in columns.items()]
    if features:
        lists = pa.list_(pa.field("element", pa.float32(), nullable=False), features)
        fields.append(described_field("latent", lists, "last features of the networks, member after member"))
    return pa.schema(fields, metadata=metadata)


def _member_columns(
    number: int, member: str, classes: tuple[str, ...], labels: tuple[str, ...]
) -> Iterator[tuple[str, ColumnSpec]]:
    """The columns of the answers of one member, not calibrated."""
    start = f"m{number}_"
    for name in classes:
        text = f"probability of {name} by the member {member}"
        yield f"{start}p_{name.lower()}", ("float32", text, "", "stat.probability;src.class")
    for row in map(label, labels):
        text = f"{row.description}, by the member {member}"
        yield start + row.name, ("float32", text, row.unit, row.ucd)
        text = f"{row.description}: error by the member {member}"
        yield f"{start}{row.name}_err", ("float32", text, row.unit, f"stat.error;{row.ucd}")


def to_parquet(table: pa.Table) -> pa.Buffer:
    """A table of predictions as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=1 << 30,
        compression="zstd",
        compression_level=1,
        use_dictionary=["survey", "layout", "release", "class"],
        write_page_checksum=True,  # for readers of some columns only
    )
    return sink.getvalue()


ADVICE = "run survey predict with the settings of the predictions again, which makes this shard anew"


@dataclass(frozen=True)
class Predictions:
    """Finished predictions."""

    path: str
    document: PredictionsDocument
    markers: tuple[PredictionMarker, ...] = ()

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.document.shards

    @property
    def id(self) -> str:
        """A hash of the settings and of the contents of all shards."""
        return self.document.id

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are predicted."""
        return self.document.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are predicted; none where no classes are predicted."""
        return self.document.classes

    @property
    def member_ids(self) -> dict[str, str]:
        """The runs that predicted: their paths as the predictions have them, and their ids."""
        return {member.path: member.id for member in self.document.ensemble.members}

    def file(self, shard: int) -> str:
        """The path of a shard's table."""
        return shard_file(self.path, "predictions", shard)

    def table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The table of one shard, or some of its columns."""
        data = self.markers[shard].predictions.read(self.file(shard), ADVICE)
        file = pq.ParquetFile(pa.BufferReader(data))
        # twice as fast without threads, which cost more than a thousand rows
        return file.read(columns, use_threads=False)

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The tables, shard by shard."""
        return (self.table(shard, columns) for shard in range(self.shards))


def open_predictions(path: str) -> Predictions:
    """Finished predictions."""
    folder = Folder(path, PREDICTIONS)
    document = folder.document()
    markers = markers_from(folder.table(SHARDS, document=document), PredictionMarker)
    return Predictions(path, document, markers)
