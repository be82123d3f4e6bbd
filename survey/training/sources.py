"""The sources of training spectra: labels are joined source by source, and the stores become one.

Every labelled spectrum keeps the name of its source. A star has one part, in whatever source it is.
Shapes: N spectra, L labels.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import files
from survey.labelling import join as labelling
from survey.labelling import keys, star_id
from survey.labelling.common_stars import MOVED, common_stars
from survey.labelling.join import Labelled
from survey.labelling.rows import available_labels
from survey.labelling.samples import Samples
from survey.labelling.star_id import Codes
from survey.labelling.unlabelled import NONE, unlabelled
from survey.labels import MISSING
from survey.messages import counted
from survey.settings import SettingsError
from survey.store.link import link_stores
from survey.store.schema import Flag
from survey.store.store import Store, open_store
from survey.training.run import JOINED
from survey.training.settings import Train
from survey.training.source_settings import MAIN, Align, Source

SOURCE = "source"
"""The column of samples with the name of the source."""


@dataclass(frozen=True)
class JoinedSource:
    """The labelled spectra of one source; `first_shard` is the number of its first shard among all."""

    name: str
    source: Source
    labelled: Labelled
    first_shard: int


def used_sources(settings: Train) -> dict[str, Source]:
    """All sources of a training by name, the main one first."""
    main = Source(store=settings.store, labels=settings.labels)
    return {MAIN: main} | {name: source for name, source in settings.sources.items() if source.store}


def open_training_store(settings: Train, folder: str) -> Store:
    """The store of a training; that of several sources lies in a folder of the run."""
    sources = used_sources(settings)
    if len(sources) == 1:
        return open_store(settings.store)
    stores = [open_store(source.store) for source in sources.values()]
    return link_stores(files.absolute(files.join(folder, JOINED)), stores)


def join_sources(settings: Train, labels: Sequence[str], optional: bool) -> list[JoinedSource]:
    """The labelled spectra of all sources. The main one must have all labels, if not `optional`."""
    joined, first_shard = [], 0
    for name, source in used_sources(settings).items():
        store = open_store(source.store)
        if source.labels == NONE and (name != MAIN or settings.task == "none"):
            joined.append(JoinedSource(name, source, unlabelled(store), first_shard))
            first_shard += store.shards
            continue
        join = (source.join or settings.join).model_copy(update={"table": source.labels})
        names = available_labels(join, labels) if optional or name != MAIN else tuple(labels)
        try:
            labelled = labelling.join(join, store, names, settings.split.column)
        except ValueError as error:
            if name == MAIN:
                raise
            raise SettingsError(f"train: sources.{name}: {error}") from error
        joined.append(JoinedSource(name, source, labelled, first_shard))
        first_shard += store.shards
    return joined


def with_common_stars(joined: Sequence[JoinedSource]) -> list[JoinedSource]:
    """The sources, with one name for a star in all of them; a single source keeps its names.

    Tables name stars by different ids, or by none. A star is the same by its name, by its position, or by a
    spectrum that two tables label. Its name is the smallest that a source gives. Equal names far apart on the
    sky are those of several stars: two surveys may both count theirs from 1.
    """
    if len(joined) == 1:
        return list(joined)
    each = [source.labelled for source in joined]
    sizes = [len(labelled) for labelled in each]
    source_N = np.repeat(np.arange(len(each)), sizes)
    given_N = np.concatenate([labelled.star_N for labelled in each])
    name_N, names = star_id.encode(pa.array(given_N, pa.string()))
    ra, dec = (
        keys.to_floats(pa.concat_arrays([labelled.extra[name].combine_chunks() for labelled in each]))
        for name in ("ra", "dec")
    )
    star_N = common_stars(source_N, name_N, [], ra, dec, _places(joined))
    own, first, own_N = np.unique(name_N * len(each) + source_N, return_index=True, return_inverse=True)
    texts, is_of_several = _own_names(joined, own, star_N[first], names)
    if distant := np.flatnonzero(is_of_several[own_N]).tolist():
        logging.getLogger(__name__).warning(
            "train: sources: %d spectra have a name, such as %s, that is also that of a star of another "
            "source more than %g arcsec away, so these are several stars",
            *(len(distant), given_N[distant[0]], MOVED),
        )
    is_named_anew_S = np.bincount(star_N[first]) > 1
    is_named_anew_S[star_N[first[is_of_several]]] = True
    rows = np.flatnonzero(is_named_anew_S[star_N])
    used, own_R = np.unique(own_N[rows], return_inverse=True)
    texts = texts.take(pa.array(used))
    number_R, nowhere = np.unique(star_N[rows], return_inverse=True)[1], np.full(len(rows), np.nan)
    given_N[rows] = star_id.name_stars(number_R, [(own_R, texts)], nowhere, nowhere, texts)[number_R]
    return [
        replace(source, labelled=replace(source.labelled, star_N=own_star_N))
        for source, own_star_N in zip(joined, np.split(given_N, np.cumsum(sizes)[:-1]), strict=True)
    ]


def _own_names(
    joined: Sequence[JoinedSource], own: Codes, star: Codes, names: pa.Array
) -> tuple[pa.Array, NDArray[np.bool_]]:
    """The name of each star of each source, and whether it is that of several stars.

    Such a name is completed by the source, except where the first source has it. `own` is the number of the
    name and of the source together, in order; `star` is the star that all sources have in common.
    """
    name, source = own // len(joined), own % len(joined)
    lowest, highest = np.full(len(names), len(star)), np.full(len(names), -1)
    np.minimum.at(lowest, name, star)
    np.maximum.at(highest, name, star)
    is_of_several = (lowest < highest)[name]
    texts = names.take(pa.array(name))
    sources = pa.array([each.name for each in joined]).take(pa.array(source))
    is_later = is_of_several & (np.diff(name, prepend=-1) == 0)
    return pc.if_else(is_later, pc.binary_join_element_wise(texts, sources, " of "), texts), is_of_several


def _places(joined: Sequence[JoinedSource]) -> list[Codes]:
    """Codes for the places of spectra, if several sources have spectra of one store."""
    stores = [files.absolute(source.source.store) for source in joined]
    if len(set(stores)) == len(stores):
        return []
    places = [
        stores.index(store) << 56 | source.labelled.shard_N << 32 | source.labelled.row_in_shard_N
        for source, store in zip(joined, stores, strict=True)
    ]
    return [np.unique(np.concatenate(places), return_inverse=True)[1]]


def concatenate(each: Sequence[tuple[JoinedSource, Samples]]) -> Samples:
    """The samples of all sources as one, with shards numbered as in the joined store."""
    if len(each) == 1:
        return each[0][1]
    moved = [
        replace(
            samples,
            shard_row_N2=samples.shard_row_N2 + np.array([source.first_shard, 0]),
            extra=samples.extra.append_column(SOURCE, pa.array([source.name] * len(samples), pa.string())),
        )
        for source, samples in each
    ]
    names = ("shard_row_N2", "part_N", "class_N", "label_NL", "error_NL")
    arrays = {name: np.concatenate([getattr(samples, name) for samples in moved]) for name in names}
    extra = pa.concat_tables([samples.extra for samples in moved], promote_options="permissive")
    return Samples(moved[0].labels, extra=extra, **arrays)


def source_names(samples: Samples) -> NDArray[np.object_]:
    """The name of the source of each sample."""
    if SOURCE not in samples.extra.column_names:
        return np.full(len(samples), MAIN, object)
    return np.asarray(samples.extra[SOURCE].to_pylist(), object)


def compared_sources(samples: Samples, align: Align) -> NDArray[np.int64]:
    """The number of the source of each sample, the main one is 0; -1 where it is not compared with others."""
    names = source_names(samples)
    number_of = {name: number for number, name in enumerate(dict.fromkeys([MAIN, *names]))}
    number_N = np.array([number_of[name] for name in names], np.int64)
    if "Teff" in samples.labels:
        teff_N = samples.label_NL[:, samples.labels.index("Teff")]
        number_N[(teff_N < align.teff[0]) | (teff_N > align.teff[1])] = MISSING
    return number_N


def pair_numbers(samples: Samples) -> NDArray[np.int64]:
    """A number that the samples of a star share, if the star is in several sources; -1 if it is in one."""
    columns = samples.extra.column_names
    if SOURCE not in columns or "star" not in columns or not len(samples):
        return np.full(len(samples), MISSING, np.int64)
    star_N = np.unique(samples.extra["star"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    source_N = np.unique(source_names(samples).astype(str), return_inverse=True)[1]
    lowest_S, highest_S = np.full(star_N.max() + 1, len(samples)), np.full(star_N.max() + 1, -1)
    np.minimum.at(lowest_S, star_N, source_N)
    np.maximum.at(highest_S, star_N, source_N)
    return np.where((lowest_S < highest_S)[star_N], star_N, MISSING)


def known(samples: Samples) -> Samples:
    """The samples of which a class or a label is known."""
    return samples.at(np.flatnonzero((samples.class_N != MISSING) | np.isfinite(samples.label_NL).any(1)))


def with_input(samples: Samples, inputs: Sequence[str], where: str) -> tuple[Samples, str]:
    """The samples of objects that have one of these inputs, and a text about those that are left out."""
    flag_N = samples.extra["flags"].combine_chunks().fill_null(0).to_numpy()
    missing = {"spectrum": Flag.NO_SPECTRUM, "image": Flag.NO_IMAGE}
    has_input_N = np.any([flag_N & missing[name] == 0 for name in inputs], 0)
    left_out = len(samples) - int(has_input_N.sum())
    if not left_out:
        return samples, ""
    if left_out == len(samples):
        raise SettingsError(
            f"{where}: none of {len(samples):,} labelled objects has the {' or the '.join(inputs)} that the "
            "network answers from; give other options, or another store"
        )
    text = f"{counted(left_out, 'labelled object')} left out, without the {' or the '.join(inputs)}"
    return samples.at(np.flatnonzero(has_input_N)), text


def learned_labels(samples: Samples, ranges: Mapping[str, tuple[float, float]]) -> NDArray[np.float64]:
    """The labels (N, L) that are learned: those beyond a range as its end."""
    label_NL = samples.label_NL.copy()
    for name, (low, high) in ranges.items():
        if name in samples.labels:
            column = samples.labels.index(name)
            label_NL[:, column] = np.clip(label_NL[:, column], low, high)
    return label_NL


def loss_weights(samples: Samples, sources: Mapping[str, Source]) -> NDArray[np.float64]:
    """The weight of each sample in the loss."""
    weight_of = {name: source.weight for name, source in sources.items()}
    return np.array([weight_of.get(name, 1.0) for name in source_names(samples)])


def other_classes(
    samples: Samples, sources: Mapping[str, Source], classes: Sequence[str]
) -> NDArray[np.int64]:
    """The number of the class that each sample may have as well as its own; -1 where there is none."""
    other_N, name_N = np.full(len(samples), MISSING, np.int64), source_names(samples)
    for name, source in sources.items():
        for own, other in source.may_be.items():
            chosen = (name_N == name) & (samples.class_N == classes.index(own))
            other_N[chosen] = classes.index(other)
    return other_N


def draw_weights(
    samples: Samples, sources: Mapping[str, Source], weight_N: NDArray[np.float64] | None = None
) -> NDArray[np.float64] | None:
    """How often each sample comes in an epoch, so that sources have their shares; None = each once.

    Spectra of the sources without a share come as often as before, which is once or `weight_N`: other stars
    are not learned at their cost. Within a source, `weight_N` decides.
    """
    shares = {name: source.share for name, source in sources.items() if source.store and source.share}
    if not shares:
        return weight_N
    rest = 1 - sum(shares.values())
    name_N = source_names(samples)
    weight_N = np.ones(len(samples)) if weight_N is None else weight_N.copy()
    others = float(weight_N[~np.isin(name_N, list(shares))].sum()) or 1.0
    for name, share in shares.items():
        chosen = name_N == name
        weight_N[chosen] *= share / rest * others / (float(weight_N[chosen].sum()) or 1.0)
    return weight_N
