"""Formulas over the scores and the meta of a document: `clip > 0.25 and license in ["CC0-1.0"]`, `-perplexity + 2 * dsir`.

Python's syntax, of which names, numbers, strings, lists, comparisons, `and`, `or`, `not`, arithmetic and a few functions are
read; nothing else can be said. A name is that of a score, `id`, `source`, or a field of the meta, with dots for fields in fields.
A comparison with what is not there, or is of another type, is false; arithmetic with it gives NaN.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any

import pydantic

NAN = float("nan")
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda one, others: one in others,
    ast.NotIn: lambda one, others: one not in others,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "len": len, "log": math.log, "max": max, "min": min}


def _checked(text: str) -> str:
    names_in(text)
    return text


Formula = Annotated[str, pydantic.AfterValidator(_checked)]
"""The text of a formula."""


def names_in(text: str) -> tuple[str, ...]:
    """The names in a formula, sorted. Raises `ValueError` where it is none."""
    return tuple(sorted(_names(_parsed(text))))


def value_of(text: str, values: Mapping[str, Any]) -> Any:
    """What a formula gives where its names stand for `values`."""
    return _value(_parsed(text), values)


@lru_cache(maxsize=64)
def _parsed(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as problem:
        raise ValueError(f"no formula ({getattr(problem, 'msg', problem)})") from None
    _names(tree)
    return tree


def _names(node: ast.expr) -> set[str]:
    """The names below a node. Raises `ValueError` at what no formula has."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return set()
        case ast.Name() | ast.Attribute():
            return {_dotted(node)}
        case ast.List(elts=below) | ast.Tuple(elts=below) | ast.BoolOp(values=below):
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=one):
            below = [one]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            below = [left, right]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(one) in _COMPARE for one in ops):
            below = [left, *others]
        case ast.Call(func=ast.Name(id=name), args=below, keywords=[]) if name in FUNCTIONS:
            pass
        case _:
            known = ", ".join(FUNCTIONS)
            raise ValueError(f"{ast.unparse(node)!r} can not be said in a formula (comparisons, arithmetic, lists, {known} can)")
    return {name for one in below for name in _names(one)}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if not isinstance(node, ast.Name):
        raise ValueError(f"{ast.unparse(node)!r} is no name")
    return node.id


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple():
            return [_value(one, values) for one in node.elts]
        case ast.BoolOp(op=ast.And()):
            return all(_value(one, values) for one in node.values)
        case ast.BoolOp():
            return any(_value(one, values) for one in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, values)
        case ast.UnaryOp():
            return _number(operator.neg, _value(node.operand, values))
        case ast.BinOp():
            return _number(_ARITHMETIC[type(node.op)], _value(node.left, values), _value(node.right, values))
        case ast.Compare():
            sides = [_value(one, values) for one in (node.left, *node.comparators)]
            return all(_holds(_COMPARE[type(op)], *sides[at : at + 2]) for at, op in enumerate(node.ops))
        case ast.Call(func=ast.Name(id=name)):
            return _number(FUNCTIONS[name], *(_value(one, values) for one in node.args))
    return values.get(_dotted(node))


def _holds(compare: Callable[[Any, Any], Any], one: Any, other: Any) -> bool:
    try:
        return bool(compare(one, other))
    except TypeError:
        return False


def _number(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, ArithmeticError):
        return NAN
