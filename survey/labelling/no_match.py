"""Why no spectrum gets a label: the keys differ, or the rows match and their labels cannot be used."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.labelling import keys
from survey.labelling.counts import Counts
from survey.labelling.keys import KeyColumns
from survey.labelling.match import match_by
from survey.labelling.rows import TableRows
from survey.labelling.settings import Join, Key
from survey.labelling.shared_names import has_unclear_name


def no_match_message(settings: Join, rows: TableRows, spectra: pa.Table, counts: Counts) -> str:
    """The error text where no spectrum gets a label."""
    offered = rows.key_columns.keys() if settings.key == "auto" else [settings.key]
    counted = {**counts.refused, **counts.left_out_rows, **counts.left_out_spectra}
    left_out = ", ".join(f"{count} {name}" for name, count in counted.items() if count)
    matching = {key: _matching(key, rows, rows.key_columns, spectra) for key in offered}
    if any(matching.values()):
        key = max(matching, key=lambda key: matching[key])
        return (
            f"labels: {counts.table}: none of {counts.rows} rows can be used: {matching[key]} match spectra "
            f"of {counts.store} by {key}, but left out before: {left_out}; {_label_advice(rows, counts)}"
        )
    values = [
        f"{key}: {_examples(key, rows, None)} in the table, {_examples(key, rows, spectra)} in the store"
        for key in offered
    ]
    unclear = int(has_unclear_name(rows.columns, rows.key_columns, spectra).sum())
    same_name = f"several files of the store have the name of {unclear} rows: give their paths; "
    no_key = (
        f"the table has no column of a key; {rows.table.similar('obsid')}; add a column obsid, visit or star "
        f"(visit: {_examples('visit', rows, spectra)} in the store)"
    )
    return (
        f"labels: {counts.table}: none of {counts.rows} rows matches any of {counts.spectra} spectra "
        f"of {counts.store}; {'; '.join(values) or no_key}"
        f"{f'; left out before: {left_out}' if left_out else ''}; "
        f"{same_name if unclear else ''}"
        f"{_swapped(rows, spectra) if 'position' in offered else ''}"
        "give join.key= and join.columns={obsid: ...}, or the store of these stars"
    )


def _matching(key: Key, rows: TableRows, columns: KeyColumns, spectra: pa.Table) -> int:
    """How many rows match a spectrum by a key, whether they are kept or not."""
    return match_by(key, rows.columns, columns, spectra, np.ones(len(rows.keep_R), bool)).matched_rows()


def _label_advice(rows: TableRows, counts: Counts) -> str:
    """What is wrong with the labels of rows that match, and what to give."""
    if not counts.labels and counts.classes_from == "none":
        return (
            f"no column is that of a wanted label or of a class; {rows.table.similar('FeH')}; give "
            "join.columns={FeH: its column}, with each label that is wanted, or join.classes="
        )
    unread = {name: text for name, text in rows.values.unread.items() if name in counts.labels}
    if unread:
        name, *others = unread
        also = f" (and others of {', '.join(others)})" if others else ""
        return f"a cell of {name} is {unread[name]}{also}; or give join.columns={{{name}: another column}}"
    return "check join.where, join.columns and the cells of the labels"


def _swapped(rows: TableRows, spectra: pa.Table) -> str:
    """Advice where positions match with right ascension and declination swapped."""
    columns = rows.key_columns
    swapped = replace(columns, ra=columns.dec, dec=columns.ra)
    count = _matching("position", rows, swapped, spectra)
    if not count:
        return ""
    return (
        f"{count} rows match with ra and dec swapped: give join.columns={{ra: {columns.dec}, "
        f"dec: {columns.ra}}}; otherwise "
    )


def _examples(key: Key, rows: TableRows, spectra: pa.Table | None) -> str:
    """Three values of a key, in the table or in the store."""
    columns = rows.key_columns
    if key == "position":
        table, ra, dec = (
            (spectra, "ra", "dec") if spectra is not None else (rows.columns, columns.ra, columns.dec)
        )
        pairs = zip(table[ra][:3].to_pylist(), table[dec][:3].to_pylist(), strict=True)
        return ", ".join(f"({x} {y})" for x, y in pairs) or "none"
    in_table = spectra is None
    values = keys.table_keys(key, rows.columns, columns) if in_table else keys.store_keys(key, spectra)
    return ", ".join(map(str, pc.drop_null(values)[:3].to_pylist())) or "none"
