"""What a catalog is made from, with paths as the user knows them, not as a machine does."""

import pyarrow as pa
import pyarrow.compute as pc

from survey import __version__, files
from survey.catalog.document import EnsembleRecord, MemberRecord, PredictionsRecord
from survey.predict.output import PREDICTIONS, Predictions
from survey.store.manifest.manifest import Manifest, has_manifest, open_manifest
from survey.stored_paths import LostFolderError, find_folder


def origin(predictions: Predictions) -> dict[str, str]:
    """What a catalog is made from; each of its files says so."""
    document = predictions.document
    members = (f"{member.name} ({member.model}) {member.id}" for member in document.ensemble.members)
    return {
        "code": f"survey {__version__}",
        "predictions": document.id,
        "ensemble": document.ensemble.id,
        "members": "; ".join(members),
        "source": f"{document.source.kind} {document.source.id}",
    }


def records(predictions: Predictions) -> tuple[PredictionsRecord, EnsembleRecord]:
    """The predictions and the ensemble behind them, as the catalog's document holds them."""
    document, ensemble = predictions.document, predictions.document.ensemble
    members = (
        MemberRecord(name=member.name, id=member.id, model=member.model) for member in ensemble.members
    )
    source = document.source.model_copy(update={"path": files.relative(document.source.path)})
    path = files.relative(predictions.path)
    return (
        PredictionsRecord(id=document.id, rows=document.rows, source=source, path=path),
        EnsembleRecord(
            path=files.relative(ensemble.path),
            id=ensemble.id,
            members=tuple(members),
            calibrated=ensemble.calibrated,
        ),
    )


def predictions_path(catalog: str, record: PredictionsRecord) -> str:
    """Where the predictions of a catalog are now; the path of the catalog's document if they are nowhere."""
    try:
        return find_folder(record.path, catalog, PREDICTIONS, record.id)
    except LostFolderError:
        return record.path


def input_manifest(predictions: Predictions) -> Manifest | None:
    """The manifest of the input; None if it is not where it was."""
    source = predictions.document.source
    folder = source.path if source.kind == "store" else predictions.path
    return open_manifest(folder) if has_manifest(folder) else None


def shorten_paths(stars: pa.Table, folder: str) -> pa.Table:
    """The stars with paths that begin in the folder of the input, not at the root of a machine."""
    if not folder.strip("/"):
        return stars
    number, column = stars.column_names.index("path"), stars["path"]
    inside = pc.starts_with(column, f"{folder}/")
    short = pc.if_else(inside, pc.utf8_slice_codeunits(column, len(folder) + 1), column)
    return stars.set_column(number, stars.schema.field(number), short)
