"""What a work would take: time, bytes, requests and dollars, from what was measured of a part of it."""

from dataclasses import dataclass, field

from survey.estimate.settings import PREFIX, Prices
from survey.progress import duration_text

WORKER_IS_GPU = "a worker is a GPU: give its price per hour as plan.cpu_hour"


@dataclass
class Requests:
    """Requests to a server of buckets. There are none for paths on a disk."""

    get: int = 0
    put: int = 0
    list: int = 0

    def dollars(self, prices: Prices) -> float:
        """Their price."""
        return (self.get * prices.get_1000 + (self.put + self.list) * prices.put_1000) / 1000

    def __str__(self) -> str:
        return f"{self.get:,} GET, {self.put:,} PUT, {self.list:,} LIST"


@dataclass
class Cost:
    """A work of `seconds` of one worker in all, shared by `workers` with so many CPUs each.

    `work` says what is to be done, `measured` what was really done for this estimate, `assumed` what was not
    measured.
    """

    work: str
    measured: str
    seconds: float
    workers: int
    cpus: int = 1
    bytes_read: float | None = None
    bytes_written: float | None = None
    requests: Requests = field(default_factory=Requests)
    assumed: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """Hours until the end, if all workers have work all the time."""
        return self.seconds / self.workers / 3600

    @property
    def cpu_hours(self) -> float:
        """Hours of one CPU."""
        return self.seconds * self.cpus / 3600

    def text(self, prices: Prices) -> str:
        """The estimate in some lines."""
        cpu, asked = self.cpu_hours * prices.cpu_hour, self.requests.dollars(prices)
        each = f" with {self.cpus} CPUs each" if self.cpus > 1 else ""
        rows = [
            ("to do", self.work),
            ("measured", self.measured),
            ("workers", f"{self.workers}{each} ({PREFIX}workers=)"),
            (
                "time",
                f"{duration_text(self.hours * 3600)} ({self.hours:,.3g} h; {self.cpu_hours:,.3g} CPU hours)",
            ),
        ]
        for name, count in (("read", self.bytes_read), ("written", self.bytes_written)):
            if count is not None:
                rows.append((name, size_text(count)))
        rows += [
            ("S3", str(self.requests)),
            ("dollars", f"{cpu + asked:,.2f} = {cpu:,.2f} CPUs + {asked:,.2f} requests"),
        ]
        shown = ("cpu_hour", "get_1000", "put_1000")
        values = " ".join(f"{PREFIX}{name}={getattr(prices, name):g}" for name in shown)
        rows += [("assumed", text) for text in (f"dollars: {values}", *self.assumed)]
        return "\n".join(f"{name:<10}{text}" for name, text in rows)


def size_text(count: float) -> str:
    """Bytes as "12 kB", "3.4 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
