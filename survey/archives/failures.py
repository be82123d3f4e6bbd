"""Why a file did not arrive: the closed list of reasons, and how each is treated."""

REASONS = {
    "not_there": "the archive does not have the file under any of its addresses (404, 410)",
    "forbidden": "the archive does not give the file (403)",
    "needs_login": "the archive wants a token, or another one (401, or a login page)",
    "refused": "the archive refuses the request for another reason (4xx)",
    "busy": "the archive asked to come later each time (429, 503)",
    "server_error": "the archive failed each time (5xx)",
    "no_answer": "no connection, or a connection that broke or stood still each time",
    "truncated": "fewer bytes arrived than were announced, each time",
    "page": "a page of text arrived in place of the file, each time",
    "damaged": "what arrived is damaged, each time: it cannot be read, or a checksum differs",
    "other_file": "what arrived is sound, but another file than the one that was asked for",
    "too_large": "the file is larger than any survey file",
    "redirects": "too many redirects, or one to an address that cannot be used",
    "bad_row": "the row of the catalogue, or the id, names no file",
}
"""The closed list."""

PERMANENT = frozenset(
    {"not_there", "forbidden", "refused", "other_file", "too_large", "redirects", "bad_row"}
)
"""Reasons that another attempt does not change; such files are asked for again with `again` only."""

NOT_RETRIED = PERMANENT | {"needs_login"}
"""Reasons after which the same address is not asked again by the same job."""


class FetchError(Exception):
    """A request, or a file, that failed. `after`: seconds that the archive asks to wait."""

    def __init__(self, reason: str, detail: str, after: float | None = None) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not one of the reasons {', '.join(REASONS)}")
        super().__init__(reason, detail)
        self.reason, self.detail, self.after = reason, detail, after
