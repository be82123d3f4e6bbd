"""Which spectra are explained: a random part of those with enough signal, and those that are named."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import files
from survey.ensemble import holdout
from survey.ensemble.ensemble import Ensemble
from survey.ensemble.line_key import read_columns
from survey.explain.settings import ExplainSettings
from survey.settings import SettingsError
from survey.store.store import Store, open_store
from survey.training.batches import Places

NAMES = ("obsid", "visit", "star", "path")
"""The columns in which a named spectrum is looked for."""
MOST_SHARDS = 16
"""Shards of a given store from which spectra are drawn."""
LEAST = 8
"""Fewer spectra show nothing."""


@dataclass(frozen=True)
class Chosen:
    """Spectra of a store: their places, in the order of the store, and their signal to noise."""

    store: Store
    place_N2: Places
    snr_N: NDArray[np.float64]

    def at(self, rows: NDArray[np.int64]) -> "Chosen":
        """Some of them."""
        return Chosen(self.store, self.place_N2[rows], self.snr_N[rows])


def open_spectra(settings: ExplainSettings, ensemble: Ensemble) -> Store:
    """The store whose spectra are explained."""
    trained = ensemble.document.store
    store = open_store(settings.store or ensemble.store_path)
    ensemble.members.check_store(store)
    if settings.store is None and store.id != trained.id:
        raise SettingsError(
            f"explain: {store.path}: is not the store that {settings.of} was trained on (id {trained.id}, "
            f"here {store.id}); give store= with a store to look at"
        )
    return store


def choose(settings: ExplainSettings, ensemble: Ensemble, store: Store) -> Chosen:
    """A random part of the spectra with enough signal to noise."""
    if settings.store is None:
        place_N2 = holdout.part_samples(ensemble.members, store, settings.split).shard_row_N2
        what = f"split={settings.split}"
    else:
        place_N2 = _random_shards(store, settings.seed)
        what = f"store={settings.store}"
    snr_N = read_columns(store, place_N2, ["snr"])["snr"]
    good = np.flatnonzero(snr_N >= settings.least_snr)
    if len(good) < LEAST:
        raise SettingsError(
            f"explain: {what}: {len(good)} of {len(place_N2)} spectra have a signal to noise of "
            f"{settings.least_snr:g} or more, {LEAST} are needed; give another split= or store=, or a lower "
            "least_snr="
        )
    generator = np.random.default_rng([settings.seed, 1])
    drawn = generator.choice(good, min(settings.count, len(good)), replace=False)
    drawn = drawn[np.lexsort((place_N2[drawn, 1], place_N2[drawn, 0]))]
    return Chosen(store, place_N2[drawn], snr_N[drawn])


def answered(value_BT: NDArray[np.float64], asked: str) -> NDArray[np.int64]:
    """The rows with an answer for every target: a network says nothing of spectra that it cannot see."""
    rows = np.flatnonzero(np.isfinite(value_BT).all(1))
    missing = len(value_BT) - len(rows)
    if len(rows) < LEAST:
        raise SettingsError(
            f"explain: {asked}: {missing} of {len(value_BT)} spectra get no answer, because no pixel "
            f"is good where the network looks; {LEAST} with one are needed: give another split= or store="
        )
    if missing:
        logging.getLogger(__name__).warning(
            "explain: %d of %d spectra get no answer, because no pixel is good where the network looks; "
            "they are left out",
            *(missing, len(value_BT)),
        )
    return rows


def _random_shards(store: Store, seed: int) -> Places:
    """All places of a few shards."""
    shards = np.random.default_rng([seed, 0]).permutation(store.shards)[:MOST_SHARDS]
    places = [(shard, row) for shard in shards.tolist() for row in range(store.markers[shard].written)]
    return np.array(places, np.int64).reshape(-1, 2)


def find(store: Store, names: tuple[str, ...]) -> Chosen:
    """The first spectrum of each name: an obsid, a visit, a star, or a file with or without its folders."""
    found: dict[str, tuple[int, int]] = {}
    examples: list[str] = []
    for shard in range(store.shards if names else 0):
        table = store.spectra(shard, list(NAMES))
        for column in NAMES:
            texts = pc.cast(table[column].combine_chunks(), pa.string())
            for name, row in (_files if column == "path" else _values)(texts, names):
                found.setdefault(name, (shard, row))
            examples += filter(None, (text and text.rpartition("/")[2] for text in texts[:1].to_pylist()))
    if missing := [name for name in names if name not in found]:
        raise SettingsError(
            f"explain: spectra: {missing[0]}: no spectrum of {store.path} has this {', '.join(NAMES[:3])} or "
            f"file; give one such as {', '.join(examples[:3])}"
        )
    place_N2 = np.array([found[name] for name in names], np.int64).reshape(-1, 2)
    return Chosen(store, place_N2, read_columns(store, place_N2, ["snr"])["snr"])


def _values(texts: pa.Array, names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """The names that are values of a column, each with its row."""
    for row in pc.indices_nonzero(pc.is_in(texts, value_set=pa.array(names))).to_pylist():
        yield texts[row].as_py(), row


def _files(paths: pa.Array, names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """The names that are files, with all, some or none of their folders, each with its row."""
    last = pa.array([name.rpartition("/")[2] for name in names], pa.string())
    bare = pc.replace_substring_regex(paths, r"^.*/", "")
    for row in pc.indices_nonzero(pc.is_in(bare, value_set=last)).to_pylist():
        path = paths[row].as_py()
        for name in names:
            if path == files.absolute(name) or f"/{path}".endswith(f"/{name.removeprefix('./')}"):
                yield name, row


def file_name(name: str) -> str:
    """A name of a spectrum as the name of a file."""
    return "".join(letter if letter.isalnum() or letter in "+-." else "_" for letter in files.relative(name))
