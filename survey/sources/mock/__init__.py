from survey.sources.mock.survey import Mock, make

__all__ = ["Mock", "make"]
