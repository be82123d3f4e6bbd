from survey.mock.mock import Mock, make

__all__ = ["Mock", "make"]
