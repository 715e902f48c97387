"""What a pool answers when it cannot do what it is asked, in one form for all pools."""

from __future__ import annotations


class Skip(Exception):
    """The case cannot be tried here: says why."""


class GetFailed(Exception):
    """`kind`: "timeout" all are in use, "connect" the server is not to be had, "other"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class QueryFailed(Exception):
    """`sqlstate` is empty where the server said none: the connection is lost."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return f"{self.sqlstate} {super().__str__()}".strip()
