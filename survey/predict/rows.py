"""What an ensemble says of the spectra of a shard, as rows of a prediction table. Shapes: N spectra, M members, C classes, L labels, D features."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.ensemble.ensemble import Ensemble, Said
from survey.labels import MISSING
from survey.predict.output import IDENTITY, schema

Columns = dict[str, NDArray[np.generic]]


def predicted(
    ensemble: Ensemble,
    said: Said,
    known: pa.Table,
    shard: int,
    blank_N: NDArray[np.bool_],
    members: bool,
    embeddings: bool,
    about: dict[str, str],
) -> pa.Table:
    """A row for each spectrum: who it is (`known`), and what is said of it; nothing of those that are `blank`."""
    count = len(blank_N)
    columns = said.columns() | {
        "shard": np.full(count, shard, np.int32),
        "place": np.arange(count, dtype=np.int32),
    }
    columns |= _of_members(said) if members else {}
    latent_ND = np.concatenate(said.latents, 1) if embeddings else np.empty((count, 0), np.float32)
    wanted = schema(
        ensemble.classes, ensemble.labels, ensemble.names if members else (), latent_ND.shape[1], about
    )
    arrays = []
    for field in wanted:
        if field.name in IDENTITY:
            arrays.append(
                known[field.name] if field.name in known.column_names else pa.nulls(count, field.type)
            )
        elif field.name == "latent":
            arrays.append(_lists(np.where(blank_N[:, None], np.nan, latent_ND), field.type))
        else:
            arrays.append(_numbers(columns.get(field.name), blank_N, field))
    return pa.table(arrays, schema=wanted)


def answered(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows have an answer to everything that is told at all: a class and every label."""
    told = [table["said"].to_numpy() != MISSING] if "said" in table.column_names else []
    labels = [name.removesuffix("_spread") for name in table.column_names if name.endswith("_spread")]
    told += [~np.asarray(table[name].is_null()) for name in labels]
    return np.asarray(np.all(told, 0))


def _numbers(values: NDArray[np.generic] | None, blank_N: NDArray[np.bool_], field: pa.Field) -> pa.Array:
    """Numbers of a column; null where they are none, or where nothing is to be said."""
    if values is None:
        return pa.nulls(len(blank_N), field.type)
    if field.name == "said":
        return pa.array(np.where(blank_N, MISSING, values), field.type)
    if field.name in ("shard", "place"):
        return pa.array(values, field.type)
    numbers = np.asarray(values, np.float32)
    return pa.array(numbers, field.type, mask=blank_N | ~np.isfinite(numbers))


def _lists(values_ND: NDArray[np.float32], kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values_ND, np.float32).reshape(-1)), type=kind
    )


def _of_members(said: Said) -> Columns:
    """What each member alone says; its error from its own variance and that among its dropout passes."""
    told, found = said.told, Columns()
    for number in range(told.members):
        found |= {
            f"m{number}_p_{name.lower()}": told.p_MNC[number, :, column]
            for column, name in enumerate(told.classes)
        }
        for column, name in enumerate(told.labels):
            found[f"m{number}_{name}"] = told.mu_MNL[number, :, column]
            found[f"m{number}_{name}_err"] = np.sqrt(
                told.var_MNL[number, :, column] + told.within_MNL[number, :, column]
            )
    return found
