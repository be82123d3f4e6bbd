"""The second key: [Fe/H] from the indices of lines and bands, without any network.

The indices (`survey.store.indices`) are standardised, and a polynomial of second order is fitted to labelled
training spectra by ridge regression. The error has two parts: the scatter of validation spectra, and the
noise of the indices, which follows from the signal to noise. Outside the range of the training spectra there
is no estimate. Bands of TiO and CaH are left out: they are strong in stars for which it is not fitted.
The Ca triplet is left out too: many spectra end before it. Shapes: N spectra, I indices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from survey import files
from survey.answers import LINE_COLUMNS, Floats
from survey.ensemble.label_errors import WITHIN
from survey.labelling.samples import Samples
from survey.labels import METAL_POOR
from survey.spectrum import Grid
from survey.store.indices import INDICES
from survey.store.store import Store
from survey.training.batches import random_generator
from survey.training.source_settings import MAIN
from survey.training.sources import source_names

NAMES = tuple(name for name in INDICES if name not in ("ca_t", "cah2", "cah3", "tio5"))
"""The indices that are used."""
RIDGE = 30.0
"""The penalty of the squared coefficients of the standardised terms."""
TEFF = (4000.0, 7000.0)
"""Training spectra have temperatures in this range (K), where known."""
OUTSIDE, MARGIN = 0.005, 0.1
"""At each end of the range of an index this share of the training spectra is left out. Beyond the range by
more than this share of its width there is no estimate; within this margin the end of the range counts."""
LEAST, LEAST_REAL, MOST = 20, 200, 20_000
"""Fewest validation spectra, fewest training spectra (the real ones are used alone if they are so many), most
training spectra of the main source and of the others."""
LEAST_SCATTER = 0.05
"""The scatter is at least this (dex)."""


class LineKeyRecord(BaseModel):
    """How [Fe/H] from lines was fitted; `missing` says why there is none.

    `scatter` is that of estimates below and above the limit of metal-poor stars (dex).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spectra: int = 0
    validation: int = 0
    sources: tuple[str, ...] = ()
    bias: float | None = None
    scatter: tuple[float, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class LineKey:
    """The formula of [Fe/H] from indices: constant + linear·z + z·square·z, of standardised indices z.

    `noise_I` is the error of each index at a signal to noise of 1; `scatter_2` as in the record.
    """

    low_I: Floats
    high_I: Floats
    centre_I: Floats
    scale_I: Floats
    constant: float
    linear_I: Floats
    square_II: Floats
    noise_I: Floats
    scatter_2: Floats

    @classmethod
    def fit(cls, index_NI: Floats, feh_N: Floats, noise_I: Floats) -> Self:
        """From indices and labels of training spectra; the scatter is not yet known."""
        low_I, high_I = np.quantile(index_NI, [OUTSIDE, 1 - OUTSIDE], axis=0)
        index_NI = np.clip(index_NI, low_I, high_I)
        centre_I, scale_I = _centre_and_scale(index_NI)
        z_NI = (index_NI - centre_I) / scale_I
        first, second = np.triu_indices(len(noise_I))
        term_NT = np.concatenate([z_NI, z_NI[:, first] * z_NI[:, second]], 1)
        centre_T, scale_T = _centre_and_scale(term_NT)
        term_NT = (term_NT - centre_T) / scale_T
        matrix_TT = term_NT.T @ term_NT + RIDGE * np.eye(term_NT.shape[1])
        weight_T = np.linalg.solve(matrix_TT, term_NT.T @ (feh_N - feh_N.mean())) / scale_T
        square_II = np.zeros((len(noise_I), len(noise_I)))
        square_II[first, second] = weight_T[len(noise_I) :]
        constant = float(feh_N.mean() - centre_T @ weight_T)
        linear_I, unknown_2 = weight_T[: len(noise_I)], np.full(2, np.nan)
        return cls(
            low_I, high_I, centre_I, scale_I, constant, linear_I, square_II, np.asarray(noise_I), unknown_2
        )

    def estimate(self, index_NI: Floats, snr_N: Floats) -> tuple[Floats, Floats]:
        """[Fe/H] and its error.

        Both are NaN outside the range, and where an index or the signal to noise is unknown.
        """
        feh_N, noise_N = self._from_indices(index_NI, snr_N)
        scatter_N = np.where(feh_N < METAL_POOR["MP"], *self.scatter_2)
        return feh_N, np.hypot(scatter_N, noise_N)

    def add_scatter(self, index_NI: Floats, snr_N: Floats, feh_N: Floats) -> tuple[Self, Floats]:
        """The formula with the scatter of validation spectra, and their residuals.

        The scatter is such that 68.27 % of the residuals lie within it and the noise together.
        """
        estimate_N, noise_N = self._from_indices(index_NI, snr_N)
        residual_N, is_known_N = estimate_N - feh_N, np.isfinite(estimate_N)
        poor_N = estimate_N < METAL_POOR["MP"]
        scatter_2 = np.empty(2)
        for number, group_N in enumerate((poor_N, ~poor_N & is_known_N)):
            chosen_N = group_N if group_N.sum() >= LEAST else is_known_N
            square_N = residual_N[chosen_N] ** 2 - noise_N[chosen_N] ** 2
            scatter_2[number] = np.sqrt(max(float(np.quantile(square_N, WITHIN)), LEAST_SCATTER**2))
        return replace(self, scatter_2=scatter_2), residual_N[is_known_N]

    def add_columns(self, table: pa.Table, index_NI: Floats) -> pa.Table:
        """The table with the columns of `LINE_COLUMNS`."""
        for name, values_N in zip(LINE_COLUMNS, self.estimate(index_NI, signal_to_noise(table)), strict=True):
            table = table.append_column(name, pa.array(values_N.astype(np.float32), from_pandas=True))
        return table

    def _from_indices(self, index_NI: Floats, snr_N: Floats) -> tuple[Floats, Floats]:
        """[Fe/H], and the part of its error that comes from the noise of the indices."""
        margin_I = MARGIN * (self.high_I - self.low_I)
        with np.errstate(invalid="ignore", divide="ignore"):
            inside_NI = (index_NI >= self.low_I - margin_I) & (index_NI <= self.high_I + margin_I)
            is_known_N = inside_NI.all(1) & (snr_N > 0)
            z_NI = (np.clip(index_NI, self.low_I, self.high_I) - self.centre_I) / self.scale_I
            feh_N = self.constant + z_NI @ self.linear_I + ((z_NI @ self.square_II) * z_NI).sum(1)
            slope_NI = (self.linear_I + z_NI @ (self.square_II + self.square_II.T)) / self.scale_I
            noise_N = np.sqrt(((slope_NI * self.noise_I) ** 2).sum(1)) / snr_N
        return np.where(is_known_N, feh_N, np.nan), np.where(is_known_N, noise_N, np.nan)

    def to_tensors(self) -> dict[str, NDArray[np.float64]]:
        """The formula as named float64 arrays, for a safetensors file."""
        return {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> Self:
        """The formula from what `to_tensors` gave."""
        try:
            arrays = {name: tensors[name] for name in cls.__dataclass_fields__ if name != "constant"}
            return cls(constant=float(tensors["constant"][0]), **arrays)
        except KeyError as error:
            raise ValueError(
                f"line key: the tensor {error} is missing, so the file holds no formula of [Fe/H] from "
                "lines; make the ensemble again"
            ) from error


def _centre_and_scale(values_NK: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column; 1 where the values do not differ."""
    scale_K = values_NK.std(0)
    return values_NK.mean(0), np.where(scale_K > 0, scale_K, 1.0)


def index_noise(grid: Grid) -> Floats:
    """The error of each index (angstrom) at a signal to noise of 1 per grid point."""
    noise = []
    for name in NAMES:
        feature, sides = INDICES[name].feature, INDICES[name].sides
        width, side_width = (sum(high - low for low, high in windows) for windows in (feature, sides))
        step = float(np.interp(np.mean(feature), grid.wave, np.gradient(grid.wave)))
        noise.append(np.sqrt(step * width * (1 + width / side_width)))
    return np.array(noise)


def index_array(table: pa.Table) -> Floats:
    """The indices of spectra; NaN where an index is unknown, or no column."""
    unknown_N = np.full(table.num_rows, np.nan)
    columns = [
        table[name].to_numpy(zero_copy_only=False).astype(np.float64)
        if name in table.column_names
        else unknown_N
        for name in NAMES
    ]
    return np.stack(columns, 1)


def _has_indices(store: Store) -> bool:
    """Whether the spectra of a store have columns of indices."""
    with files.open_file(store.file(0)) as stream:
        return set(NAMES) <= set(pq.ParquetFile(stream).schema_arrow.names)


def read_indices(store: Store, shard_row_N2: NDArray[np.int64]) -> Floats:
    """The indices of spectra of a store that the formula needs, in the order of their rows."""
    return np.stack(list(read_columns(store, shard_row_N2, NAMES).values()), 1)


def read_columns(store: Store, shard_row_N2: NDArray[np.int64], names: Sequence[str]) -> dict[str, Floats]:
    """Columns of numbers of spectra of a store, in the order of their rows; NaN where one is not known."""
    columns = {name: np.full(len(shard_row_N2), np.nan) for name in names}
    for shard in np.unique(shard_row_N2[:, 0]).tolist():
        rows = np.flatnonzero(shard_row_N2[:, 0] == shard)
        table = store.spectra(shard, list(names))
        for name, column_N in columns.items():
            column_N[rows] = table[name].to_numpy(zero_copy_only=False)[shard_row_N2[rows, 1]]
    return columns


def signal_to_noise(table: pa.Table) -> Floats:
    """The signal to noise of spectra; NaN where it is unknown."""
    return np.asarray(table["snr"].to_numpy(zero_copy_only=False), np.float64)


@dataclass(frozen=True)
class _LabelledIndices:
    """Spectra with all indices and a known [Fe/H], and the names of their sources."""

    index_NI: Floats
    feh_N: Floats
    snr_N: Floats
    source_N: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.feh_N)

    def at(self, chosen_N: NDArray[np.bool_]) -> Self:
        return type(self)(**{name: values[chosen_N] for name, values in vars(self).items()})

    def of_other_sources(self) -> Self:
        """Those that are not of the main source."""
        return self.at(np.array([name != MAIN for name in self.source_N], bool))


def fit_line_key(
    store: Store, train: Samples, validation: Samples, seed: int
) -> tuple[LineKey | None, LineKeyRecord]:
    """The formula, fitted to the training spectra of the other sources if they are enough, else to all.

    The main source often holds computed spectra, the others real ones.
    """
    if "FeH" not in train.labels:
        return None, LineKeyRecord(missing="FeH is none of its labels")
    if not _has_indices(store):
        return None, LineKeyRecord(
            missing="its store has no indices; make the store again with survey ingest"
        )
    fitted, tested = (_labelled(store, samples, seed) for samples in (train, validation))
    if len(real := fitted.of_other_sources()) >= LEAST_REAL:
        fitted, tested = real, tested.of_other_sources()
    counted = f"{len(fitted):,} training and {len(tested):,} validation spectra have all indices and [Fe/H]"
    if len(fitted) < LEAST_REAL or len(tested) < LEAST:
        return None, LineKeyRecord(missing=f"{counted}; {LEAST_REAL} and {LEAST} are needed")
    key = LineKey.fit(fitted.index_NI, fitted.feh_N, index_noise(store.grid))
    inside_N = np.isfinite(key.estimate(tested.index_NI, tested.snr_N)[0])
    if inside_N.sum() < LEAST:
        text = f"{inside_N.sum()} validation spectra are in the range of the training spectra"
        return None, LineKeyRecord(missing=f"{text}; {LEAST} are needed")
    key, residual_N = key.add_scatter(tested.index_NI, tested.snr_N, tested.feh_N)
    return key, LineKeyRecord(
        spectra=len(fitted),
        validation=len(residual_N),
        sources=tuple(sorted(set(fitted.source_N.tolist()))),
        bias=float(np.median(residual_N)),
        scatter=tuple(key.scatter_2.tolist()),
    )


def _labelled(store: Store, samples: Samples, seed: int) -> _LabelledIndices:
    """The samples that can be used: at most `MOST` of the main source, and as many of the others."""
    label_of = dict(zip(samples.labels, samples.label_NL.T, strict=True))
    unknown_N = np.full(len(samples), np.nan)
    teff_N = label_of.get("Teff", unknown_N)
    usable_N = np.isfinite(label_of["FeH"]) & ~((teff_N < TEFF[0]) | (teff_N > TEFF[1]))
    is_main_N, order_N = source_names(samples) == MAIN, random_generator(seed, 14).permutation(len(samples))
    parts = [order_N[(usable_N & group_N)[order_N]][:MOST] for group_N in (is_main_N, ~is_main_N)]
    chosen = samples.at(np.sort(np.concatenate(parts)))
    feh_N = chosen.label_NL[:, chosen.labels.index("FeH")]
    snr_N = signal_to_noise(chosen.extra)
    spectra = _LabelledIndices(read_indices(store, chosen.shard_row_N2), feh_N, snr_N, source_names(chosen))
    has_all_N: NDArray[np.bool_] = np.asarray(np.isfinite(spectra.index_NI).all(1))
    return spectra.at(has_all_N)
