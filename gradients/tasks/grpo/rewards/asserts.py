"""Tests of a row, split into the expression that goes into the sandbox and what stays outside: what its value must be.

Covers: code that answers never meets what a test expects, and compares nothing itself, so it cannot pass by handing an expectation back, by
redefining `==`, `abs` or `bool`, or by taking over the program that asks it. Does not cover: a test whose answer is easily guessed.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import JsonValue

_CLOSE = 1e-6  # what numbers with a fraction may differ by, as a share
_LONGEST_VALUE = 100_000  # characters
_HINT = "write assert <call> == <literal>"
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)  # what ast raises for odd texts

# Any: values of any type, whose comparison may raise.
Relation = Callable[[Any, Any], bool]


class Expectation(NamedTuple):
    """One test: an expression, and what must hold between its value and a literal."""

    expression: str
    relation: str
    value: object
    from_: object = None  # where set, a literal: the distance of the expression's value from it is compared instead


def expectations(tests: JsonValue) -> list[Expectation]:
    """The tests of a row. Raises ValueError that says which of them cannot be used.

    Understood are a comparison of an expression with a literal, the same of `abs(<expression> - <literal>)`, a call that must be true, and
    `not` one that must be false.
    """
    text = "\n".join(str(line) for line in tests) if isinstance(tests, list) else str(tests)
    try:
        statements = ast.parse(text).body
        found = [_expectation(statement) for statement in statements]
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not Python: {error}") from error
    if not found:
        raise ValueError("no test")
    return found


def holds(expected: Expectation, written: JsonValue) -> bool:
    """Whether what the sandbox wrote of a value is what the test expects; it is read as a literal, never run."""
    if not isinstance(written, str) or len(written) > _LONGEST_VALUE:
        return False
    try:
        ours = ast.literal_eval(written)
        if expected.from_ is not None:
            ours = abs(ours - expected.from_)
        return bool(_RELATIONS[expected.relation](ours, expected.value))
    except (*_UNREADABLE, ArithmeticError):
        return False


def _equal(ours: Any, right: Any) -> bool:  # noqa: ANN401 (see Relation)
    if isinstance(ours, float) and isinstance(right, int | float):
        return math.isclose(ours, right, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return bool(ours == right)


_RELATIONS: Mapping[str, Relation] = {
    "Eq": _equal,
    "NotEq": lambda ours, right: not _equal(ours, right),
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "In": lambda ours, right: ours in right,
    "NotIn": lambda ours, right: ours not in right,
    "Is": operator.is_,
    "IsNot": operator.is_not,
}


def _expectation(statement: ast.stmt) -> Expectation:
    if not isinstance(statement, ast.Assert):
        raise ValueError(f"'{_shown(statement)}' is not an assert statement")
    test, wanted = statement.test, True
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, wanted = test.operand, False
        return _truth(test, "Eq", wanted)
    left, relation, right = test.left, type(test.ops[0]).__name__, test.comparators[0]
    value = _literal(right)
    if relation in ("Is", "IsNot") and value is not None and not isinstance(value, bool):
        raise ValueError(f"'is {_shown(right)}' means nothing; write ==")
    if isinstance(value, bool):
        return _truth(left, relation, value)
    match left:
        case ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(left=one, op=ast.Sub(), right=other)], keywords=[]):
            inner, literal = (one, other) if _asks(one) else (other, one)
            return Expectation(_inside(inner), relation, value, from_=_literal(literal))
    return Expectation(_inside(left), relation, value)


def _truth(test: ast.expr, relation: str, value: bool) -> Expectation:
    """Truth is easily guessed, so a truth about the answer's own values (`isclose(f(2), 1.4)`) is left to nobody inside."""
    given = [*test.args, *(keyword.value for keyword in test.keywords)] if isinstance(test, ast.Call) else [test]
    calls = any(isinstance(one, ast.Call) for each in given for one in ast.walk(each))
    if calls or not isinstance(test, ast.Call):
        raise ValueError(f"'{_shown(test)}' is decided by the answer itself; {_HINT}")
    return Expectation(_inside(test), relation, value)


def _inside(expression: ast.expr) -> str:
    if _decides(expression):
        raise ValueError(f"'{_shown(expression)}' would be compared or computed by the answer itself; {_HINT}")
    return ast.unparse(expression)


def _decides(node: ast.AST) -> bool:
    """Whether an expression compares the answer's values, or computes with them and a literal; functions that it hands over may."""
    match node:
        case ast.Lambda():
            return False
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BinOp(left=left, right=right) if _asks(left) != _asks(right):
            return True
    return any(map(_decides, ast.iter_child_nodes(node)))


def _asks(node: ast.AST) -> bool:
    """Whether it calls something of the answer's."""
    called = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(not (isinstance(function, ast.Name) and hasattr(builtins, function.id)) for function in called)


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except _UNREADABLE as error:
        raise ValueError(f"'{_shown(node)}' is not a literal") from error


def _shown(node: ast.AST) -> str:
    return ast.unparse(node)[:60]
