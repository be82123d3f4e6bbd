"""Header cards as one text with slots, so that one formatting fills the header of a file."""

BLOCK = 2880
Card = tuple[str, str, str]
"""Keyword; value as FITS text, which may contain slots such as %(ra)20.6f; comment."""


def header(rows: list[Card], comments: dict[str, str] | None = None) -> str:
    """A template of complete blocks: cards of 80 characters, then END.

    `comments` maps a keyword to the title of a section that begins before its card.
    """
    lines = []
    for key, value, note in rows:
        if comments and key in comments:
            lines.append(f"COMMENT --------{comments[key]}".ljust(80))
        lines.append(card(key, value, note))
    lines.append("END".ljust(80))
    spare = -len(lines) % (BLOCK // 80)
    return "".join(lines) + " " * (80 * spare)


def card(key: str, value: str, note: str) -> str:
    """One card. A slot counts with the width that it states."""
    size = width(value)
    padding = 0 if value.startswith("'") else max(20 - size, 0)
    used = 10 + padding + size
    free = 80 - used - 3
    note = f" / {note[:free]}" if note and free > 0 else ""
    return f"{key:<8}= {' ' * padding}{value}{note}{' ' * (80 - used - len(note))}"


def width(value: str) -> int:
    """The characters of a value after its slots are filled. Each slot states a width, as %(ra)20.6f does."""
    total, remaining = 0, value
    while "%(" in remaining:
        before, _, after = remaining.partition("%(")
        spec = after.partition(")")[2]
        digits = spec.lstrip("-0+")
        number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
        tail = digits[len(number) :].lstrip(".0123456789")
        total += len(before) + int(number)
        remaining = tail[1:]
    return total + len(remaining)


def text(size: int, slot: str = "") -> str:
    """A quoted value of at most `size` characters from a slot."""
    return f"'%({slot})-{size}.{size}s'"


def table(
    name: str, columns: dict[str, str], rows: str, row_bytes: str, extra: list[Card] | None = None
) -> str:
    """The header of a binary table. `rows` and `row_bytes` may be slots."""
    fixed: list[Card] = [
        ("XTENSION", "'BINTABLE'", "binary table"),
        ("BITPIX", "8", "bytes"),
        ("NAXIS", "2", "rows and bytes"),
        ("NAXIS1", row_bytes, "bytes in a row"),
        ("NAXIS2", rows, "rows"),
        ("PCOUNT", "0", "no heap"),
        ("GCOUNT", "1", "one group"),
        ("TFIELDS", str(len(columns)), "columns"),
        ("EXTNAME", name if name.startswith("'") else f"'{name:<8}'", "name of this table"),
    ]
    described: list[Card] = []
    for number, (column, form) in enumerate(columns.items(), 1):
        described += [
            (f"TTYPE{number}", f"'{column:<8}'", ""),
            (f"TFORM{number}", form if form.startswith("'") else f"'{form:<8}'", ""),
        ]
    return header(fixed + (extra or []) + described)


def padded(data: bytes) -> bytes:
    """Data, filled with zeros up to the end of the last block."""
    return data + b"\0" * (-len(data) % BLOCK)
