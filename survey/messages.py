"""What a message may show of a value: not too much of it, and no password or key."""

import re
from collections.abc import Iterable
from typing import Any

MOST_LETTERS = 1000
"""Letters of one line of a message."""
MOST_LINES = 20
"""Lines of a message about many mistakes."""

KEY_IN_ADDRESS = (
    "the s3:// address holds a key or a password; give s3://BUCKET/..., "
    "and the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws"
)


def without_secrets(text: str) -> str:
    """A text with stars in place of the passwords and keys that stand in its addresses."""
    text = re.sub(r"(://[^\s'\"@/:]*:)[^\s'\"]*@", r"\1***@", text)
    text = re.sub(r"((?:https?|s3)://)[^\s'\"@/:]+@", r"\1***@", text)  # a name alone may be a token
    return re.sub(r"((?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)


def shorten(text: str, most: int = MOST_LETTERS) -> str:
    """The beginning of a text that is too long for a message, with its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def join_lines(lines: list[str], more: int) -> str:
    """The lines of a message, none too long and without secrets; `more` mistakes are only counted."""
    kept = [shorten(line) for line in lines]
    if more:
        kept.append(f"and {more:,} more mistakes; correct these first")
    return without_secrets("\n".join(kept))


def find_bucket_secret(value: Any, key: str = "") -> str:
    """The key of the first value ``s3://KEY:SECRET@bucket`` in nested settings; empty if there is none."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    elif isinstance(value, str) and _has_secret(value):
        return key
    inner_keys = (find_bucket_secret(inner, f"{key}.{name}".lstrip(".")) for name, inner in pairs)
    return next(filter(None, inner_keys), "")


def _has_secret(path: str) -> bool:
    """Whether the place of the bucket holds what no name of a bucket has; ``arn:`` begins an access point."""
    bucket = path.removeprefix("s3://").partition("/")[0] if path.startswith("s3://") else ""
    return "@" in bucket or (":" in bucket and not bucket.startswith("arn:"))
