"""A test population: validation spectra are drawn many times, each time with other labels and other errors
of the instrument, so that the list of a rare class can be tested on many stars that do not belong in it.

A drawn star gets new labels near its own, if all of them are known, and its spectrum changes as the spectral
model of `survey.training.synthesis` predicts. Then it is distorted as a survey distorts it. Stars that are
not metal-poor are drawn so that their [Fe/H] is spread as in the survey. Draws of one spectrum are alike: the
column `base` names it, so that a rate is not taken for better known than it is.

Two kinds of draws decide nothing, but test the search for carbon (survey.ensemble.draws). In some draws of
carbon-rich stars the bands of carbon are blanked: a network that still calls them carbon-rich looks
elsewhere. And carbon is put into metal-poor stars whose carbon was never measured, as is so for most real
stars: their spectra change as those of computed stars do. A network that has learned carbon from computed
stars must find it there too.

Shapes: N spectra of the samples, D draws, B draws of a portion, I input labels, P pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from survey.answers import LINE_COLUMNS, Answers, Floats
from survey.ensemble.draws import BASE, BLANKED, INJECTED
from survey.ensemble.ensemble import Ensemble, EnsembleAnswers
from survey.ensemble.line_key import index_array, read_columns, signal_to_noise
from survey.ensemble.other_kinds import KIND_INDICES
from survey.ensemble.settings import Population
from survey.labelling.samples import Samples
from survey.labels import CLASSES, METAL_POOR, Criterion, classes
from survey.metrics.score import TRUE, TRUE_CLASS
from survey.progress import Progress
from survey.sources.wavelengths import air_to_vacuum
from survey.store.index_meter import IndexMeter
from survey.store.indices import INDICES
from survey.store.store import Store, round_mantissa
from survey.training.augment import augment
from survey.training.batches import ExtraInputs, Reader, Spectra, random_generator, read_spectra
from survey.training.synthesis import SpectralModel, label_columns, select_rows
from survey.training.synthesis_settings import Synthesis, input_labels, usable_order
from survey.training.validation import portions

PORTION = 1024
"""Draws that are predicted together."""
SHARES = {"NMP": 0.7, "MP": 0.2, "CEMP": 0.1}
"""Shares of the draws by the class of their base; the classes that are there share them."""
BLANKED_SHARE = 0.1
"""Share of the draws of carbon-rich stars whose bands are blanked."""
CARBON_BANDS = ((4140.0, 4217.0), (4250.0, 4330.0), (4500.0, 4740.0), (4950.0, 5170.0))
"""CN, the G band of CH and C2 (angstrom in air), blanked together."""
INJECTED_DRAWS = 40
"""Draws of each star that carbon is put into."""
BEFORE = 0.0
"""[C/Fe] of metal-poor stars whose carbon was not measured; theirs scatters around it by about 0.3."""
CARBON, MOST_CARBON = (-0.2, 2.2), 0.2
"""The range of [C/Fe] that they get, and the largest [C/H]: nearly all known CEMP stars have less."""
LABELS = ("Teff", "FeH", "CFe")
KEPT = (
    *(BASE, BLANKED, INJECTED, "snr", TRUE_CLASS, f"{TRUE}FeH", "p_mp", "p_cemp", "p_nmp", "predicted_class"),
    *LABELS,
    *(f"{name}_err" for name in LABELS),
    *("other_kind", "domain", "class_entropy_model", *LINE_COLUMNS),
    *KIND_INDICES,
)
"""The columns that a catalog needs: all predictions hold a copy of the table."""
BITS = 8
"""Bits of the mantissa of a number that are kept: 0.2 %."""
BIN = 0.1
"""Width of the bins in which the density of [Fe/H] is estimated (dex)."""


@dataclass(frozen=True)
class StarDraws:
    """Which spectrum is the base of each draw, and the labels before and after."""

    base_D: NDArray[np.int64]
    before_DI: Floats
    after_DI: Floats
    blanked_D: NDArray[np.bool_]
    injected_D: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.base_D)

    def at(self, rows: slice) -> "StarDraws":
        """Some of them."""
        return StarDraws(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __add__(self, other: "StarDraws") -> "StarDraws":
        """These, then those."""
        both = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return StarDraws(*(np.concatenate(arrays) for arrays in both))


class TestPopulation:
    """Draws of labelled spectra that no member of an ensemble was trained on."""

    __test__ = False  # it is no class of tests

    def __init__(
        self,
        settings: Population,
        store: Store,
        train: Samples,
        base: Samples,
        criterion: Criterion,
        seed: int = 0,
    ) -> None:
        self.settings, self.store, self.base, self.seed = settings, store, base, seed
        self.criterion = criterion
        self.inputs = input_labels(base.labels)
        self.model = self._fit_model(train)
        self.label_NI = label_columns(base, self.inputs)

    def _fit_model(self, train: Samples) -> SpectralModel | None:
        """The spectral model; None where too few training spectra have all labels."""
        if not {"FeH", "CFe"} <= set(self.inputs):
            return None
        chosen = train.at(select_rows(Synthesis(), train, self.inputs))
        order = usable_order(Synthesis().order, self.inputs, len(chosen))
        if not order:
            return None
        read = Reader(self.store.path)
        spectra = ((part.flux, part.ivar) for part in read(portions(chosen.shard_row_N2)))
        return SpectralModel.fit(label_columns(chosen, self.inputs), spectra, order)

    def draw(self) -> StarDraws:
        """The draws, in the order of their bases: so the table takes less space."""
        return self._usual_draws() + self._draws_with_carbon()

    def _usual_draws(self) -> StarDraws:
        rng, base = random_generator(self.seed, 21), self.base
        chance_N = self._chances()
        base_D = np.sort(rng.choice(len(base), self.settings.spectra, p=chance_N))
        before_DI = self.label_NI[base_D]
        after_DI = before_DI.copy()
        if self.model is not None:
            for name, sd in self.settings.sd.items():
                if name in self.inputs:
                    after_DI[:, self.inputs.index(name)] += sd * rng.standard_normal(len(base_D))
            after_DI = np.clip(after_DI, self.model.low_I.numpy(), self.model.high_I.numpy())
            known_D = np.asarray(np.isfinite(before_DI).all(1))
            after_DI = np.where(known_D[:, None], after_DI, before_DI)
        is_cemp_D = base.class_N[base_D] == CLASSES.index("CEMP")
        blanked_D = is_cemp_D & (rng.random(len(base_D)) < BLANKED_SHARE)
        return StarDraws(base_D, before_DI, after_DI, blanked_D, np.zeros(len(base_D), bool))

    def _draws_with_carbon(self) -> StarDraws:
        """Metal-poor stars whose carbon is not known, with other carbon."""
        carbon_I = np.array([name == "CFe" for name in self.inputs])
        before_NI = np.where(carbon_I & np.isnan(self.label_NI), BEFORE, self.label_NI)
        base_D = np.empty(0, np.int64)
        if self.model is not None:
            low_I, high_I = self.model.low_I.numpy(), self.model.high_I.numpy()
            inside_N = ((before_NI >= low_I) & (before_NI <= high_I)).all(1)
            unknown_N = np.isnan(self.label_NI).any(1) & (self.base.class_N == CLASSES.index("MP"))
            base_D = np.repeat(np.flatnonzero(inside_N & unknown_N), INJECTED_DRAWS)
        before_DI, none_D = before_NI[base_D], np.zeros(len(base_D), bool)
        iron_D1 = before_DI[:, [name == "FeH" for name in self.inputs]]
        most_D1 = np.minimum(CARBON[1], MOST_CARBON - iron_D1)
        given_D1 = random_generator(self.seed, 22).uniform(CARBON[0], most_D1)
        return StarDraws(base_D, before_DI, np.where(carbon_I, given_D1, before_DI), none_D, ~none_D)

    def _chances(self) -> Floats:
        """How likely each spectrum is drawn: by class, and by [Fe/H] where it is not metal-poor."""
        weight_N, class_N = np.zeros(len(self.base)), self.base.class_N
        for name, share in SHARES.items():
            of_class = class_N == CLASSES.index(name)
            weight_N[of_class] = share / max(of_class.sum(), 1)
        normal_N = class_N == CLASSES.index("NMP")
        feh_N = self.label_NI[:, self.inputs.index("FeH")] if "FeH" in self.inputs else np.array([np.nan])
        known_N = normal_N & np.isfinite(feh_N)
        if known_N.any():
            weight_N[known_N] *= self._wanted_density(feh_N[known_N])
        total = weight_N.sum()
        if not total:
            raise ValueError("ensemble: population: no validation spectrum has a class")
        return np.asarray(weight_N / total)

    def _wanted_density(self, feh_N: Floats) -> Floats:
        """Factors of mean 1 that give stars which are not metal-poor the spread of [Fe/H] of the survey."""
        bin_N = np.floor((feh_N - METAL_POOR["MP"]) / BIN).astype(np.int64)
        bins, inverse_N, count = np.unique(bin_N, return_inverse=True, return_counts=True)
        centre = METAL_POOR["MP"] + (bins + 0.5) * BIN
        wanted = np.exp(-0.5 * ((centre - self.settings.feh_mean) / self.settings.feh_sd) ** 2)
        factor_N = (wanted / count)[inverse_N]
        return np.asarray(factor_N / factor_N.mean())

    def spectra(self, draws: StarDraws, extra: ExtraInputs) -> Iterator[tuple[StarDraws, Spectra, Spectra]]:
        """The spectra of the draws in portions: those of the base, and as they are drawn."""
        base = read_spectra(self.store, self.base.shard_row_N2, extra)
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(draws), PORTION):
            portion = draws.at(slice(start, start + PORTION))
            before = base[torch.from_numpy(portion.base_D)]
            after = self._with_labels(before, portion)
            after = augment(self.settings.augment, after, generator)
            yield portion, before, self._blank(after, portion.blanked_D)

    def _with_labels(self, spectra: Spectra, draws: StarDraws) -> Spectra:
        """The spectra with other labels, where all labels are known."""
        if self.model is None:
            return spectra
        known_B = torch.from_numpy(np.asarray(np.isfinite(draws.before_DI).all(1)))[:, None]
        labels = (torch.from_numpy(label_BI).nan_to_num() for label_BI in (draws.before_DI, draws.after_DI))
        changed = self.model.change(spectra, *labels)
        flux_BP, ivar_BP = (
            torch.where(known_B, new_BP, old_BP)
            for new_BP, old_BP in ((changed.flux, spectra.flux), (changed.ivar, spectra.ivar))
        )
        return replace(spectra, flux=flux_BP, ivar=ivar_BP)

    def _blank(self, spectra: Spectra, blanked_B: NDArray[np.bool_]) -> Spectra:
        """The spectra, in some of them the continuum in place of the bands of carbon."""
        wave_P, flux_BP = self.store.grid.wave, spectra.flux.clone()
        for low, high in air_to_vacuum(np.array(CARBON_BANDS)):
            band = slice(*np.searchsorted(wave_P, (low, high)))
            flux_BP[torch.from_numpy(blanked_B), band] = 1.0
        return replace(spectra, flux=flux_BP)

    def carbon(self, draws: StarDraws) -> NDArray[np.float32]:
        """The [C/Fe] of the stars that carbon was put into; NaN for all others."""
        carbon_D = np.full(len(draws), np.nan, np.float32)
        if draws.injected_D.any():
            carbon_D = np.where(draws.injected_D, draws.after_DI[:, self.inputs.index("CFe")], carbon_D)
        return carbon_D.astype(np.float32)

    def true_classes(self, draws: StarDraws) -> NDArray[np.int8]:
        """The class of each draw: by its new labels, or that of its base where carbon is not known."""
        class_D = self.base.class_N[draws.base_D].copy()
        if self.model is None:
            return class_D
        columns = dict(zip(self.inputs, draws.after_DI.T, strict=True))
        by_label_D = classes(
            columns["FeH"], columns["CFe"], self.criterion, columns.get("Teff"), columns.get("logg")
        )
        return np.where(np.isfinite(draws.after_DI).all(1), by_label_D, class_D).astype(np.int8)


Conclude = Callable[[EnsembleAnswers, Floats], Answers]
"""The answers that follow from what the members say about spectra, and their signal to noise."""


def predict_population(ensemble: Ensemble, population: TestPopulation) -> pa.Table:
    """The answers of the ensemble about the draws, one row each, with the truth."""
    return predict_draws(ensemble, population, [lambda result, _: result.answers])[0]


def predict_draws(
    ensemble: Ensemble, population: TestPopulation, conclusions: Sequence[Conclude]
) -> list[pa.Table]:
    """A table of the draws, one row each, with the truth, for each way to conclude from the members."""
    draws, tables = population.draw(), [list[pa.Table]() for _ in conclusions]
    measure = IndexChanges(population)
    snr_N = signal_to_noise(population.base.extra)
    with Progress("predict test population", len(draws), "spectra") as bar:
        for portion, before, after in population.spectra(draws, ensemble.members.extra_inputs):
            snr_B = snr_N[portion.base_D] * _snr_ratio(before, after)
            columns = {
                BASE: portion.base_D.astype(np.int32),
                BLANKED: portion.blanked_D,
                INJECTED: population.carbon(portion),
                "snr": snr_B.astype(np.float32),
                TRUE_CLASS: population.true_classes(portion),
            }
            for name, label_B in zip(population.inputs, portion.after_DI.T, strict=True):
                columns[f"{TRUE}{name}"] = label_B.astype(np.float32)
            columns |= measure(portion, before, after)
            result = ensemble.predict(after, snr_B)
            for conclude, of_conclusion in zip(conclusions, tables, strict=True):
                of_conclusion.append(_table(columns | conclude(result, snr_B).to_columns(), ensemble))
            bar.add(len(portion))
    return [_rounded(pa.concat_tables(each).combine_chunks()) for each in tables]


def _table(columns: dict[str, NDArray[Any]], ensemble: Ensemble) -> pa.Table:
    """The columns that are kept, with [Fe/H] from lines."""
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    if ensemble.line_key is not None:
        table = ensemble.line_key.add_columns(table, index_array(table))
    return table.select([name for name in KEPT if name in table.column_names])


def _rounded(table: pa.Table) -> pa.Table:
    """The table with real numbers rounded to `BITS`."""
    for number, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = table[field.name].cast(pa.float32()).to_numpy(zero_copy_only=False).copy()
            rounded = pa.array(round_mantissa(values, BITS), pa.float32(), from_pandas=True)
            table = table.set_column(number, field.name, rounded)
    return table


def _snr_ratio(before: Spectra, after: Spectra) -> Floats:
    """By how much the signal to noise of each spectrum has fallen: the median over its good pixels.

    It never rises: smoothing only makes the noise of neighbours alike.
    """
    good_BP = (before.ivar > 0) & (after.ivar > 0)
    ratio_BP = torch.where(good_BP, (after.ivar / before.ivar.clamp_min(1e-12)).sqrt(), torch.nan)
    return np.fmin(ratio_BP.nanmedian(1).values.numpy().astype(np.float64), 1.0)


class IndexChanges:
    """The indices of drawn spectra: those of their bases, changed as those of the normalised flux change."""

    def __init__(self, population: TestPopulation) -> None:
        store, base = population.store, population.base
        self.meter = IndexMeter(store.grid, torch.device("cpu"))
        self.stored = read_columns(store, base.shard_row_N2, tuple(INDICES))

    def __call__(self, draws: StarDraws, before: Spectra, after: Spectra) -> dict[str, Floats]:
        """The indices by name; NaN where one is not known."""
        old, new = (self.meter(spectra.flux, spectra.ivar) for spectra in (before, after))
        changed = {}
        for name, index in INDICES.items():
            stored_B = self.stored[name][draws.base_D]
            with np.errstate(invalid="ignore", divide="ignore"):
                moved_B = (
                    stored_B * new[name] / old[name] if index.is_ratio else stored_B + new[name] - old[name]
                )
            changed[name] = moved_B.astype(np.float32)
        return changed
