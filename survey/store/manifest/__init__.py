"""The manifest of a store: the fixed, ordered list of its files, divided into shards."""

from survey.store.manifest.manifest import Manifest, open_manifest
from survey.store.manifest.planning import IngestPlan, plan

__all__ = ["IngestPlan", "Manifest", "open_manifest", "plan"]
