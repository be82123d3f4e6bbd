"""The split of labelled spectra into training, validation and test.

All visits of a star go into the same part. The part is decided by a hash of the star's name and the seed. It
is the same on every machine and in every survey, and does not depend on the other stars. With `stratify`, the
stars of each class are sorted by their hashes and cut by the shares, so that a rare class has its exact share
in every part; then the part of a star next to a cut depends on the other stars.
Shapes: N spectra, S stars.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.labelling.join import Labelled
from survey.labelling.settings import PARTS, Split
from survey.labels import MISSING

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
"""Words for the parts in a column of the user, in any case."""

MIN_STARS = 2
"""Stars that a part needs: the scatter of a single star is not defined."""

Parts = NDArray[np.int8]
Integers = NDArray[np.int64]


def assign_parts(settings: Split, labelled: Labelled) -> Parts:
    """The part of each labelled spectrum; a part that is too small is an error."""
    part_N = parts_of_stars(settings, labelled.star_N, labelled.class_N, labelled.user_part_N)
    check_parts(settings, part_N, labelled.star_N)
    return part_N


def parts_of_stars(
    settings: Split,
    star_N: Sequence[str | int] | NDArray[np.generic],
    class_N: NDArray[np.int8],
    user_part_N: NDArray[np.object_] | None = None,
) -> Parts:
    """The part of each spectrum, as its number in `PARTS`; `user_part_N` holds words of the user's column."""
    names_S, star_of_N = _number_stars(star_N)
    if settings.column is not None:
        if user_part_N is None:
            raise ValueError(
                f"split: column={settings.column}: no parts were read with the labels; "
                "read them with the labels, or give column=null"
            )
        return _read_parts(settings.column, user_part_N, names_S, star_of_N)
    class_S = np.zeros(len(names_S), np.int64)
    if settings.stratify:
        class_S = _rarest_class(class_N, star_of_N, len(names_S))
    if settings.folds is None:
        part_S = _cut(settings, f"{settings.seed}", names_S, class_S, settings.parts).astype(np.int8)
    else:
        part_S = _parts_of_fold(settings, settings.folds, names_S, class_S)
    return part_S[star_of_N]


def hash_to_unit(salt: str, star: str | int) -> float:
    """A number in [0, 1) that depends on the salt and the star's name only."""
    digest = blake2b(f"{salt}:{star}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def _number_stars(star_N: Sequence[str | int] | NDArray[np.generic]) -> tuple[list[str], Integers]:
    """The distinct names of stars, and the number of each spectrum's star in that list."""
    encoded = pc.dictionary_encode(pc.cast(pa.array(star_N), pa.string()))
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _rarest_class(class_N: NDArray[np.int8], star_of_N: Integers, stars: int) -> Integers:
    """A class for each star: the rarest class among its visits; a missing class is the last choice."""
    numbers, class_index_N, counts = np.unique(class_N, return_inverse=True, return_counts=True)
    rank = np.empty(len(numbers), np.int64)
    rank[np.lexsort((counts, numbers == MISSING))] = np.arange(len(numbers))
    rarest_S = np.full(stars, len(numbers), np.int64)
    np.minimum.at(rarest_S, star_of_N, rank[class_index_N])
    return rarest_S


def _parts_of_fold(settings: Split, folds: int, names_S: Sequence[str], class_S: Integers) -> Parts:
    """The part of each star: the chosen fold is the test part, the others are training and validation."""
    fold_S = _cut(settings, f"{settings.seed}", names_S, class_S, (1 / folds,) * folds)
    others = np.flatnonzero(fold_S != settings.fold)
    salt = f"{settings.seed}:rest of fold {settings.fold}"
    shares = (1 - settings.validation, settings.validation)
    part_S = np.full(len(names_S), PARTS.index("test"), np.int8)
    part_S[others] = _cut(
        settings, salt, [names_S[star] for star in others.tolist()], class_S[others], shares
    )
    return part_S


def _cut(
    settings: Split, salt: str, names_S: Sequence[str], class_S: Integers, shares: Sequence[float]
) -> Integers:
    """The number of the share that each star falls into.

    Without `stratify` the hash decides; with it, the rank of the hash among the stars of the same class.
    """
    hash_S = np.array([hash_to_unit(salt, name) for name in names_S], np.float64)
    ends = np.cumsum(shares)[:-1]
    if not settings.stratify:
        return np.searchsorted(ends, hash_S, side="right")
    share_S = np.zeros(len(names_S), np.int64)
    for number in np.unique(class_S):
        stars = np.flatnonzero(class_S == number)
        by_hash = stars[np.argsort(hash_S[stars], kind="stable")]
        limits = np.floor(ends * len(stars) + 0.5)
        share_S[by_hash] = np.searchsorted(limits, np.arange(len(stars)), side="right")
    return share_S


def _read_parts(
    column: str, user_part_N: NDArray[np.object_], names_S: Sequence[str], star_of_N: Integers
) -> Parts:
    """The parts from the user's column. A star in two parts would be tested on what it was trained on."""
    encoded = pc.dictionary_encode(pc.utf8_lower(pc.utf8_trim_whitespace(pa.array(user_part_N, pa.string()))))
    words = encoded.dictionary.to_pylist()
    if unknown := [word for word in words if word not in WORDS]:
        raise ValueError(
            f"split: column={column}: contains {', '.join(map(repr, unknown[:5]))}; "
            f"write {', '.join(PARTS)}, or leave a cell empty for no part"
        )
    numbers = np.array([*(WORDS[word] for word in words), -1], np.int8)
    part_N: Parts = numbers[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]
    _check_undivided(column, part_N, names_S, star_of_N)
    return part_N


def _check_undivided(column: str, part_N: Parts, names_S: Sequence[str], star_of_N: Integers) -> None:
    in_part = part_N >= 0
    lowest_S, highest_S = np.full(len(names_S), len(PARTS)), np.full(len(names_S), -1)
    np.minimum.at(lowest_S, star_of_N[in_part], part_N[in_part])
    np.maximum.at(highest_S, star_of_N[in_part], part_N[in_part])
    divided = np.flatnonzero(highest_S > lowest_S)
    if divided.size:
        star = divided[0]
        raise ValueError(
            f"split: column={column}: {divided.size} stars are in two parts, such as {names_S[star]} "
            f"in {PARTS[lowest_S[star]]} and {PARTS[highest_S[star]]}; "
            "put all visits of a star into one part, or give column=null"
        )


def check_parts(settings: Split, part_N: Parts, star_N: NDArray[np.object_]) -> None:
    """Refuses a split in which a part that must be filled holds fewer than two stars."""
    names_S, star_of_N = _number_stars(star_N)
    stars = {name: len(np.unique(star_of_N[part_N == number])) for number, name in enumerate(PARTS)}
    small = [name for name in settings.filled_parts() if stars[name] < MIN_STARS]
    if small:
        counts = ", ".join(f"{name} {count}" for name, count in stars.items())
        advice = "or change the shares split.parts="
        if not settings.stratify and settings.column is None:
            advice = "change the shares split.parts=, or give split.stratify=true"
        raise ValueError(
            f"split: {' and '.join(small)} would hold fewer than {MIN_STARS} of {len(names_S)} stars "
            f"({counts}); label more stars, {advice}"
        )
