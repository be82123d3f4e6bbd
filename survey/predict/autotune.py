"""What is found out before the first shard, on some of its spectra and on the machine that will do the work: which batch is fastest, whether
16 bits say the same as 32, whether compiled networks pay. The outcome is written down, so that every shard and every rerun holds to it.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from survey.ensemble.ensemble import Ensemble, Said
from survey.predict import inputs
from survey.predict.worker import COLUMNS, Asking, Choice, compiled, opened, snr, written
from survey.training.batches import Spectra

CPU_BATCHES, GPU_BATCHES = (16, 32, 64, 128, 256, 512), (64, 256, 512, 1024, 2048, 4096, 8192)
USUAL = 64
"""The batch where nothing is measured: never far from the best on a CPU."""
SECONDS = 0.3
"""Of work for one measurement."""
NEARLY = 0.95
"""A smaller batch that reaches this share of the best rate is taken."""
PAYS = 1.05
"""Compiled networks are used where they are faster by this factor."""
TOLERANCE = {"probabilities": 0.01, "labels": 0.02, "errors": 0.02, "domain": 0.05}
"""16 bits say the same as 32 where nothing moves by more: labels and their errors in units of the label's spread in training."""


class Trial:
    """Measures on spectra of a shard; a worker like others, whose result is the choice."""

    def __init__(self, asking: Asking, wanted: dict[str, Any], threads: int, gpu: bool) -> None:
        self.asking, self.wanted, self.gpu = asking, wanted, gpu
        self.ensemble = opened(asking, threads, gpu)
        self.notes: list[str] = []

    def __call__(self, shard: int) -> dict[str, Any]:
        """The choice, as JSON can hold it."""
        known = self.asking.inputs.load(shard, COLUMNS).spectra
        if not known.num_rows:
            return written(
                Choice(
                    self.wanted["batch"] or USUAL,
                    self._plain(),
                    False,
                    (f"shard {shard} has no spectra, so nothing was measured",),
                )
            )
        batches = (
            (self.wanted["batch"],) if self.wanted["batch"] else GPU_BATCHES if self.gpu else CPU_BATCHES
        )
        some = self._many(
            inputs.spectra(known, self.asking.inputs.path, self.ensemble.members.needs_continuum),
            max(batches),
        )
        snr_N = np.resize(snr(known), len(some))
        precision = self._precision(some, snr_N)
        batch, rate = self._fastest(some, snr_N, batches, precision)
        trying = self.wanted["compile"] == "always" or (self.wanted["compile"] == "auto" and self.gpu)
        pays = trying and self._pays(some, snr_N, batch, precision, rate)
        return written(Choice(batch, precision, pays, tuple(self.notes)))

    def _plain(self) -> str:
        return "float32" if self.wanted["precision"] == "auto" else str(self.wanted["precision"])

    def _many(self, some: Spectra, count: int) -> Spectra:
        """At least so many spectra, the same ones again where there are too few."""
        return some[torch.arange(max(count, min(len(some), count))) % len(some)]

    def _precision(self, some: Spectra, snr_N: Any) -> str:
        """The precision that was asked for; for `auto` the first of fp16 and bf16 on a GPU that says what float32 says."""
        if self.wanted["precision"] != "auto" or not self.gpu:
            return self._plain()
        few, exact = some[:USUAL], self._said(some[:USUAL], snr_N[:USUAL], USUAL, "float32")
        for precision in ("fp16", "bf16"):
            off = apart(self.ensemble, exact, self._said(few, snr_N[:USUAL], USUAL, precision))
            self.notes.append(
                f"{precision} differs from float32: {', '.join(f'{name} by {value:.1g}' for name, value in off.items())}"
            )
            if all(value <= TOLERANCE[name] for name, value in off.items()):
                return precision
        self.notes.append("neither is within the tolerance, so float32 it is")
        return "float32"

    def _fastest(
        self, some: Spectra, snr_N: Any, batches: Sequence[int], precision: str
    ) -> tuple[int, float]:
        """The smallest batch that is about as fast as the fastest, and its rate."""
        if len(batches) == 1:
            return batches[0], self._rate(some, snr_N, batches[0], precision, 0.0)
        rates = dict(self._rates(some, snr_N, batches, precision))
        best = max(rates.values())
        batch = next(batch for batch, rate in rates.items() if rate >= NEARLY * best)
        self.notes.append(
            "spectra/s by batch: " + ", ".join(f"{size} {rate:,.0f}" for size, rate in rates.items())
        )
        return batch, rates[batch]

    def _rates(
        self, some: Spectra, snr_N: Any, batches: Sequence[int], precision: str
    ) -> Iterator[tuple[int, float]]:
        """Rates by rising batch, until two in a row bring nothing or the memory is full."""
        best, worse, rate = 0.0, 0, 0.0
        self._said(some[: batches[0]], snr_N[: batches[0]], batches[0], precision)
        for batch in batches:
            try:
                rate = self._rate(some, snr_N, batch, precision, rate)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                return
            yield batch, rate
            worse = worse + 1 if rate < NEARLY * best else 0
            best = max(best, rate)
            if worse == 2:
                return

    def _rate(self, some: Spectra, snr_N: Any, batch: int, precision: str, guess: float) -> float:
        """Spectra per second, the better of two tries of about `SECONDS`."""
        times = max(1, min(round(guess * SECONDS / batch), len(some) // batch))
        count = min(times * batch, len(some))
        rates = []
        for _ in range(2):
            started = time.perf_counter()
            self._said(some[:count], snr_N[:count], batch, precision)
            rates.append(count / (time.perf_counter() - started))
        return max(rates)

    def _pays(self, some: Spectra, snr_N: Any, batch: int, precision: str, plain: float) -> bool:
        """Whether compiled networks are faster, or at all possible here."""
        compiled(self.ensemble)
        try:
            self._said(some[:batch], snr_N[:batch], batch, precision)
            rate = self._rate(some, snr_N, batch, precision, plain)
        except (RuntimeError, OSError) as error:  # what torch raises when it compiles is a RuntimeError
            self.notes.append(
                f"compiling the networks failed ({str(error).splitlines()[0][:200]}); goes on without"
            )
            return False
        self.notes.append(f"compiled networks: {rate:,.0f} spectra/s instead of {plain:,.0f}")
        return self.wanted["compile"] == "always" or rate >= PAYS * plain

    def _said(self, some: Spectra, snr_N: Any, batch: int, precision: str) -> Said:
        return self.ensemble.said(some, snr_N, batch=batch, precision=precision)


def apart(ensemble: Ensemble, exact: Said, other: Said) -> dict[str, float]:
    """How far answers lie apart at most; labels and errors in units of the label's spread in training. Infinity where an answer is missing."""
    spread = {
        name: scale
        for run in ensemble.members.runs
        for name, scale in zip(run.labels, run.scaling.scale_L, strict=True)
    }
    scale_L = np.array([spread[name] for name in ensemble.labels])
    pairs: dict[str, tuple[Any, Any, Any]] = {
        "probabilities": (exact.combined.p_NC, other.combined.p_NC, 1.0),
        "labels": (exact.combined.mu_NL, other.combined.mu_NL, scale_L),
        "errors": (exact.combined.total_NL, other.combined.total_NL, scale_L),
        "domain": (exact.domain_N, other.domain_N, 1.0),
    }
    return {
        name: _worst((one - two) / unit, one)
        for name, (one, two, unit) in pairs.items()
        if one is not None and two is not None
    }


def _worst(off: Any, known: Any) -> float:
    return float(np.nan_to_num(np.abs(off[np.isfinite(known)]), nan=np.inf).max(initial=0))
