"""Header cards as one piece of text with slots, so that the header of a file costs one formatting."""

BLOCK = 2880
Card = tuple[str, str, str]
"""Keyword; value as FITS text, maybe with slots such as %(ra)20.6f; comment."""


def header(rows: list[Card], comments: dict[str, str] | None = None) -> str:
    """A template of whole blocks: cards of 80 characters and END; `comments` start a section before the card of that keyword."""
    lines = []
    for key, value, note in rows:
        if comments and key in comments:
            lines.append(f"COMMENT --------{comments[key]}".ljust(80))
        lines.append(card(key, value, note))
    lines.append("END".ljust(80))
    spare = -len(lines) % (BLOCK // 80)
    return "".join(lines) + " " * (80 * spare)


def card(key: str, value: str, note: str) -> str:
    """One card; a slot counts with the width that it states."""
    wide = width(value)
    text = f"{key:<8}= {' ' * (20 - wide) if wide < 20 and not value.startswith(chr(39)) else ''}{value}"
    taken = 10 + max(wide, 20) if not value.startswith("'") else 10 + wide
    left = 80 - taken - 3
    note = f" / {note[:left]}" if note and left > 0 else ""
    return text + note + " " * (80 - taken - len(note))


def width(value: str) -> int:
    """Characters of a value after its slots are filled: each states a width, as %(ra)20.6f does."""
    total, rest = 0, value
    while "%(" in rest:
        before, _, after = rest.partition("%(")
        spec = after.partition(")")[2]
        digits = spec.lstrip("-0+")
        number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
        tail = digits[len(number) :].lstrip(".0123456789")
        total += len(before) + int(number)
        rest = tail[1:]
    return total + len(rest)


def text(size: int, slot: str = "") -> str:
    """A quoted value of at most `size` characters from a slot."""
    return f"'%({slot})-{size}.{size}s'"


def table(
    name: str, columns: dict[str, str], rows: str, row_bytes: str, extra: list[Card] | None = None
) -> str:
    """The header of a binary table; `rows` and `row_bytes` may be slots."""
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
    """Data up to the end of its last block."""
    return data + b"\0" * (-len(data) % BLOCK)
