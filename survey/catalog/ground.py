"""The ground on which the ensemble was tested: how far a survey leaves it, and what is promised then.

Purity and completeness are counted on validation stars. They say nothing about stars that are unlike these:
far from the training spectra, or with a signal to noise that no validation star had. If many stars of asked
kinds are so, or most of a list, then nothing is promised of the lists. Shape: N stars.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from survey.catalog.asked import is_asked
from survey.catalog.check_settings import GroundSettings
from survey.catalog.flag_settings import DEFAULT_KINDS
from survey.catalog.flags import FlagRules
from survey.catalog.prior import typed_shares
from survey.catalog.settings import ListName
from survey.catalog.thresholds import FEWEST_STARS, Threshold
from survey.catalog.visits import Floats, float_column
from survey.metrics.intervals import Measure, wilson

SNR = "snr_best"
"""The networks see one visit at a time: that of the best visit counts, not of all together."""
MIDDLE = (0.005, 0.995)
"""The validation stars cover the signal to noise between these quantiles."""
USUAL = 0.75
"""So many of the validation spectra are within the usual distance from the training spectra."""
MANY_OUTSIDE = 0.05
"""A larger share of stars out of the domain than this is more than chance: it gets a note."""


class Ground:
    """Counts how many stars of the survey are unlike the validation stars."""

    def __init__(self, validation: pa.Table | None, rules: FlagRules, settings: GroundSettings) -> None:
        self.rules, self.settings = rules, settings
        self.snr_range: tuple[float, float] | None = None
        self.tested_outside = 0.0
        self.usual = np.inf
        if validation is not None:
            self._test(validation)
        self.stars = self.outside = self.beyond_usual = self.asked = self.other_snr = 0

    def _test(self, validation: pa.Table) -> None:
        """What the validation stars cover."""
        snr_N = _known(float_column(validation, SNR))
        if len(snr_N):
            low, high = np.quantile(snr_N, MIDDLE)
            self.snr_range = float(low), float(high)
        domain_N = _known(float_column(validation, "domain"))
        if len(domain_N):
            self.tested_outside = float((domain_N > self.rules.limits.domain_warn).mean())
            self.usual = float(np.quantile(domain_N, USUAL))

    def add(self, stars: pa.Table) -> None:
        """Add further stars."""
        of_asked_kind_N = np.isin(stars["kind"].to_numpy(), self.rules.ask)
        domain_N = _known(float_column(stars, "domain")[of_asked_kind_N])
        self.stars += len(domain_N)
        self.outside += int((domain_N > self.rules.limits.domain_warn).sum())
        self.beyond_usual += int((domain_N > self.usual).sum())
        if self.snr_range:
            low, high = self.snr_range
            snr_N = _known(float_column(stars, SNR)[is_asked(stars)])
            self.asked += len(snr_N)
            self.other_snr += int(((snr_N < low) | (snr_N > high)).sum())

    def judge(
        self, thresholds: Mapping[ListName, Threshold], lists: Mapping[ListName, pa.Table]
    ) -> dict[ListName, Threshold]:
        """The thresholds, without their promises where these do not hold, with notes."""
        return {name: self._judged(threshold, lists[name]) for name, threshold in thresholds.items()}

    def _judged(self, threshold: Threshold, listed: pa.Table) -> Threshold:
        reasons = (*_share_reasons(threshold), *self._survey_reasons(), *self._list_reasons(listed))
        if not reasons:
            return replace(threshold, notes=(*threshold.notes, *self._notes()))
        purity, completeness = (
            Measure(threshold.name, metric, np.nan) for metric in ("purity", "completeness")
        )
        return replace(threshold, purity=purity, completeness=completeness, withheld=reasons)

    def _survey_reasons(self) -> tuple[str, ...]:
        """How the survey leaves the tested ground; chance does not count."""
        untested = [kind for kind in self.rules.ask if kind not in DEFAULT_KINDS]
        reasons = []
        if untested:
            reasons.append(
                f"stars of kind {', '.join(untested)} are asked (ask=), for which no list is tested"
            )
        if _lowest(self.outside, self.stars) > self.tested_outside + self.settings.domain:
            reasons.append(
                f"{self.outside / self.stars:.0%} of the stars of asked kinds are farther from the training "
                f"spectra than 99 % of the validation spectra; of the validation stars "
                f"{self.tested_outside:.0%} are (limit ground.domain={self.settings.domain:g} more)"
            )
        if _lowest(self.beyond_usual, self.stars) > self.settings.shift:
            reasons.append(
                f"{self.beyond_usual / self.stars:.0%} of the stars of asked kinds are farther from the "
                f"training spectra than {USUAL:.0%} of the validation spectra: as a whole these are spectra "
                f"of another sort (limit ground.shift={self.settings.shift:g})"
            )
        if self.snr_range and _lowest(self.other_snr, self.asked) > self.settings.snr:
            low, high = self.snr_range
            reasons.append(
                f"{self.other_snr / self.asked:.0%} of the asked stars have a signal to noise outside that "
                f"of the validation stars, {low:.0f} to {high:.0f} (limit ground.snr={self.settings.snr:g})"
            )
        return tuple(reasons)

    def _list_reasons(self, listed: pa.Table) -> tuple[str, ...]:
        """How a list leaves the tested ground."""
        domain_N = _known(float_column(listed, "domain"))
        outside = int((domain_N > self.rules.limits.domain_warn).sum())
        if outside <= self.settings.listed * len(domain_N):
            return ()
        return (
            f"{outside:,} of {listed.num_rows:,} stars of the list are farther from the training spectra "
            f"than 99 % of the validation spectra (limit ground.listed={self.settings.listed:g})",
        )

    def _notes(self) -> tuple[str, ...]:
        """What a reader should know though the promises are made."""
        if not self.stars and self.asked:
            return ("distances from the training spectra are unknown: the promises are not checked",)
        if self.outside <= MANY_OUTSIDE * self.stars:
            return ()
        return (
            f"{self.outside / self.stars:.0%} of the stars of asked kinds are farther from the training "
            "spectra than 99 % of the validation spectra: nothing is promised of them; "
            "leave_out=[out_of_domain] keeps them out of the lists",
        )


def _share_reasons(threshold: Threshold) -> tuple[str, ...]:
    """Purity follows from the class shares of the survey; those of validation stars are none of a survey."""
    if threshold.goal.prior != "estimated" or threshold.mix.how != "validation":
        return ()
    return (
        f"fewer than {FEWEST_STARS} stars of the survey have class probabilities, so its class shares "
        f"are unknown, and purity with them; if you know them, give {typed_shares(threshold.name)}",
    )


def _known(values_N: Floats) -> Floats:
    return values_N[np.isfinite(values_N)]


def _lowest(hits: int, n: int) -> float:
    """The least share that is likely; 0 without any star."""
    return float(wilson(hits, n)[0]) if n else 0.0
