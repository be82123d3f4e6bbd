"""The dark times of nights that several tests look at: each takes a third of a second, so it is kept."""

import datetime
import functools
from collections.abc import Sequence

from survey.followup import visibility
from survey.followup.settings import SkySettings
from survey.followup.sites import Site
from survey.followup.visibility import Darkness


@functools.cache
def _kept(site: Site, nights: tuple[datetime.date, ...], rules: SkySettings) -> Darkness:
    return visibility.darkness(site, nights, rules)


def darkness(site: Site, nights: Sequence[datetime.date], rules: SkySettings) -> Darkness:
    """As of the program; nobody changes the result."""
    return _kept(site, tuple(nights), rules)
