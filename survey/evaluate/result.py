"""An evaluation in its folder: metrics, answers beside the truth, and a note of what was evaluated, written last.

The test part is read once: an evaluation that is there is shown again, not made again, and each is noted in the folder of what was evaluated with
its date, so that nobody chooses by the test without a trace.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv

from survey import files
from survey.ensemble import judged as comparison
from survey.labels import Criterion
from survey.metrics.score import Judged

METRICS, PREDICTIONS, COMPARED, AGAINST = (
    "metrics.parquet",
    "predictions.parquet",
    "members.parquet",
    "against.parquet",
)
NOTE, READS, CSV = "evaluation.json", "evaluations.json", "predictions.csv"
NUMBER = "class_number"
"""The column of true classes beside the answers."""

Key = dict[str, Any]
"""What an evaluation was made of: who was asked (`run`, by id), with which settings."""


@dataclass(frozen=True)
class Outcome:
    """An evaluation that is written: where, the metrics, those of the members beside the ensemble's, the answers (`raw`: before calibration, of
    an ensemble alone), and whether it was made just now; `against` others, where it was set against some.
    """

    folder: str
    table: pa.Table
    compared: pa.Table
    judged: Judged
    raw: Judged | None
    about: dict[str, Any]
    made: bool
    against: pa.Table | None = None

    @property
    def criterion(self) -> Criterion:
        """Which [Fe/H] and [C/Fe] count as carbon-enhanced in it."""
        found: Criterion = self.about["key"]["settings"]["criterion"]
        return found

    def answers(self, columns: list[str] | None = None) -> pa.Table:
        """The answers as they are written, a row per spectrum, with who it is."""
        return files.read_table(files.join(self.folder, PREDICTIONS), columns)


def is_there(folder: str, key: Key) -> bool:
    """Whether this evaluation was made before, to its end."""
    note = files.join(folder, NOTE)
    return files.exists(note) and bool(
        files.read_json(note)["key"] == json.loads(json.dumps(key, default=str))
    )


def again(folder: str, labels: Sequence[str], classes: Sequence[str], called: str) -> Outcome:
    """The outcome of an evaluation that was made before."""
    names = (METRICS, COMPARED, PREDICTIONS)
    table, compared, said = (files.read_table(files.join(folder, name)) for name in names)
    endings = (
        ("", comparison.BEFORE)
        if any(name.endswith(comparison.BEFORE) for name in said.column_names)
        else ("",)
    )
    judged, *raw = (comparison.read_back(said, labels, classes, NUMBER, ending, called) for ending in endings)
    path = files.join(folder, AGAINST)
    about = files.read_json(files.join(folder, NOTE))
    against = files.read_table(path) if about.get("against") else None
    return Outcome(
        folder, table, compared, judged, raw[0] if raw else None, about, made=False, against=against
    )


def write(folder: str, tables: Mapping[str, pa.Table], about: Mapping[str, Any]) -> None:
    """Write an evaluation, its note last."""
    files.remove(files.join(folder, NOTE))  # of an evaluation with other settings: its tables are about to go
    for name, content in tables.items():
        files.write_table(files.join(folder, name), content)
    files.write_json(files.join(folder, NOTE), about)


def write_csv(outcome: Outcome) -> None:
    """The answers as CSV too, for those who work with a spreadsheet."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(outcome.answers(), sink)
    files.write(files.join(outcome.folder, CSV), memoryview(sink.getvalue()))


def noted(of: str, what: str, spectra: int, key: Key) -> dict[str, Any]:
    """What was evaluated, noted beside it too: how often its test part has been looked at is part of the result."""
    path = files.join(of, READS)
    before = files.read_json(path) if files.exists(path) else []
    row = {"date": time.strftime("%Y-%m-%d %H:%M:%S %z"), "what": what, "spectra": spectra, **key}
    files.write_json(path, [*before, row])
    earlier = sum(other["what"] == what and other["run"] == key["run"] for other in before)
    return {"key": key, "date": row["date"], "what": what, "spectra": spectra, "read_before": earlier}


def rows(judged_of: Mapping[str, Judged], about: pa.Table, more: Mapping[str, Any] | None = None) -> pa.Table:
    """One row per spectrum: who it is, the truth, the answers; of an ensemble also what it was before calibration, and `more` that it says."""
    judged, raw = judged_of[comparison.ENSEMBLE], judged_of.get(comparison.RAW)
    columns: dict[str, Any] = {name: about[name] for name in about.column_names}
    columns[NUMBER] = pa.array(judged.class_N)
    columns |= {
        name: pa.array(array, from_pandas=name.startswith("true_"))
        for name, array in comparison.columns(judged).items()
    }
    if raw:
        columns |= {
            name: pa.array(array) for name, array in comparison.columns(raw, comparison.BEFORE).items()
        }
        columns |= {
            name: pa.array(array, from_pandas=True)
            for name, array in (more or {}).items()
            if name not in columns
        }
    return pa.table(columns)
