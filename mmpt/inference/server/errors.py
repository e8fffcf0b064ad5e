"""What is answered where a request cannot be: OpenAI's shape of errors."""

from collections.abc import Mapping

import pydantic
from fastapi.responses import JSONResponse

REFUSED = {"tools", "tool_choice", "functions", "function_call"}
"""What OpenAI's API has and this server has not, but for the values that ask for nothing."""


class Refused(Exception):
    """A request that is answered by an HTTP status of 400 or more, and why; `code`: OpenAI's name for it, where it has one;
    `param`: the field that is wrong."""

    def __init__(self, status: int, reason: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.code, self.param = status, code, param


LONGEST = 500
"""Characters of a reason, which may quote the request."""


def error(
    status: int, reason: str, code: str | None = None, headers: Mapping[str, str] | None = None, param: str | None = None
) -> JSONResponse:
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} …"
    if status == 429:
        headers = {"Retry-After": "1", **(headers or {})}
    return JSONResponse({"error": {"message": reason, "type": kind, "param": param, "code": code}}, status, headers)


def mistakes(problem: pydantic.ValidationError) -> str:
    lines = []
    for error in problem.errors(include_url=False, include_input=False)[:10]:
        key = ".".join(str(step) for step in error["loc"]) or "the body"
        unknown = error["type"] == "extra_forbidden" or key.partition(".")[0] in REFUSED
        if key == "the body" and error["type"] == "value_error":  # several fields together: the reason names them
            lines.append(error["msg"].removeprefix("Value error, "))
            continue
        lines.append(f"{key}: {'not supported by this server' if unknown else error['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def mistaken(problem: pydantic.ValidationError) -> str | None:
    """The first field that is wrong."""
    places = [".".join(map(str, error["loc"])) for error in problem.errors(include_url=False, include_input=False)]
    return next(filter(None, places), None)
