"""The summary that survey mock prints, in plain lines for a terminal and a log."""

from typing import Any


def summary(out: str, result: dict[str, Any]) -> str:
    """What the mock survey contains, and the next command."""
    news = f"{result['new']:,} written by this run" if result["new"] else "nothing to do"
    lines = [
        f"mock       {out}",
        f"files      {result['files']:,} of {result['stars']:,} stars, {news}",
        f"defective  {sum(result['defects'].values()):,}",
    ]
    for kind in ("classes", "layouts"):
        counts = ", ".join(f"{count:,} {name}" for name, count in result[kind].items())
        lines.append(f"{kind:<10} {counts}")
    return "\n".join([*lines, f"next       survey ingest cemp input={out} store=..."])
