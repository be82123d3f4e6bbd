"""Stars of other kinds: a small classifier that knows hot stars, M stars, white dwarfs, carbon stars.

The classes of the networks are those of F, G and K stars. What a network says of another kind means nothing,
but its last features (the latent space) hold what kind it is. A logistic regression on them is fitted to the
training spectra: ordinary stars have temperatures that the lists are tested for, stars of other kinds have
others, or no known temperature and a type of the survey's own that says so. All members count alike. The
constant is such that hardly any metal-poor star of ordinary kind is lost. The probability of another kind is
taken from the classes of metal-poor stars and given to that of stars which are not.

Shapes: N spectra, M members, D latent features, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize
from scipy.special import entr, expit

from survey.answers import Answers, Floats
from survey.ensemble.domain import Latent
from survey.labelling.samples import Samples
from survey.labelling.survey_types import OTHER_KINDS, survey_kinds
from survey.labels import CLASSES, LIST_CLASSES, MISSING
from survey.store.store import Store
from survey.training.batches import random_generator

ORDINARY_TEFF = (4000.0, 7000.0)
"""The temperatures (K) of ordinary stars."""
OTHER_TEFF = (3900.0, 7500.0)
"""Stars below and above are of another kind; what lies between is left out of the fit."""
LEAST = 50
"""With fewer stars of other kinds, or fewer ordinary ones, there is no classifier."""
MOST = 5_000
"""At most this many spectra without a label are used for the type that the survey gives them."""
PENALTY = 0.01
"""The penalty of the squared coefficients of standardised features."""
KEPT = 0.995
"""This share of the metal-poor ordinary stars has a probability below one half of being another kind."""
KIND_INDICES = ("g_band", "c2_4668", "c2_5165", "na_d", "h_delta", "cah2", "cah3", "tio5")
"""The indices by which a catalog tells the kind of a star."""


class OtherKindsRecord(BaseModel):
    """How the classifier was fitted; `missing` says why there is none.

    `ordinary` and `others` are spectra of the fit; of the validation spectra of other kinds a share of
    `found` is found, and of the ordinary ones a share of `lost` is taken for others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ordinary: int = 0
    others: int = 0
    found: float | None = None
    lost: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class OtherKinds:
    """For each member a centre and a scale of its latents (D), coefficients (D), and a constant."""

    centre: tuple[Floats, ...]
    scale: tuple[Floats, ...]
    weight: tuple[Floats, ...]
    constant: Floats

    @classmethod
    def fit(cls, latents: Sequence[Latent], is_other_N: NDArray[np.bool_]) -> Self:
        """From latents (N, D) of training spectra, one array per member.

        Ordinary stars and others count by the roots of their numbers: few others weigh more, each.
        """
        share = is_other_N.mean()
        weight_N = np.where(is_other_N, 1 / np.sqrt(share), 1 / np.sqrt(1 - share))
        centre, scale, weight, constant = [], [], [], []
        for latent_ND in latents:
            finite_N = np.isfinite(latent_ND).all(1)
            used_ND = np.asarray(latent_ND[finite_N], np.float64)
            centre.append(used_ND.mean(0))
            scale.append(np.maximum(used_ND.std(0), 1e-6))
            z_ND = (used_ND - centre[-1]) / scale[-1]
            fitted_D = _logistic(z_ND, is_other_N[finite_N], weight_N[finite_N] / weight_N[finite_N].sum())
            weight.append(fitted_D[:-1])
            constant.append(fitted_D[-1])
        return cls(tuple(centre), tuple(scale), tuple(weight), np.array(constant))

    def logit(self, latents: Sequence[Latent]) -> Floats:
        """The logarithm of the odds (N) of another kind: the mean over the members with a latent."""
        each_MN = []
        parts = zip(latents, self.centre, self.scale, self.weight, self.constant, strict=True)
        with np.errstate(invalid="ignore"):
            for latent_ND, centre_D, scale_D, weight_D, constant in parts:
                z_ND = (np.asarray(latent_ND, np.float64) - centre_D) / scale_D
                each_MN.append(z_ND @ weight_D + constant)
        logit_MN = np.stack(each_MN)
        finite_MN = np.isfinite(logit_MN)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(finite_MN, logit_MN, 0).sum(0) / finite_MN.sum(0))

    def keeping(self, logit_N: Floats) -> Self:
        """The same, with a constant that takes hardly any of these ordinary spectra for others."""
        finite_N = logit_N[np.isfinite(logit_N)]
        excess = max(float(np.quantile(finite_N, KEPT)), 0.0) if len(finite_N) else 0.0
        return replace(self, constant=self.constant - excess)

    def apply(self, answers: Answers, latents: Sequence[Latent]) -> Answers:
        """The answers, with the probability of another kind taken from the classes of metal-poor stars.

        Where it is unknown the classes stay as they are.
        """
        other_N = np.asarray(expit(self.logit(latents)))
        answers = replace(answers, other_kind_N=other_N)
        if answers.p_NC is None or set(answers.classes) != set(CLASSES):
            return answers
        left_N = 1 - np.nan_to_num(other_N)
        p_NC = answers.p_NC * left_N[:, None]
        p_NC[:, answers.classes.index("NMP")] += 1 - left_N
        model_N = answers.class_entropy_model_N
        return replace(
            answers,
            p_NC=p_NC,
            class_entropy_N=entr(p_NC).sum(1),
            class_entropy_model_N=None if model_N is None else model_N * left_N,
        )

    def to_tensors(self) -> dict[str, Floats]:
        """The classifier as named float64 arrays, for a safetensors file."""
        tensors = {"constant": self.constant}
        for number, arrays in enumerate(zip(self.centre, self.scale, self.weight, strict=True)):
            names = (f"{number}.{name}" for name in ("centre", "scale", "weight"))
            tensors |= dict(zip(names, arrays, strict=True))
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> Self:
        """The classifier from what `to_tensors` gave."""
        try:
            numbers = range(len(tensors["constant"]))
            centre, scale, weight = (
                tuple(tensors[f"{number}.{name}"] for number in numbers)
                for name in ("centre", "scale", "weight")
            )
        except KeyError as error:
            raise ValueError(
                f"other_kinds.safetensors: the tensor {error} is missing; make the ensemble again"
            ) from error
        return cls(centre, scale, weight, tensors["constant"])


def _logistic(z_ND: Floats, is_other_N: NDArray[np.bool_], weight_N: Floats) -> Floats:
    """The coefficients and the constant of a logistic regression with a penalty."""
    sign_N = np.where(is_other_N, 1.0, -1.0)

    def loss(values: Floats) -> tuple[float, Floats]:
        weight_D, margin_N = values[:-1], sign_N * (z_ND @ values[:-1] + values[-1])
        slope_N = -weight_N * sign_N * expit(-margin_N)
        value = weight_N @ np.logaddexp(0, -margin_N) + PENALTY * weight_D @ weight_D
        return float(value), np.append(z_ND.T @ slope_N + 2 * PENALTY * weight_D, slope_N.sum())

    start = np.zeros(z_ND.shape[1] + 1)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def kinds_by_temperature(samples: Samples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which samples are ordinary stars, and which are of another kind; some are neither."""
    teff_N = np.full(len(samples), np.nan)
    if "Teff" in samples.labels:
        teff_N = samples.label_NL[:, samples.labels.index("Teff")]
    elif "true_Teff" in samples.extra.column_names:
        teff_N = samples.extra["true_Teff"].to_numpy(zero_copy_only=False).astype(np.float64)
    is_ordinary_N = (teff_N >= ORDINARY_TEFF[0]) & (teff_N <= ORDINARY_TEFF[1])
    return is_ordinary_N, (teff_N < OTHER_TEFF[0]) | (teff_N > OTHER_TEFF[1])


def unlabelled_others(store: Store, labelled_N2: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Where spectra of other kinds are, by the survey's own type, that have no label at all."""
    found = []
    for shard in range(store.shards):
        table = store.spectra(shard, ["class", "subclass"])
        row_N = np.flatnonzero(np.isin(survey_kinds(table), OTHER_KINDS))
        row_N = row_N[~np.isin(row_N, labelled_N2[labelled_N2[:, 0] == shard, 1])]
        found.append(np.stack([np.full_like(row_N, shard), row_N], 1))
    place_N2 = np.concatenate(found)
    chosen = random_generator(seed, 31).permutation(len(place_N2))[:MOST]
    return place_N2[np.sort(chosen)]


def columns_of(store: Store, place_N2: NDArray[np.int64], names: list[str]) -> pa.Table:
    """Columns of spectra of a store, at least one, in the order of their places."""
    order, tables, shard_N = [], [], place_N2[:, 0]
    for shard in np.unique(shard_N).tolist():
        order.append(np.flatnonzero(shard_N == shard))
        tables.append(store.spectra(shard, names).take(pa.array(place_N2[order[-1], 1])))
    return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(order))))


def with_kind_columns(samples: Samples, store: Store) -> Samples:
    """The samples with what tells the kind of an object: the type by the survey, and `KIND_INDICES`."""
    if not len(samples):
        return samples
    columns = columns_of(store, samples.shard_row_N2, ["class", "subclass", *KIND_INDICES])
    extra = samples.extra
    for field in columns.schema:
        if field.name not in extra.column_names:
            extra = extra.append_column(field, columns[field.name])
    return replace(samples, extra=extra)


@dataclass(frozen=True)
class KindSpectra:
    """The spectra of a fit: latents by member, and what is known of their kind and class."""

    latents: list[Latent]
    is_ordinary_N: NDArray[np.bool_]
    is_other_N: NDArray[np.bool_]
    class_N: NDArray[Any]

    @classmethod
    def of_samples(cls, samples: Samples, latents: Sequence[Latent]) -> Self:
        """Labelled spectra."""
        return cls(list(latents), *kinds_by_temperature(samples), samples.class_N)

    def with_others(self, latents: Sequence[Latent]) -> Self:
        """The same and further spectra, which are of other kinds."""
        count = len(latents[0]) if latents else 0
        return type(self)(
            [np.concatenate(pair) for pair in zip(self.latents, latents, strict=True)],
            np.append(self.is_ordinary_N, np.zeros(count, bool)),
            np.append(self.is_other_N, np.ones(count, bool)),
            np.append(self.class_N, np.full(count, MISSING, self.class_N.dtype)),
        )

    @property
    def is_metal_poor_N(self) -> NDArray[np.bool_]:  # noqa: N802
        """Ordinary metal-poor stars."""
        numbers = [CLASSES.index(name) for name in LIST_CLASSES["MP"]]
        return np.asarray(self.is_ordinary_N & np.isin(self.class_N, numbers))


def fit_other_kinds(
    train: KindSpectra, validation: KindSpectra
) -> tuple[OtherKinds | None, OtherKindsRecord]:
    """The classifier, fitted to training spectra; validation spectra set its constant and test it."""
    ordinary, others = int(train.is_ordinary_N.sum()), int(train.is_other_N.sum())
    if min(ordinary, others) < LEAST:
        text = f"{ordinary:,} training spectra are of ordinary stars, {others:,} of other kinds"
        return None, OtherKindsRecord(missing=f"{text}; {LEAST} of each are needed")
    used_N = train.is_ordinary_N | train.is_other_N
    model = OtherKinds.fit([latent_ND[used_N] for latent_ND in train.latents], train.is_other_N[used_N])
    known = [model.logit(part.latents)[part.is_metal_poor_N] for part in (train, validation)]
    model = model.keeping(np.concatenate(known))
    is_taken_N = model.logit(validation.latents) > 0
    shares = [
        float(is_taken_N[group_N].mean()) if group_N.any() else None
        for group_N in (validation.is_other_N, validation.is_ordinary_N)
    ]
    return model, OtherKindsRecord(ordinary=ordinary, others=others, found=shares[0], lost=shares[1])
