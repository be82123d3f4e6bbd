"""An evaluation in its folder: metrics, the answers with the truth, and the document, which is written last.

The test part is read once: an evaluation that is finished is shown again, not repeated. Each reading is
also noted, with its date, in the folder of what was evaluated. So nobody can choose by the test part
without a trace.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
from pydantic import BaseModel, ConfigDict

from survey import checked, files
from survey.answers import Answers, Floats
from survey.ensemble.member_scores import read_labelled
from survey.folder import Document, Folder, Kind
from survey.labels import Criterion
from survey.metrics.score import LabelledAnswers, scoring_errors

METRICS, MEMBERS, AGAINST = "metrics.parquet", "members.parquet", "against.parquet"
PREDICTIONS, CSV = "predictions.parquet", "predictions.csv"
READS = "evaluations.json"
"""The list of evaluations in the folder of what was evaluated."""

Key = dict[str, Any]
"""What decides the result of an evaluation: `run`, the id of what was evaluated, and the settings.

With labels of another table also the content of that table and the id of the store.
"""


class Against(BaseModel):
    """A comparison: the paths by name, the spectra that each one costs, and what
    only one of them predicts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: dict[str, str]
    left_out: dict[str, int]
    alone: dict[str, list[str]]


class EvaluationDocument(Document):
    """The document of an evaluation. `read_before` counts earlier evaluations of the same spectra.

    `no_truth` are predicted labels of which a given table has no value, `no_answer` the spectra that were
    left out because they have no answer. Of evaluated predictions it also says how the labels were joined,
    and counts the spectra of stars that members were trained on, and the members whose training stars are
    unknown.
    """

    key: Key
    date: str
    what: str
    spectra: int
    read_before: int
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    intervals: bool
    prepare_differences: tuple[str, ...] = ()
    against: Against | None = None
    joined: str | None = None
    seen_in_training: int = 0
    no_answer: int = 0
    missing_members: int = 0
    no_truth: tuple[str, ...] = ()


EVALUATION = Kind("evaluation", EvaluationDocument, version=3, job="evaluate")


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: its folder and document, its tables, and whether it was made just now.

    `metrics` are those of what was evaluated, `members` also those of its members, `against` those of a
    comparison. The labelled answers are calibrated, and of an ensemble also uncalibrated.
    """

    folder: str
    document: EvaluationDocument
    metrics: pa.Table
    members: pa.Table
    against: pa.Table | None
    calibrated: LabelledAnswers
    uncalibrated: LabelledAnswers | None
    is_new: bool

    @property
    def criterion(self) -> Criterion:
        """The criterion of carbon-enhanced stars."""
        criterion: Criterion = self.document.key["settings"]["criterion"]
        return criterion

    def answers(self, columns: list[str] | None = None) -> pa.Table:
        """The table of answers, one row per spectrum, with its names and the truth."""
        return Folder(self.folder, EVALUATION).table(PREDICTIONS, columns)


def labels_key(table: str) -> Key:
    """The content of a given table of labels, for the key: a corrected table gives another evaluation."""
    return {"labels_crc": checked.checksums([table])[0]}


def is_finished(folder: str, key: Key) -> bool:
    """Whether this folder holds exactly this evaluation; one with another key will be replaced."""
    evaluation = Folder(folder, EVALUATION)
    same = evaluation.agree(key, started=False)
    return same and evaluation.sound_document() is not None


def read_evaluation(
    folder: str,
    labels_name: str,
    *,
    is_new: bool,
    errors: Callable[[Answers], Floats | None] = scoring_errors,
) -> Evaluation:
    """A finished evaluation from its folder; `errors` gives the errors that are
    compared with the residuals.
    """
    evaluation = Folder(folder, EVALUATION)
    document = evaluation.document()
    metrics, members, table = (
        evaluation.table(name, document=document) for name in (METRICS, MEMBERS, PREDICTIONS)
    )
    against = evaluation.table(AGAINST, document=document) if document.against else None
    calibrated, uncalibrated = read_labelled(
        table,
        document.labels,
        document.classes,
        intervals=document.intervals,
        labels_name=labels_name,
        errors=errors,
    )
    return Evaluation(folder, document, metrics, members, against, calibrated, uncalibrated, is_new)


def write_evaluation(path: str, tables: Mapping[str, pa.Table], document: EvaluationDocument) -> None:
    """Write an evaluation: the key first, the document last."""
    folder = Folder(path, EVALUATION)
    with folder.claim(document.key):
        folder.withdraw()  # an evaluation with another key is replaced
        folder.begin(document.key)
        for name, table in tables.items():
            files.write_table(folder.file(name), table)
        folder.finish(document, tables)


def write_csv(evaluation: Evaluation) -> None:
    """Write the answers as CSV too, for a spreadsheet."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(evaluation.answers(), sink)
    files.write(files.join(evaluation.folder, CSV), memoryview(sink.getvalue()))


def note_reading(of: str, what: str, spectra: int, key: Key, **fields: Any) -> EvaluationDocument:
    """Note an evaluation in the folder of what is evaluated; the document, with
    the number of earlier ones.
    """
    path = files.join(of, READS)
    notes = files.read_json(path) if files.exists(path) else []
    date = time.strftime("%Y-%m-%d %H:%M:%S %z")
    files.write_json(path, [*notes, {"date": date, "what": what, "spectra": spectra, **key}])
    earlier = sum(note["what"] == what and note["run"] == key["run"] for note in notes)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return EvaluationDocument(
        version=EVALUATION.version,
        id=digest[:16],
        key=key,
        date=date,
        what=what,
        spectra=spectra,
        read_before=earlier,
        **fields,
    )
