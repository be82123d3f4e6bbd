"""What a message may show of a value: not too much of it, and no password or key."""

import re
from collections.abc import Iterable
from typing import Any

OTHER_PLACES = re.compile(
    r"(gs|gcs|az|abfss?|adl|wasbs?|hdfs|oss|cos|swift|s?ftp|s3[an]|S3):/|s3:/(?!/)", re.ASCII
)
"""Beginnings of paths that name another place than a disk or an s3:// bucket."""
MOST_LETTERS = 1000
"""Letters of one line of a message."""
MOST_LINES = 20
"""Lines of a message about many mistakes."""
MOST_TEXT = 10_000
"""Letters of the text of a setting; a path of Linux has at most 4,096."""
MOST_LEVELS = 50
"""Lists and dictionaries inside each other in the value of a setting."""
MOST_BITS = 63
"""Bits of a whole number: more do not fit into the integers of arrays and generators."""

SECRET = re.compile(
    r"((?:password|passwd|pwd|token|secret|signature|credential|access_?key(?:_?id)?"
    r"|[?&](?:sig|api_?key|key))=)[^&\s'\"]*",
    re.IGNORECASE,
)
"""A password, or what signs an address. A short name counts in an address only: join.key= is a setting."""

KEY_IN_ADDRESS = (
    "the s3:// address holds a key or a password; give s3://BUCKET/..., "
    "and the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws"
)


def without_secrets(text: str) -> str:
    """A text with stars in place of the passwords and keys that stand in its addresses."""
    text = re.sub(r"(://[^\s'\"@/:]*:)[^\s'\"]*@", r"\1***@", text)
    text = re.sub(r"((?:https?|s3)://)[^\s'\"@/:]+@", r"\1***@", text)  # a name alone may be a token
    return SECRET.sub(r"\1***", text)


def shorten(text: str, most: int = MOST_LETTERS) -> str:
    """The beginning of a text that is too long for a message, with its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def counted(number: int, word: str) -> str:
    """A number with its word, which gets an s where it is not one: 1 shard, 2 shards."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def join_lines(lines: list[str], more: int) -> str:
    """The lines of a message, none too long and without secrets; `more` mistakes are only counted."""
    kept = [shorten(line) for line in lines]
    if more:
        kept.append(f"and {more:,} more mistakes; correct these first")
    return without_secrets("\n".join(kept))


def find_unusable(value: Any, key: str = "", level: int = 0) -> str:
    """The first value in nested settings that no setting may have: its key, what is wrong, and what to give.

    Empty if there is none.
    """
    if level > MOST_LEVELS:
        return f"{key.partition('.')[0]}: more than {MOST_LEVELS} brackets inside each other; give fewer"
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    elif isinstance(value, str) and has_bucket_secret(value):
        return f"{key}: {KEY_IN_ADDRESS}"
    elif isinstance(value, str) and OTHER_PLACES.match(value):
        return f"{key}: {shorten(value, 100)}: {_other_place(value)}"
    elif isinstance(value, str) and len(value) > MOST_TEXT:
        return f"{key}: {shorten(value, 100)}: give text of at most {MOST_TEXT:,} letters"
    elif isinstance(value, str) and not _is_utf8(value):
        return f"{key}: {shorten(ascii(value), 100)}: holds a letter that is no UTF-8; give other text"
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"{key}: a whole number of {value.bit_length()} bits; give one of at most {MOST_BITS} bits"
    elif isinstance(value, bytes | set | frozenset):
        kind = "bytes (!!binary)" if isinstance(value, bytes) else "a set (!!set)"
        return f"{key}: {kind}; give text, a number, true, false, null, a list, or names with values"
    inner = (find_unusable(item, f"{key}.{name}".lstrip("."), level + 1) for name, item in pairs)
    return next(filter(None, inner), "")


def _other_place(path: str) -> str:
    """What to give for a path that is on no disk and in no s3:// bucket."""
    scheme, _, rest = path.partition(":")
    rest = rest.lstrip("/")
    if scheme.lower() in ("s3", "s3a", "s3n"):
        return f"did you mean s3://{rest}?"
    return f"{scheme}:// is not supported, only s3:// and paths on a disk; copy it there"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_bucket_secret(path: str) -> bool:
    """Whether the place of the bucket holds what no name of a bucket has; ``arn:`` begins an access point."""
    bucket = path.removeprefix("s3://").partition("/")[0] if path.startswith("s3://") else ""
    return "@" in bucket or (":" in bucket and not bucket.startswith("arn:"))
