"""What the tests of this folder share."""

from tests.few_groups import every_group, few_groups

__all__ = ["every_group", "few_groups"]
