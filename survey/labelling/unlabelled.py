"""The spectra of a store as they are learned without any label: only their features count."""

import numpy as np
import pyarrow as pa

from survey import labels
from survey.labelling import keys, star_id
from survey.labelling.counts import Counts
from survey.labelling.join import STORE_COLUMNS, Labelled, Shards, read_store_rows
from survey.labelling.settings import Join
from survey.labelling.visit_names import visits_of_files, with_folders

NONE = "none"
"""In place of a label table: the spectra have no labels."""


def unlabelled(store: Shards) -> Labelled:
    """All spectra of a store; no label and no class of any is known."""
    spectra = read_store_rows(store, Join())
    table, count = spectra.table, spectra.table.num_rows
    ra_N, dec_N = (keys.to_floats(table[name].combine_chunks()) for name in ("ra", "dec"))
    star_N = star_id.identify([table["star"].combine_chunks()], ra_N, dec_N, visits_of_files(table))
    class_N, no_label_NL = np.full(count, labels.MISSING, np.int8), np.empty((count, 0))
    counts = Counts(NONE, store.path, (), spectra=count, unmatched=count)
    counts.add_spectra(no_label_NL, class_N, star_id.encode(pa.array(star_N, pa.string()))[0])
    return Labelled(
        labels=(),
        shard_N=spectra.shard_N,
        row_in_shard_N=spectra.row_in_shard_N,
        star_N=star_N,
        label_NL=no_label_NL,
        error_NL=no_label_NL,
        class_N=class_N,
        user_part_N=np.full(count, None, object),
        extra=with_folders(table).select(STORE_COLUMNS),
        counts=counts,
    )
