"""The trial before the first shard, on some of its spectra: batch, precision and compilation of the networks.

It finds the fastest batch, whether 16 bits give the same answers as 32, and whether compiled networks are
faster. The choice is written down, so that every shard and every rerun uses it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from survey import machine
from survey.ensemble.ensemble import Ensemble, EnsembleAnswers
from survey.ensemble.line_key import signal_to_noise
from survey.predict import inputs
from survey.predict.output import Choice
from survey.predict.settings import Precision
from survey.predict.worker import (
    INPUT_COLUMNS,
    PredictionSpec,
    compile_networks,
    open_on_device,
)
from survey.settings import Threads
from survey.training.batches import Spectra

Floats = NDArray[np.float64]

CPU_BATCHES, GPU_BATCHES = (16, 32, 64, 128, 256, 512), (64, 256, 512, 1024, 2048, 4096, 8192)

DEFAULT_BATCH = 64
"""The batch where nothing is measured; never far from the best on a CPU."""

SECONDS = 0.3
"""The work of one measurement."""

NEARLY_FASTEST = 0.95
"""The smallest batch that reaches this share of the best rate is taken."""

COMPILED_GAIN = 1.05
"""Compiled networks are used if they are faster by this factor."""

TOLERANCE = {"probabilities": 0.01, "labels": 0.02, "errors": 0.02, "domain": 0.05}
"""16 bits are used if no answer differs by more than this from that of float32.

Labels and their errors are in units of the label's scatter in training.
"""


@dataclass(frozen=True)
class TrialRequest:
    """What the settings fix; null and auto are found by the trial."""

    batch: int | None
    precision: Precision | Literal["auto"]
    compile: Literal["auto", "always", "never"]

    @property
    def default_choice(self) -> Choice:
        """The choice where nothing is measured."""
        precision = "float32" if self.precision == "auto" else self.precision
        return Choice(batch=self.batch or DEFAULT_BATCH, precision=precision)


class Autotuner:
    """A worker that measures on the spectra of a shard; its result is the choice."""

    def __init__(
        self, spec: PredictionSpec, request: TrialRequest, threads: Threads, cpus: int, gpu: bool
    ) -> None:
        machine.settle(threads if threads != "auto" else cpus, cpus)
        self.spec, self.request, self.gpu = spec, request, gpu
        self.ensemble = open_on_device(spec, gpu)
        self.notes: list[str] = []

    def __call__(self, shard: int) -> dict[str, Any]:
        """The choice, as JSON can hold it."""
        return self._choose(shard).model_dump(mode="json")

    def _choose(self, shard: int) -> Choice:
        request, default = self.request, self.request.default_choice
        table = self.spec.inputs.load(shard, INPUT_COLUMNS).spectra
        if not table.num_rows:
            note = f"shard {shard} has no spectra, so nothing was measured"
            return default.model_copy(update={"notes": (note,)})
        batches: tuple[int, ...] = GPU_BATCHES if self.gpu else CPU_BATCHES
        rows = max(batches)
        if request.batch:
            batches = (request.batch,)
            largest_shard = max(map(self.spec.inputs.rows_in, range(self.spec.inputs.shards)))
            rows = min(request.batch, max(largest_shard, 1))  # no batch of the job is larger
        few = inputs.to_spectra(table, self.spec.inputs.path, self.ensemble.members.extra_inputs)
        spectra = few[torch.arange(rows) % len(few)]  # repeated where there are too few
        snr_N = np.resize(signal_to_noise(table), len(spectra))
        precision = self._choose_precision(spectra, snr_N)
        batch, rate = self._choose_batch(spectra, snr_N, batches, precision)
        is_tried = request.compile == "always" or (request.compile == "auto" and self.gpu)
        compiled = is_tried and self._is_compiling_faster(spectra, snr_N, batch, precision, rate)
        return Choice(batch=batch, precision=precision, compiled=compiled, notes=tuple(self.notes))

    def _choose_precision(self, spectra: Spectra, snr_N: Floats) -> Precision:
        """On a GPU with `auto`: fp16 or bf16 if its answers agree with float32, tried in this order."""
        if self.request.precision != "auto" or not self.gpu:
            return self.request.default_choice.precision
        few, snr_N = spectra[:DEFAULT_BATCH], snr_N[:DEFAULT_BATCH]
        exact = self._predict(few, snr_N, DEFAULT_BATCH, "float32")
        candidates: tuple[Precision, ...] = ("fp16", "bf16")
        for precision in candidates:
            answers = self._predict(few, snr_N, DEFAULT_BATCH, precision)
            differences = largest_differences(self.ensemble, exact, answers)
            text = ", ".join(f"{name} by {value:.1g}" for name, value in differences.items())
            self.notes.append(f"{precision} differs from float32: {text}")
            if all(value <= TOLERANCE[name] for name, value in differences.items()):
                return precision
        self.notes.append("both differ by more than the tolerance; float32 is used")
        return "float32"

    def _choose_batch(
        self, spectra: Spectra, snr_N: Floats, batches: Sequence[int], precision: Precision
    ) -> tuple[int, float]:
        """The smallest batch that is nearly as fast as the fastest, and its rate."""
        if len(batches) == 1:
            return batches[0], self._rate(spectra, snr_N, batches[0], precision, 0.0)
        rates = dict(self._rates(spectra, snr_N, batches, precision))
        best = max(rates.values())
        batch = next(batch for batch, rate in rates.items() if rate >= NEARLY_FASTEST * best)
        text = ", ".join(f"{size} {rate:,.0f}" for size, rate in rates.items())
        self.notes.append(f"spectra/s by batch: {text}")
        return batch, rates[batch]

    def _rates(
        self, spectra: Spectra, snr_N: Floats, batches: Sequence[int], precision: Precision
    ) -> Iterator[tuple[int, float]]:
        """The rate of each batch, until two in a row are slower than the best or the memory is full."""
        best, slower, rate = 0.0, 0, 0.0
        self._predict(spectra[: batches[0]], snr_N[: batches[0]], batches[0], precision)
        for batch in batches:
            try:
                rate = self._rate(spectra, snr_N, batch, precision, rate)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                return
            yield batch, rate
            slower = slower + 1 if rate < NEARLY_FASTEST * best else 0
            best = max(best, rate)
            if slower == 2:
                return

    def _rate(
        self, spectra: Spectra, snr_N: Floats, batch: int, precision: Precision, expected: float
    ) -> float:
        """Spectra per second, the better of two measurements of about `SECONDS`."""
        batches = max(1, min(round(expected * SECONDS / batch), len(spectra) // batch))
        count = min(batches * batch, len(spectra))
        rates = []
        for _ in range(2):
            started = time.perf_counter()
            self._predict(spectra[:count], snr_N[:count], batch, precision)
            rates.append(count / (time.perf_counter() - started))
        return max(rates)

    def _is_compiling_faster(
        self, spectra: Spectra, snr_N: Floats, batch: int, precision: Precision, uncompiled: float
    ) -> bool:
        """Whether compiled networks are faster, if they can be compiled here."""
        compile_networks(self.ensemble)
        try:
            self._predict(spectra[:batch], snr_N[:batch], batch, precision)
            rate = self._rate(spectra, snr_N, batch, precision, uncompiled)
        except (RuntimeError, OSError) as error:  # torch raises RuntimeError when it cannot compile
            reason = str(error).splitlines()[0][:200]
            self.notes.append(f"the networks could not be compiled ({reason}); they are used uncompiled")
            return False
        self.notes.append(f"compiled networks: {rate:,.0f} spectra/s, uncompiled: {uncompiled:,.0f}")
        return self.request.compile == "always" or rate >= COMPILED_GAIN * uncompiled

    def _predict(self, spectra: Spectra, snr_N: Floats, batch: int, precision: Precision) -> EnsembleAnswers:
        return self.ensemble.predict(spectra, snr_N, batch=batch, precision=precision)


def largest_differences(
    ensemble: Ensemble, exact: EnsembleAnswers, other: EnsembleAnswers
) -> dict[str, float]:
    """The largest difference of each kind of answer; infinity where an answer is missing.

    Labels and their errors are in units of the label's scatter in training.
    """
    scatter = {
        name: scale
        for run in ensemble.members.runs
        for name, scale in zip(run.labels, run.scaling.scale_L, strict=True)
    }
    scale_L = np.array([scatter[name] for name in ensemble.labels])
    first, second = exact.answers, other.answers
    pairs: dict[str, tuple[Floats | None, Floats | None, Any]] = {
        "probabilities": (first.p_NC, second.p_NC, 1.0),
        "labels": (first.value_NL, second.value_NL, scale_L),
        "errors": (first.err_NL, second.err_NL, scale_L),
        "domain": (first.domain_N, second.domain_N, 1.0),
    }
    return {
        name: _largest((exact_NX - other_NX) / unit, exact_NX)
        for name, (exact_NX, other_NX, unit) in pairs.items()
        if exact_NX is not None and other_NX is not None
    }


def _largest(difference: Floats, exact: Floats) -> float:
    known = np.abs(difference[np.isfinite(exact)])
    return float(np.nan_to_num(known, nan=np.inf).max(initial=0))
