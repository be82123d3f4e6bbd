"""The document of predictions, from the markers of all shards."""

import hashlib
from collections import Counter
from typing import Any

from survey.ensemble.cascade import Cascade
from survey.ensemble.ensemble import Ensemble
from survey.predict import numpy_arrays
from survey.predict.output import (
    PREDICTIONS,
    CascadeReference,
    EnsembleReference,
    InputReference,
    MemberReference,
    MissedShare,
    PredictionMarker,
    PredictionsDocument,
)
from survey.predict.worker import PredictionSpec


def describe(
    spec: PredictionSpec,
    ensemble: Ensemble,
    settings: dict[str, Any],
    arrays: bool,
    done: list[PredictionMarker],
    cascade: Cascade | None = None,
) -> PredictionsDocument:
    """The document of predictions; every row of the input must be predicted or refused."""
    refused, per_class = Counter[str](), Counter[str]()
    digest = hashlib.sha256(spec.fingerprint.encode())
    for marker in done:
        refused_crc = marker.refused_files.crc if marker.refused_files else None
        digest.update(f"{marker.shard} {marker.predictions.crc} {refused_crc}\n".encode())
        refused.update(marker.refused)
        per_class.update(marker.per_class)
    rows_in, rows = sum(marker.rows_in for marker in done), sum(marker.rows for marker in done)
    if rows_in != rows + refused.total():
        raise RuntimeError(
            f"predict: {spec.folder}: {rows_in} rows in, {rows} predicted, {refused.total()} refused; "
            "please report this"
        )
    return PredictionsDocument(
        version=PREDICTIONS.version,
        id=digest.hexdigest()[:16],
        shards=len(done),
        rows_in=rows_in,
        rows=rows,
        no_answer=sum(marker.no_answer for marker in done),
        outside_training=sum(marker.outside_training for marker in done),
        refused=dict(sorted(refused.items(), key=lambda item: -item[1])),
        per_class=dict(per_class),
        labels=ensemble.labels,
        classes=ensemble.classes,
        units=ensemble.units,
        ensemble=_ensemble_reference(spec.ensemble, ensemble),
        cascade=_cascade_reference(cascade, done) if cascade else None,
        source=InputReference(kind=spec.inputs.kind, path=spec.inputs.path, id=spec.inputs.id),
        choice=spec.choice,
        arrays=arrays or numpy_arrays.exist(spec.folder),
        settings=settings,
        fingerprint=spec.fingerprint,
    )


def _cascade_reference(cascade: Cascade, done: list[PredictionMarker]) -> CascadeReference:
    document = cascade.document
    return CascadeReference(
        id=document.id,
        fastest=document.fastest.names[0],
        ruled_out=sum(marker.ruled_out or 0 for marker in done),
        missed={
            name: MissedShare(share=bound.share, high=bound.high)
            for name, bound in document.bounds.lists.items()
        },
    )


def _ensemble_reference(path: str, ensemble: Ensemble) -> EnsembleReference:
    document = ensemble.document
    return EnsembleReference(
        path=path,
        id=ensemble.id,
        members=tuple(
            MemberReference(name=member.name, path=full_path, id=member.id, model=member.model)
            for member, full_path in zip(document.members, document.paths(path), strict=True)
        ),
        calibrated=document.calibrated,
        domain=document.domain,
        ranges=document.ranges,
    )
