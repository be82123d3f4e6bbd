"""The manifest of a store: the fixed, ordered list of what it is made from, cut into shards."""

from survey.store.manifest.listing import Input
from survey.store.manifest.manifest import Manifest, open_manifest, shard_rows
from survey.store.manifest.plan import Plan, plan

__all__ = ["Input", "Manifest", "Plan", "open_manifest", "plan", "shard_rows"]
