"""What a catalog is made from besides predictions: other columns, true labels, and what must fit."""

import hashlib
import json
from typing import TYPE_CHECKING

from survey import checked
from survey.catalog.added_columns import AddedColumns, catalogues_among
from survey.catalog.criteria import has_labels
from survey.catalog.provenance import input_manifest
from survey.catalog.settings import LIST_NAMES, CatalogSettings
from survey.catalog.stars import Stars
from survey.labels import CLASSES
from survey.predict.output import Predictions
from survey.settings import SettingsError
from survey.store.manifest import Manifest

if TYPE_CHECKING:
    from survey.catalog.truth import TrueLists


def catalog_id(settings: CatalogSettings, predictions: Predictions) -> str:
    """The same for the same predictions, settings, and content of the tables that the settings name."""
    catalogues = [settings.catalogue]
    if settings.catalogue in ("auto", "none"):
        used = settings.catalogue == "auto"
        catalogues = catalogues_among(_inputs(input_manifest(predictions))) if used else []
    tables = filter(None, (settings.verdicts, settings.truth, *settings.known, *catalogues))
    made_from = [predictions.document.id, settings.plain(), *checked.checksums(tables)]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def _inputs(manifest: Manifest | None) -> list[str]:
    """The inputs of the survey, each once."""
    return list(dict.fromkeys(record.input for record in manifest.inputs)) if manifest else []


def added_columns(settings: CatalogSettings, stars: Stars, manifest: Manifest | None) -> AddedColumns:
    """The columns of the user's catalogue, or of the catalogues that were the input."""
    sky = stars.ra_S, stars.dec_S, settings.radius
    if settings.catalogue == "auto":
        return AddedColumns.of_inputs(_inputs(manifest), *sky)
    if settings.catalogue == "none":
        return AddedColumns()
    return AddedColumns.read(settings.catalogue, settings.catalogue_columns, *sky)


def read_truth(settings: CatalogSettings, predictions: Predictions, stars: Stars) -> "TrueLists":
    """What the table of true labels says about the stars."""
    from survey.catalog.truth import (
        read_truth as read_labels,  # loads torch, to know what the members were trained on
    )

    return read_labels(settings.join.model_copy(update={"table": settings.truth}), predictions, stars)


def check_subject(predictions: Predictions) -> None:
    """An error if the predictions say nothing of metals and carbon."""
    document = predictions.document
    others = [name for name in document.classes if name not in CLASSES]
    if others or not (document.classes or document.labels):
        answers = f"the classes {', '.join(document.classes)}" if others else "no classes and no labels"
        raise SettingsError(
            f"catalog: {predictions.path}: they answer {answers}; a catalog lists metal-poor stars and needs "
            f"{', '.join(CLASSES)} or labels of stars; read predictions/, or give them to survey evaluate "
            "or survey latent"
        )


def check_criterion(settings: CatalogSettings, predictions: Predictions) -> None:
    """The predicted labels must be enough for the criterion, if they say anything about carbon."""
    labels = set(predictions.labels)
    if labels & {"CFe", "CH"} and not has_labels(settings.criterion, labels):
        raise SettingsError(
            f"catalog: criterion={settings.criterion}: needs labels that are not among the predicted ones "
            f"({', '.join(predictions.labels)}); give criterion=carbon_0.7 or criterion=carbon_1.0, "
            "or predictions of an ensemble with these labels"
        )


def default_columns(predictions: Predictions) -> tuple[str, ...]:
    """The columns that a reader gets without asking: name, position, class and labels."""
    classes = [f"p_{name.lower()}" for name in predictions.document.classes]
    labels = [column for name in predictions.labels for column in (name, f"{name}_err")]
    scores = [f"score_{name.lower()}" for name in LIST_NAMES] if classes else []
    identity = ("star", "ra", "dec", "snr", "n_visits")
    flags = ("flag_warn", "flag_bad", "mp_candidate", "cemp_candidate")
    return (*identity, *classes, *scores, *labels, *flags)
