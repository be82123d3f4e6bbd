"""The summary that survey mock prints, in plain lines for a terminal and a log."""

from typing import Any

COUNTS = ("classes", "layouts", "images", "catalogues")


def summary(out: str, result: dict[str, Any]) -> str:
    """What the mock survey contains, and the next command."""
    news = f"{result['new']:,} written by this run" if result["new"] else "nothing to do"
    objects = result["settings"].get("objects", "stars")
    of_stars = f" of {result['stars']:,} stars" if "stars" in result else " galaxies"
    defective = [f"{_total(result['defects']):,}"]
    defective += [f"{_total(result[kind]):,} {name}" for kind, name in _OTHERS if kind in result]
    lines = [
        f"mock       {out}",
        f"files      {result['files']:,}{of_stars}, {news}",
        f"defective  {', '.join(defective)}",
    ]
    for kind in COUNTS:
        if kind in result:
            counts = ", ".join(f"{count:,} {name}" for name, count in result[kind].items())
            lines.append(f"{kind:<10} {counts}")
    return "\n".join([*lines, f"next       {_NEXT[objects].format(out=out.rstrip('/'))} store=..."])


_OTHERS = (("image_defects", "images"), ("bass_defects", "images of bass"))
_NEXT = {
    "stars": "survey ingest cemp input={out}",
    "m_stars": "survey ingest mstars input={out}/objects.csv",
    "galaxies": "survey ingest galaxies input={out}/decals.csv",
}


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())
