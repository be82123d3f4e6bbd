"""An ensemble and each of its members beside the truth, so that it shows what is gained by asking all of them.

Shapes: N spectra, M members, C classes, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.ensemble import diversity
from survey.ensemble.combine import Combined, Told, Weights, combine
from survey.ensemble.ensemble import Ensemble, Said
from survey.labelling.join import BESIDE
from survey.labelling.samples import Samples
from survey.labels import CLASSES
from survey.metrics.score import KINDS, SCHEMA, Evaluation, Judged, evaluated

ENSEMBLE, RAW, BEFORE = diversity.ENSEMBLE, "before calibration", "_raw"
"""The ensemble among those who are judged, itself before calibration, and the ending of the columns that hold the latter."""
WHO = pa.schema(
    [
        pa.field(
            "who",
            pa.string(),
            metadata={"description": f"a member by its name, {ENSEMBLE}, or the ensemble {RAW}"},
        ),
        *SCHEMA,
    ]
)
KNOWN = "snr", "snr_g", "layout"
"""What is known of a spectrum beside its labels that answers are grouped by; its true labels `BESIDE` too."""


def judged(combined: Combined, some: Samples, called: str = "true") -> Judged:
    """Answers beside the truth, of the labels that are told at all; where no error of the data is known, the model's alone is the error."""
    column = [] if combined.mu_NL is None else np.flatnonzero(np.isfinite(combined.mu_NL).any(0)).tolist()
    labels = tuple(combined.labels[place] for place in column)
    data_NL, model_NL = combined.data_NL[:, column], combined.model_NL[:, column]
    sigma_NL = np.where(np.isnan(data_NL), model_NL, np.hypot(data_NL, model_NL))
    least_L = np.where(sigma_NL > 0, sigma_NL, np.inf).min(
        0, initial=np.inf
    )  # members that agree by chance are not sure for ever
    sigma_NL = np.where(np.isfinite(least_L), np.maximum(sigma_NL, least_L), np.nan)
    return Judged(
        some.class_N,
        truth(some, labels),
        labels,
        p_NC=None if combined.p_NC is None or np.isnan(combined.p_NC).all() else combined.p_NC,
        mu_NL=None if combined.mu_NL is None or not labels else combined.mu_NL[:, column],
        sigma_NL=None if np.isnan(sigma_NL).all() else sigma_NL,
        classes=combined.classes or CLASSES,
        about=known(some.about),
        called=called,
    )


def known(about: pa.Table) -> dict[str, NDArray[Any]]:
    """What answers are grouped by, as columns of a table keep it."""
    columns = {name: name for name in KNOWN} | {name: f"true_{name}" for name in BESIDE}
    return {
        name: about[column].to_numpy(zero_copy_only=False)
        for name, column in columns.items()
        if column in about.column_names
    }


def truth(some: Samples, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """The true labels of samples in this order; NaN where they are not known."""
    known = {name: some.label_NL[:, number] for number, name in enumerate(some.labels)}
    return (
        np.stack([known.get(name, np.full(len(some), np.nan)) for name in labels], 1)
        if labels
        else np.empty((len(some), 0))
    )


def member(told: Told, number: int, some: Samples) -> Judged:
    """The answers of one member alone beside the truth, of the spectra that it has an answer for."""
    one_M = np.eye(told.members)[number]
    combined = combine(told, Weights(one_M, np.repeat(one_M[:, None], len(told.labels), 1)))
    sound_N = told.says_class()[number] | told.says_label()[number].any(1)
    arrays: dict[str, Any] = {
        name: array[sound_N] for name, array in vars(combined).items() if isinstance(array, np.ndarray)
    }
    return judged(replace(combined, **arrays), some.at(np.flatnonzero(sound_N)))


def everyone(ensemble: Ensemble, said: Said, some: Samples, called: str = "true") -> dict[str, Judged]:
    """Who is to be judged beside the truth: the members, the ensemble before calibration, the ensemble; a run alone only as itself."""
    itself = judged(said.combined, some, called)
    if len(ensemble.names) == 1 and not ensemble.about["calibrated"]:
        return {ENSEMBLE: itself}
    column = [ensemble.labels.index(name) for name in itself.labels]
    if ensemble.about["calibrated"]:
        itself = replace(itself, low_NL=said.low_NL[:, column], high_NL=said.high_NL[:, column])
    members = {name: member(said.told, number, some) for number, name in enumerate(ensemble.names)}
    return members | {RAW: judged(combine(said.told, ensemble.weights), some, called), ENSEMBLE: itself}


def columns(one: Judged, ending: str = "") -> dict[str, NDArray[Any]]:
    """Answers and truth as columns by name; with an ending only what calibration changes."""
    found: dict[str, NDArray[Any]] = {}
    if one.p_NC is not None:
        found |= {f"p_{name.lower()}{ending}": one.p_NC[:, number] for number, name in enumerate(one.classes)}
    for number, name in enumerate(one.labels):
        told = {f"true_{name}": one.label_NL[:, number], name: one.said(name)} if not ending else {}
        told[f"{name}_err{ending}"] = one.sigma(name)
        for end, array_NL in (("low", one.low_NL), ("high", one.high_NL)):
            told[f"{name}_{end}{ending}"] = None if array_NL is None else array_NL[:, number]
        found |= {key: array for key, array in told.items() if array is not None}
    return found


def read_back(
    content: pa.Table,
    labels: Sequence[str],
    classes: Sequence[str],
    class_column: str,
    ending: str = "",
    called: str = "true",
) -> Judged:
    """The answers that a table keeps under the names of `columns`."""
    there = {name: content[name].to_numpy(zero_copy_only=False) for name in content.column_names}
    labels, nothing = tuple(name for name in labels if name in there), np.full(content.num_rows, np.nan)

    def stacked(names: list[str]) -> NDArray[np.float64] | None:
        return (
            np.stack([there.get(name, nothing).astype(np.float64) for name in names], 1)
            if any(name in there for name in names)
            else None
        )

    truth_NL = stacked([f"true_{name}" for name in labels])
    sigma_NL, low_NL, high_NL = (
        stacked([f"{name}_{kind}{ending}" for name in labels]) for kind in ("err", "low", "high")
    )
    return Judged(
        there[class_column],
        np.empty((content.num_rows, 0)) if truth_NL is None else truth_NL,
        labels,
        stacked([f"p_{name.lower()}{ending}" for name in classes]),
        stacked(list(labels)),
        sigma_NL,
        low_NL,
        high_NL,
        classes=tuple(classes) or CLASSES,
        about=known(content),
        called=called,
    )


def snr(some: Samples) -> NDArray[np.float64]:
    """The signal to noise that ensembles go by; NaN where it is not known."""
    return np.asarray(some.about["snr"].to_numpy(zero_copy_only=False), np.float64)


def table(judged_of: Mapping[str, Judged], settings: Evaluation) -> pa.Table:
    """The metrics of everyone who is judged, of members those of all spectra together; its columns are those of `WHO`."""
    tables = []
    for who, one in judged_of.items():
        found = evaluated(one, settings, KINDS if who in (ENSEMBLE, RAW) else ("all",))
        tables.append(found.add_column(0, WHO.field(0), [[who] * found.num_rows]))
    return pa.concat_tables(tables).cast(WHO)


def metrics_of(compared: pa.Table, who: str) -> pa.Table:
    """The metrics of one of those who were judged; its columns are those of an evaluation."""
    return compared.filter(pc.equal(compared["who"], who)).drop_columns(["who"]).cast(SCHEMA).combine_chunks()
