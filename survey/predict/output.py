"""Predictions on disk: the columns of their tables, the files of their folder, and how finished ones are opened.

settings.json        what was asked for; plan.json: what was fixed before the first shard (batch, precision)
predictions/         a Parquet file per shard of the input, one row per spectrum
refused/             files that became no spectrum, with the reason (predictions made from files)
markers/             what each shard holds
validation.parquet   what the ensemble said of its validation spectra, beside the truth
predictions.json     what they are; written last

Who and where a spectrum is comes as in the store, then what the ensemble says of it. A number that is not known is null: a label that no
member tells, and everything of a spectrum that had no answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.labels import CLASSES, Label, label
from survey.spectrum import VISIT
from survey.store.store import MEASURED, part

PREDICTIONS, SETTINGS, PLAN, VALIDATION, ARRAYS = (
    "predictions.json",
    "settings.json",
    "plan.json",
    "validation.parquet",
    "arrays",
)
VERSION = 1

IDENTITY = {name: MEASURED[name] for name in ("path", "row")} | VISIT
IDENTITY |= {
    name: about for name, about in MEASURED.items() if name not in (*IDENTITY, "crc", "n_good", "n_outlier")
}
"""Columns that come from the store as they are: Arrow type, meaning."""

UNITS = {"ra": "deg", "dec": "deg", "lmjd": "d", "velocity": "km s-1", "egp": "mag"}
"""Units of the store's columns; those of labels stand in `survey.labels`."""

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
    "lmjd": "time.epoch",
    "planid": "meta.id",
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
    "velocity": "spect.dopplerVeloc.opt",
    "snr": "stat.snr;em.opt",
    "coverage": "stat.value",
    "bad_share": "stat.value",
    "egp": "phot.color;em.opt.B",
    "flags": "meta.code.qual",
    "flux_scale": "arith.factor",
}
"""The store's columns in the words of the IVOA (UCD1+)."""

Column = tuple[str, str, str, str]
"""Arrow type, meaning, unit, UCD."""

PLACE: dict[str, Column] = {
    "shard": ("int32", "shard of the input that the spectrum was in", "", "meta.number"),
    "place": ("int32", "row within that shard's spectra", "", "meta.record"),
}
NUMBERED = ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES))
DECISION: dict[str, Column] = {
    "said": ("int8", f"number of the likeliest class ({NUMBERED}); -1 = no answer", "", "src.class"),
    "entropy": (
        "float32",
        "how undecided the class is, in all: 0 = sure, 1.1 = all three alike (nats)",
        "",
        "stat.value",
    ),
    "doubt": (
        "float32",
        "the part of the entropy that comes from the members' disagreement (nats)",
        "",
        "stat.value",
    ),
}
DOMAIN: dict[str, Column] = {
    "domain": (
        "float32",
        "distance from the training spectra; 1 = the distance that 1 % of the validation spectra exceed",
        "",
        "stat.value",
    )
}


def schema(
    classes: tuple[str, ...],
    labels: tuple[str, ...],
    members: tuple[str, ...] = (),
    latent: int = 0,
    about: dict[str, str] | None = None,
) -> pa.Schema:
    """The columns of predictions of these classes and labels; where wanted, of each of these members, and so many features of the networks."""
    told = {name: (*meaning, UNITS.get(name, ""), UCDS[name]) for name, meaning in IDENTITY.items()}
    told |= (
        PLACE
        | dict(_of_classes(classes))
        | {key: column for name in labels for key, column in _of_label(label(name))}
        | DOMAIN
    )
    for number, name in enumerate(members):
        told |= dict(_of_member(number, name, classes, labels))
    columns = [described(name, column) for name, column in told.items()]
    if latent:
        lists = pa.list_(pa.field("element", pa.float32(), nullable=False), latent)
        columns.append(
            pa.field(
                "latent",
                lists,
                metadata={"description": "last features of the networks, member after member"},
            )
        )
    return pa.schema(columns, metadata=about)


def _of_classes(classes: tuple[str, ...]) -> Iterator[tuple[str, Column]]:
    for name in classes:
        yield (
            f"p_{name.lower()}",
            ("float32", f"probability of the class {name}, calibrated", "", "stat.probability"),
        )
    if classes:
        yield from DECISION.items()


def _of_label(row: Label) -> Iterator[tuple[str, Column]]:
    """A label and what belongs to it."""
    yield row.name, ("float32", row.about, row.unit, row.ucd)
    for name, kind, meaning in (
        ("err", "error", "its error in all, calibrated"),
        ("err_data", "error", "the part of its error that comes from the spectrum"),
        ("err_model", "error", "the part of its error that comes from the members' disagreement"),
        ("spread", "stdev", "standard deviation of what the members say"),
    ):
        yield f"{row.name}_{name}", ("float32", f"{row.about}: {meaning}", row.unit, f"stat.{kind};{row.ucd}")
    for name, kind, end in (("low", "min", "lower"), ("high", "max", "upper")):
        meaning = f"{row.about}: {end} end of the interval that holds the ensemble's stated share of stars (split-conformal)"
        yield f"{row.name}_{name}", ("float32", meaning, row.unit, f"{row.ucd};stat.{kind}")


def _of_member(
    number: int, member: str, classes: tuple[str, ...], labels: tuple[str, ...]
) -> Iterator[tuple[str, Column]]:
    """What one member alone says, not calibrated."""
    for name in classes:
        yield (
            f"m{number}_p_{name.lower()}",
            ("float32", f"probability of {name} by the member {member}", "", "stat.probability"),
        )
    for row in map(label, labels):
        yield f"m{number}_{row.name}", ("float32", f"{row.about}, by the member {member}", row.unit, row.ucd)
        yield (
            f"m{number}_{row.name}_err",
            ("float32", f"{row.about}: error by the member {member}", row.unit, f"stat.error;{row.ucd}"),
        )


def described(name: str, column: Column) -> pa.Field:
    """A column as a table has it, with all that is to be known of it."""
    kind, meaning, unit, ucd = column
    return pa.field(
        name, pa.type_for_alias(kind), metadata={"description": meaning, "unit": unit, "ucd": ucd}
    )


def packed(table: pa.Table) -> pa.Buffer:
    """A table of predictions as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=1 << 30,
        compression="zstd",
        compression_level=1,
        use_dictionary=["survey", "layout", "release", "class"],
    )
    return sink.getvalue()


@dataclass(frozen=True)
class Predictions:
    """Finished predictions: `about` is predictions.json."""

    path: str
    about: dict[str, Any]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return int(self.about["shards"])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are told."""
        return tuple(self.about["labels"])

    def file(self, shard: int) -> str:
        """The path of a shard's predictions."""
        return part(self.path, "predictions", shard)

    def table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The predictions of one shard."""
        path = self.file(shard)
        try:
            file = pq.ParquetFile(pa.BufferReader(files.read(path)))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path}: is gone; run jobs/predict.py again, which makes it anew"
            ) from error
        return file.read(columns, use_threads=False)  # twice as fast: threads cost more than a thousand rows

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The predictions, shard by shard."""
        return (self.table(shard, columns) for shard in range(self.shards))


def open_predictions(path: str) -> Predictions:
    """Predictions that are finished."""
    note = files.join(path, PREDICTIONS)
    if not files.exists(note):
        raise FileNotFoundError(
            f"{path}: no {PREDICTIONS} in it, so no finished predictions; run jobs/predict.py with predictions={path} to the end"
        )
    about = files.read_json(note)
    if about.get("version") != VERSION:
        raise ValueError(
            f"{path}: the predictions are of version {about.get('version')}, this code reads {VERSION}; make them anew"
        )
    return Predictions(path, about)
