"""Predictions beside somebody else's labels, such as those of GALAH or LASP: what was said of the spectra that both know, judged like all answers.

Stars that a member of the ensemble has learned from or was chosen by are left out; where a member is not found any more this is not known, and told.
"""

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.ensemble import judged
from survey.evaluate import result
from survey.evaluate.evaluate import Evaluate, of_labels
from survey.evaluate.result import COMPARED, METRICS, PREDICTIONS, Key, Outcome
from survey.evaluate.seen_in_training import met
from survey.labelling import join, samples
from survey.labelling.join import Labelled
from survey.labels import CLASSES
from survey.metrics.score import Judged
from survey.predict.output import Predictions, open_predictions
from survey.predict.rows import answered
from survey.settings import SettingsError

Floats = NDArray[np.float64]


def outside(settings: Evaluate) -> Outcome:
    """Judge finished predictions by a table of labels."""
    labels = str(settings.labels)
    said = open_predictions(settings.of)
    classes, told = tuple(said.about["classes"]), said.labels
    folder = settings.to or files.join(settings.of, "evaluations", of_labels(labels, ""))
    key: Key = {"run": said.about["id"], "settings": json.loads(json.dumps(settings.lasting(), default=str))}
    if result.is_there(folder, key):
        found = result.again(folder, told, classes, settings.called)
    else:
        joining = settings.join.model_copy(update={"table": labels})
        wanted = join.present(joining, told)
        if not wanted and not classes:
            raise SettingsError(
                f"evaluate: labels={labels}: has none of the labels that {settings.of} tells ({', '.join(told)}); "
                f"give join.columns={{{told[0]}: its column}}, or another table"
            )
        found = _made(settings, said, join.join(joining, said, wanted), folder, key)
    if settings.csv:
        result.write_csv(found)
    return found


def _made(settings: Evaluate, said: Predictions, labelled: Labelled, folder: str, key: Key) -> Outcome:
    """Judge what was said of the labelled spectra, and write it down."""
    some = samples.of(labelled, labelled.labels)
    table = _answers(said, labelled)
    met_N, unread = met(said.about["ensemble"], some.about)
    silent_N = ~answered(table)
    keep = np.flatnonzero(~met_N & ~silent_N)
    if not len(keep):
        raise SettingsError(
            f"evaluate: labels={settings.labels}: nothing to judge {settings.of} by: of {len(some):,} spectra that both know, "
            f"the members have met the stars of {met_N.sum():,} in training, and {silent_N.sum():,} have no answer; give others"
        )
    own, table = some.at(keep), table.take(pa.array(keep))
    judged_of = {judged.ENSEMBLE: _judged(table, own, tuple(said.about["classes"]), settings.called)}
    compared = judged.table(judged_of, settings)
    tables = {METRICS: judged.metrics_of(compared, judged.ENSEMBLE), COMPARED: compared}
    place = {"shard": labelled.shard[keep], "place": labelled.row[keep]}
    about = own.about
    for name, column in (*place.items(), ("path", table["path"])):
        about = about.append_column(name, column if name == "path" else pa.array(column))
    tables[PREDICTIONS] = result.rows(judged_of, about)
    note = result.noted(settings.of, of_labels(str(settings.labels), ""), len(own), key)
    note |= {
        "joined": labelled.counts.text(),
        "met": int(met_N.sum()),
        "silent": int((silent_N & ~met_N).sum()),
        "unread": unread,
    }
    result.write(folder, tables, note)
    return Outcome(folder, tables[METRICS], compared, judged_of[judged.ENSEMBLE], None, note, made=True)


def _answers(said: Predictions, labelled: Labelled) -> pa.Table:
    """The rows of predictions that have labels, in their order, without what only some of them have."""
    parts = []
    for shard in np.unique(labelled.shard).tolist():
        table = said.table(shard)
        kept = [name for name in table.column_names if name != "latent" and not name.startswith("m")]
        parts.append(table.select(kept).take(pa.array(labelled.row[labelled.shard == shard])))
    return pa.concat_tables(parts).combine_chunks()


def _judged(table: pa.Table, some: samples.Samples, classes: tuple[str, ...], called: str) -> Judged:
    """Answers as predictions keep them, beside the truth."""

    def stacked(names: list[str]) -> Floats | None:
        if not names or not all(name in table.column_names for name in names):
            return None
        found = np.stack(
            [np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64) for name in names], 1
        )
        return None if np.isnan(found).all() else found

    labels = some.labels
    sigma_NL = stacked([f"{name}_err" for name in labels])
    return Judged(
        some.class_N,
        judged.truth(some, labels),
        labels,
        p_NC=stacked([f"p_{name.lower()}" for name in classes]),
        mu_NL=stacked(list(labels)),
        sigma_NL=_sure(sigma_NL),
        low_NL=stacked([f"{name}_low" for name in labels]),
        high_NL=stacked([f"{name}_high" for name in labels]),
        classes=classes or CLASSES,
        about=judged.known(some.about),
        called=called,
    )


def _sure(sigma_NL: Floats | None) -> Floats | None:
    """Errors above 0, or none of a label that lacks one of them; none at all where no label has them."""
    if sigma_NL is None:
        return None
    whole_L = (sigma_NL > 0).all(0)
    return np.where(whole_L, sigma_NL, np.nan) if whole_L.any() else None
