"""Several stores as one: a small store whose shards lie in other stores, one store after the other.

A training on several sources of spectra reads it like any other store. Nothing is copied.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from survey import files
from survey.folder import Folder
from survey.settings import SettingsError
from survey.store.markers import SHARDS, IngestMarker, marker_table
from survey.store.store import STORE, Store, StoreDocument, open_store


def link_stores(folder: str, stores: Sequence[Store]) -> Store:
    """The store in a folder that has the shards of these stores, in their order; it is written if new."""
    check_alike(stores)
    box = Folder(folder, STORE)
    identity = hashlib.sha256(" ".join(store.id for store in stores).encode()).hexdigest()[:16]
    linked = [_at_home(store, marker) for store in stores for marker in store.markers]
    markers = [marker.model_copy(update={"shard": shard}) for shard, marker in enumerate(linked)]
    before = box.sound_document()
    if before is None or before.id != identity or open_store(folder).markers != tuple(markers):
        box.withdraw()
        box.begin({"stores": [store.path for store in stores]})
        files.write_table(box.file(SHARDS), marker_table(markers))
        box.finish(_document(stores, markers, identity), [SHARDS])
    return open_store(folder)


def _at_home(store: Store, marker: IngestMarker) -> IngestMarker:
    """The marker of a shard, with the place of its files."""
    if marker.home:
        return marker
    return marker.model_copy(update={"home": files.absolute(store.path), "home_shard": marker.shard})


def _document(stores: Sequence[Store], markers: Sequence[IngestMarker], identity: str) -> StoreDocument:
    documents = [store.document for store in stores]
    refused, flagged = Counter[str](), Counter[str]()
    for document in documents:
        refused.update(document.refused)
        flagged.update(document.flagged)
    return documents[0].model_copy(
        update={
            "id": identity,
            "shards": len(markers),
            "files": sum(document.files for document in documents),
            "rows_in": sum(document.rows_in for document in documents),
            "written": sum(document.written for document in documents),
            "refused": dict(refused),
            "flagged": dict(flagged),
            "content": {},
        }
    )


def check_alike(stores: Sequence[Store]) -> None:
    """An error if the stores have different grids, or spectra that were prepared in different ways."""
    first, *others = stores
    for store in others:
        if store.grid != first.grid:
            raise SettingsError(
                f"train: {store.path}: its grid has {store.grid}, that of {first.path} has {first.grid}; "
                "ingest both with the same prepare.grid"
            )
        if differing := first.prepare.differences(store.prepare):
            raise SettingsError(
                f"train: {store.path}: its spectra are not prepared like those of {first.path}: "
                f"{'; '.join(differing)}; ingest both with the same prepare="
            )
