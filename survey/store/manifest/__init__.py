"""The manifest of a store: the fixed, ordered list of its files, divided into shards."""

from survey.store.manifest.manifest import Manifest, open_manifest
from survey.store.manifest.plan import Plan, plan

__all__ = ["Manifest", "Plan", "open_manifest", "plan"]
