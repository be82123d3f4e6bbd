"""Who is trained on, who chooses, who tests: stars are dealt out, never their visits.

The part of a star is a hash of its name and the seed: the same on every machine, in every survey, whoever else is there. With `stratify` the
stars of each class are put in the order of their hashes and cut by share, so that a rare class has its share in every part; then the part of a
star at a cut depends on the others. Shapes: N spectra, S stars.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from survey.labelling.join import Labelled
from survey.labels import MISSING
from survey.settings import Settings

PARTS = ("train", "validation", "test")
"""Parts by number; -1 is in none, which only a user's own column can say."""

WORDS = {
    "train": 0,
    "training": 0,
    "validation": 1,
    "valid": 1,
    "val": 1,
    "dev": 1,
    "test": 2,
    "testing": 2,
    "none": -1,
}
"""What a column of parts may say, in any case."""

LEAST = 2
"""Stars that a part needs: of one star no error can be told from its scatter."""

Parts = NDArray[np.int8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Split(Settings):
    """The rule of the split."""

    parts: tuple[float, float, float] = Field(
        (0.7, 0.1, 0.2), strict=False, description="shares of train, validation and test"
    )
    by: Literal["star"] = Field("star", description="what is never torn apart: all visits of a star")
    seed: int = Field(0, ge=0, description="another seed deals out anew")
    stratify: bool = Field(
        False, description="give every class its exact share in every part, for rare classes"
    )
    folds: int | None = Field(
        None, ge=2, description="cross-validation: so many folds, each of which is the test once"
    )
    fold: int = Field(0, ge=0, description="the fold that tests")
    validation: float = Field(0.1, ge=0, lt=1, description="with folds: share of the rest that chooses")
    column: str | None = Field(
        None, description="column of the label table that says train, validation or test, instead of all this"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if min(self.parts) < 0 or abs(sum(self.parts) - 1) > 1e-6 or self.parts[0] == 0:
            raise ValueError(
                f"parts: {self.parts} are no shares; give three numbers that sum to 1, the first above 0"
            )
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(
                f"fold: {self.fold} of {self.folds}; they are numbered from 0 to {self.folds - 1}"
            )
        return self

    def needed(self) -> list[str]:
        """The parts that this rule fills."""
        if self.column is not None:
            return list(PARTS[:2])
        shares = self.parts if self.folds is None else (1.0, self.validation, 1.0)
        return [name for name, share in zip(PARTS, shares, strict=True) if share > 0]


def uniform(salt: str, star: str | int) -> float:
    """A number in [0, 1) that only the salt and the star's name decide."""
    return (int.from_bytes(blake2b(f"{salt}:{star}".encode(), digest_size=8).digest(), "big") >> 11) / (
        1 << 53
    )


def parts(settings: Split, labelled: Labelled) -> Parts:
    """The part of each labelled spectrum, none of them too small to be of use."""
    part_N = divide(settings, labelled.star, labelled.class_N, labelled.given_N)
    check(settings, part_N, labelled.star)
    return part_N


def divide(
    settings: Split,
    star_N: Sequence[str | int] | NDArray[np.generic],
    class_N: NDArray[np.int8],
    given_N: NDArray[np.object_] | None = None,
) -> Parts:
    """The part of each spectrum as a number of `PARTS`, by its star; `given_N` is what the user's own column says."""
    names_S, star_of_N = _stars(star_N)
    if settings.column is not None:
        if given_N is None:
            raise ValueError(
                f"split: column={settings.column}, but no parts are given; read them with the labels, or give column=null"
            )
        return _by_column(settings.column, given_N, names_S, star_of_N)
    class_S = (
        _rarest(class_N, star_of_N, len(names_S)) if settings.stratify else np.zeros(len(names_S), np.int64)
    )
    if settings.folds is None:
        return _cut(settings, f"{settings.seed}", names_S, class_S, settings.parts).astype(np.int8)[star_of_N]
    fold_S = _cut(settings, f"{settings.seed}", names_S, class_S, (1 / settings.folds,) * settings.folds)
    rest = np.flatnonzero(fold_S != settings.fold)
    shares = (1 - settings.validation, settings.validation)
    part_S = np.full(len(names_S), PARTS.index("test"), np.int8)
    part_S[rest] = _cut(
        settings,
        f"{settings.seed}:rest of fold {settings.fold}",
        [names_S[star] for star in rest],
        class_S[rest],
        shares,
    )
    return part_S[star_of_N]


def _stars(star_N: Sequence[str | int] | NDArray[np.generic]) -> tuple[list[str], Ints]:
    """The distinct names of stars, and which of them each spectrum is of."""
    encoded = pc.dictionary_encode(pc.cast(pa.array(star_N), pa.string()))
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _rarest(class_N: NDArray[np.int8], star_of_N: Ints, size: int) -> Ints:
    """One class for each star: the rarest of those that its visits were given; none counts last."""
    numbers, place_N, counts = np.unique(class_N, return_inverse=True, return_counts=True)
    rank = np.empty(len(numbers), np.int64)
    rank[np.lexsort((counts, numbers == MISSING))] = np.arange(len(numbers))
    best = np.full(size, len(numbers), np.int64)
    np.minimum.at(best, star_of_N, rank[place_N])
    return best


def _cut(settings: Split, salt: str, names_S: Sequence[str], class_S: Ints, shares: Sequence[float]) -> Ints:
    """The number of the share that each star falls into: by its hash alone, or by the place of its hash among those of its class."""
    hash_S = np.array([uniform(salt, name) for name in names_S], np.float64)
    ends = np.cumsum(shares)[:-1]
    if not settings.stratify:
        return np.searchsorted(ends, hash_S, side="right")
    cut = np.zeros(len(names_S), np.int64)
    for number in np.unique(class_S):
        members = np.flatnonzero(class_S == number)
        ordered = members[np.argsort(hash_S[members], kind="stable")]
        cut[ordered] = np.searchsorted(
            np.floor(ends * len(members) + 0.5), np.arange(len(members)), side="right"
        )
    return cut


def _by_column(column: str, given_N: NDArray[np.object_], names_S: Sequence[str], star_of_N: Ints) -> Parts:
    """The parts that a user has dealt out; a star in two of them would be tested on what it has taught."""
    texts = pa.array(given_N, pa.string())
    encoded = pc.dictionary_encode(pc.utf8_lower(pc.utf8_trim_whitespace(texts)))
    words = encoded.dictionary.to_pylist()
    if strange := [word for word in words if word not in WORDS]:
        raise ValueError(
            f"split: column={column}: it says {', '.join(map(repr, strange[:5]))}; write {', '.join(PARTS)}, or nothing for no part"
        )
    numbers = np.array([*(WORDS[word] for word in words), -1], np.int8)
    part_N: Parts = numbers[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]
    dealt = part_N >= 0
    first, last = np.full(len(names_S), len(PARTS)), np.full(len(names_S), -1)
    np.minimum.at(first, star_of_N[dealt], part_N[dealt])
    np.maximum.at(last, star_of_N[dealt], part_N[dealt])
    torn = np.flatnonzero(last > first)
    if torn.size:
        found = f"{torn.size} stars are in two parts, such as {names_S[torn[0]]} in {PARTS[first[torn[0]]]} and {PARTS[last[torn[0]]]}"
        raise ValueError(
            f"split: column={column}: {found}; put all visits of a star into one part, or give column=null"
        )
    return part_N


def check(settings: Split, part_N: Parts, star_N: NDArray[np.object_]) -> None:
    """An error where a part that is needed holds fewer than two stars."""
    names_S, star_of_N = _stars(star_N)
    stars = {name: len(np.unique(star_of_N[part_N == number])) for number, name in enumerate(PARTS)}
    small = [name for name in settings.needed() if stars[name] < LEAST]
    if small:
        found = ", ".join(f"{name} {count}" for name, count in stars.items())
        raise ValueError(
            f"split: {' and '.join(small)} would hold fewer than {LEAST} of {len(names_S)} stars ({found}); "
            f"label more stars, give split.parts= other shares, or split.stratify=true"
        )
