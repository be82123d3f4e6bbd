"""Which stars of some predictions their networks have met in training: said of predictions alone, from where their members lay."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.training import run as bundle
from survey.training import training_history


def met(ensemble: Mapping[str, object], about: pa.Table) -> tuple[NDArray[np.bool_], int]:
    """Which labelled rows are of stars that a member has met, and how many members are not where they were, so that it is not known of them."""
    met_N, unread = np.zeros(about.num_rows, bool), 0
    for run in paths(ensemble):
        if not files.exists(files.join(run, bundle.RUN)):
            unread += 1
            continue
        fresh_N = np.zeros(about.num_rows, bool)
        fresh_N[training_history.unseen(run, about)] = True
        met_N |= ~fresh_N
    return met_N, unread


def paths(ensemble: Mapping[str, object]) -> list[str]:
    """Where the members of the ensemble of some predictions lay."""
    about, path = ensemble["about"], str(ensemble["path"])
    members = about["members"] if isinstance(about, dict) else []
    told = [str(member["path"]) for member in members]
    return [one if files.is_remote(one) or one.startswith("/") else files.join(path, one) for one in told]
