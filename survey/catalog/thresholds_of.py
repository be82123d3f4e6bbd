"""What validation stars say of the lists to come: from which score on a star is a candidate.

The survey's mix of classes is estimated from its spectra that are like the training's. Where these are few, the mix of validation stands in; where
the share of a class comes out vague, its lower end is taken: lists are rather too short than full of what is not there. Either is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from survey import files
from survey.catalog import flags
from survey.catalog.flags import Limits, Ranges
from survey.catalog.prior import Mix, Tally
from survey.catalog.thresholds import Kind, Search, Threshold, choose, mix_of
from survey.catalog.visits import PROBABILITIES, Flags, Visits, combined, numbers, probabilities
from survey.labelling.star_id import codes_of
from survey.labels import CLASSES
from survey.predict.output import VALIDATION, Predictions
from survey.settings import SettingsError

STRANGE = 0.05
"""A larger share of spectra beyond the training's is more than chance."""
LEAST = 200
"""Fewer spectra do not tell the survey's mix of classes."""
RARE = 1e-4
"""No class that is searched for is taken to be rarer: at no share at all, no evidence would do."""
VAGUE = 4.0
"""A share is vague if the upper end of its interval is more than so many times the lower."""


@dataclass(frozen=True)
class Bars:
    """How visits become a star, and what keeps a star out of the lists: every `flag_bad`, and some warnings (`left_out`, bits)."""

    visits: Visits
    limits: Limits
    ranges: Ranges
    left_out: int

    def hold(self, warn_N: np.ndarray, bad_N: np.ndarray) -> Flags:
        """Which stars are kept out, by their flags."""
        return np.asarray((bad_N != 0) | ((warn_N & self.left_out) != 0))


def validation(predictions: Predictions, bars: Bars) -> pa.Table | None:
    """What the ensemble says of its validation stars, one row each, with a `flag_bad` where they would be kept out; None where it has none."""
    path = files.join(predictions.path, VALIDATION)
    if not files.exists(path):
        return None
    table = files.read_table(path)
    code_N, _ = codes_of(table["star"].combine_chunks().cast(pa.string()))
    alone_N = code_N < 0
    code_N[alone_N] = code_N.max(initial=-1) + 1 + np.arange(alone_N.sum())
    stars = combined(table, code_N, bars.visits)
    held_N = bars.hold(*flags.of(stars, bars.ranges, bars.limits))
    return stars.append_column("flag_bad", pa.array(held_N.astype(np.int32)))


def thresholds(
    predictions: Predictions, validation: pa.Table | None, searches: Mapping[Kind, Search], bars: Bars
) -> dict[Kind, Threshold]:
    """From which score on a star is a candidate; nothing where the ensemble tells no classes."""
    if not predictions.about["classes"]:
        return {}
    if validation is None:
        asked = predictions.about["ensemble"]["path"]
        raise SettingsError(
            f"catalog: {predictions.path}: nothing says how right {asked} is: it has no validation; make an ensemble of it with jobs/ensemble.py "
            "runs=[...], and predict with that"
        )
    survey, notes = _survey(predictions, bars.limits.domain_warn)
    found, mixes = {}, dict[str, tuple[Mix, tuple[str, ...]]]()
    for kind, search in searches.items():
        prior = str(search.prior)
        if prior not in mixes:  # a second or two each
            mixes[prior] = _cautious(
                mix_of(validation, search.prior, survey if len(survey) >= LEAST else None)
            )
        mixed, more = mixes[prior]
        threshold = choose(validation, kind, search, mixed)
        found[kind] = replace(threshold, notes=threshold.notes + more + notes)
    return found


def _cautious(mixed: Mix) -> tuple[Mix, tuple[str, ...]]:
    """The mix with the lower end of the shares that are vague, and what to say of it."""
    low_C, high_C = np.quantile(mixed.drawn_RC, [0.025, 0.975], axis=0)
    vague_C = (high_C > VAGUE * low_C) & (mixed.how == "estimated")
    if not vague_C.any() or vague_C.all():
        return mixed, ()
    share_C = np.where(vague_C, np.clip(low_C, RARE, mixed.share_C), mixed.share_C)
    told = ", ".join(
        f"{name} between {low_C[number]:.2%} and {high_C[number]:.0%}"
        for number, name in enumerate(CLASSES)
        if vague_C[number]
    )
    note = f"the survey's share of {told} is vague, so the lower end is taken; prior={{MP: 4, CEMP: 1, NMP: 95}} gives it"
    return replace(mixed, share_C=share_C / share_C.sum()), (note,)


def _survey(predictions: Predictions, limit: float) -> tuple[Tally, tuple[str, ...]]:
    """The class probabilities of the survey's spectra that are like the training's, and a warning where many are not."""
    tallies, far, rows = [], 0, 0
    for table in predictions.tables([*PROBABILITIES, "domain"]):
        strange_N = numbers(table, "domain") > limit
        tallies.append(Tally.of(probabilities(table)[~strange_N]))
        far, rows = far + int(strange_N.sum()), rows + table.num_rows
    if far <= STRANGE * rows:
        return Tally.joined(tallies), ()
    far_off = (
        f"{far / rows:.0%} of the spectra are farther from the training spectra than 99 % of validation ones"
    )
    return Tally.joined(tallies), (
        f"{far_off}: what is expected does not hold for them, and may not for others",
    )
