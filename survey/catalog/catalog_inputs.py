"""What a catalog is made from besides predictions: other columns, true labels, and what must fit."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from survey import checked, files
from survey.catalog.added_columns import AddedColumns, catalogues_among
from survey.catalog.criteria import has_labels
from survey.catalog.document import CatalogDocument
from survey.catalog.provenance import input_manifest
from survey.catalog.settings import LIST_NAMES, CatalogSettings
from survey.catalog.stars import Stars
from survey.folder import settings_of
from survey.labels import CLASSES
from survey.predict.output import Predictions
from survey.settings import SettingsError
from survey.store.manifest import Manifest

if TYPE_CHECKING:
    from survey.catalog.truth import TrueLists


def catalog_id(
    settings: CatalogSettings, predictions: Predictions, catalogues: Mapping[str, int] | None = None
) -> str:
    """The same for the same predictions, settings, and content of the tables that the settings name and of
    the `catalogues` (their checksums)."""
    given = "" if settings.catalogue in ("auto", "none") else settings.catalogue
    tables = filter(None, (settings.verdicts, settings.truth, *settings.known, given))
    checksums = [*checked.checksums(tables), *(catalogues or {}).values()]
    made_from = [predictions.document.id, settings.plain(), *checksums]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def input_catalogues(settings: CatalogSettings, predictions: Predictions) -> dict[str, int]:
    """The checksums of the catalogues that were the input, if their columns are added.

    A path would be that of a machine, so the names are those of the files, with the number of the input.
    """
    if settings.catalogue != "auto":
        return {}
    names = {path: name for name, path in _inputs(input_manifest(predictions)).items()}
    paths = catalogues_among(list(names), settings.catalogue_columns)
    return {names[path]: checked.WrittenFile.at(path).crc for path in paths}


def is_made_of(before: CatalogDocument, settings: CatalogSettings, predictions: Predictions) -> bool:
    """Whether a finished catalog is of these settings, predictions and tables.

    A catalogue that was the input and is not there any more counts as unchanged, and is named in a warning.
    """
    present, paths = input_catalogues(settings, predictions), _inputs(input_manifest(predictions))
    lost = {name for name in before.catalogues if name not in paths or not files.exists(paths[name])}
    known = {name: crc for name, crc in (before.catalogues | present).items() if name in lost | set(present)}
    if before.id != catalog_id(settings, predictions, known):
        return False
    for name in sorted(lost):
        logging.getLogger(__name__).warning(
            "catalog: catalogue: %s: is not there any more; the finished catalog keeps its columns", name
        )
    return True


def check_predictions(before: CatalogDocument, predictions: Predictions, catalog: str) -> None:
    """An error if the predictions are of other spectra or by another ensemble than a finished catalog."""
    old, new = before.predictions.source, predictions.document.source
    is_there = _is_place(old.path, new.path, catalog)
    if new.path == old.path and not Path(new.path).is_absolute():  # as it was typed, in a folder of its own
        is_there = _is_place(before.predictions.path, predictions.path, catalog)
    is_same = old.kind == new.kind and (old.id == new.id or is_there)
    if not is_same or before.ensemble.id != predictions.document.ensemble.id:
        raise SettingsError(
            f"catalog: catalog: {catalog}: was made from other predictions: {before.predictions.path} of "
            f"{old.path} by {before.ensemble.path} there, {predictions.path} of {new.path} by "
            f"{predictions.document.ensemble.path} now; give the same predictions again, or another catalog="
        )


def _is_place(written: str, path: str, catalog: str) -> bool:
    """Whether a path that a catalog has written down is this one: from the folder in which its command was
    given, or beside the catalog if both were moved."""
    beside = files.absolute(catalog).rpartition("/")[0]
    given_in = str(settings_of(catalog).get("command_folder") or Path.cwd())
    if files.is_remote(written):
        return written == path
    return files.absolute(path) in {files.absolute(str(Path(base, written))) for base in (given_in, beside)}


def _inputs(manifest: Manifest | None) -> dict[str, str]:
    """The inputs of the survey, each once, by the name of the file and the number of the input."""
    paths = dict.fromkeys(record.input for record in manifest.inputs) if manifest else {}
    return {f"{path.rstrip('/').rpartition('/')[2]} (input {n})": path for n, path in enumerate(paths, 1)}


def _warn_of_lost(manifest: Manifest) -> None:
    """A warning about each input that is not there any more and may have been a catalogue."""
    for record in manifest.inputs:
        if record.input != record.folder and not files.exists(record.input):
            logging.getLogger(__name__).warning(
                "catalog: catalogue: %s: this input is not there any more; if it was a catalogue, its "
                "columns are missing: put it back and run survey catalog again, or give catalogue=",
                record.input,
            )


def added_columns(settings: CatalogSettings, stars: Stars, manifest: Manifest | None) -> AddedColumns:
    """The columns of the user's catalogue, or of the catalogues that were the input."""
    sky, names = (stars.ra_S, stars.dec_S, settings.radius), settings.catalogue_columns
    if settings.catalogue == "none":
        return AddedColumns()
    if settings.catalogue != "auto":
        return AddedColumns.read(settings.catalogue, names, *sky)
    if manifest:
        _warn_of_lost(manifest)
    return AddedColumns.of_inputs(list(_inputs(manifest).values()), names, *sky)


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
