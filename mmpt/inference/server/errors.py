"""What is answered where a request cannot be: OpenAI's shape of errors."""

from collections.abc import Mapping

import pydantic
from fastapi.responses import JSONResponse

REFUSED = {"logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "functions", "function_call", "logit_bias"}
REFUSED |= {"frequency_penalty", "presence_penalty"}
"""What OpenAI's API has and this server has not."""


class Refused(Exception):
    """A request that is answered by an HTTP status of 400 or more, and why; `code`: OpenAI's name for it, where it has one."""

    def __init__(self, status: int, reason: str, code: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.code = status, code


LONGEST = 500
"""Characters of a reason, which may quote the request."""


def error(status: int, reason: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} …"
    if status == 429:
        headers = {"Retry-After": "1", **(headers or {})}
    return JSONResponse({"error": {"message": reason, "type": kind, "param": None, "code": code}}, status, headers)


def mistakes(problem: pydantic.ValidationError) -> str:
    lines = []
    for error in problem.errors(include_url=False, include_input=False)[:10]:
        key = ".".join(str(step) for step in error["loc"]) or "the body"
        unknown = error["type"] == "extra_forbidden" or key.partition(".")[0] in REFUSED
        lines.append(f"{key}: {'not supported by this server' if unknown else error['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
