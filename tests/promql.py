"""What a PromQL expression asks for, by a parser of PromQL."""

from __future__ import annotations

from collections.abc import Iterator

import promql_parser as promql

# Where the nodes of a tree hold others.
_BELOW = ("lhs", "rhs", "expr", "param", "args", "vector_selector")

Selected = tuple[str, tuple[tuple[str, str], ...]]


def selected(expression: str) -> list[Selected]:
    """Every selector in it: the metric's name, and each label with what it is compared with.

    Raises ValueError for what is no PromQL, AssertionError for a selector without a name.
    """
    return [_selected(selector) for selector in _selectors(promql.parse(expression))]


def names(expression: str) -> set[str]:
    """Every metric name in it."""
    return {name for name, _ in selected(expression)}


def _selected(selector: promql.VectorSelector) -> Selected:
    assert selector.name, f"a selector without a metric name: {selector.prettify()}"
    return str(selector.name), tuple((str(matcher.name), str(matcher.value)) for matcher in selector.matchers.matchers)


def _selectors(node: promql.Expr) -> Iterator[promql.VectorSelector]:
    if isinstance(node, promql.VectorSelector):
        yield node
    for key in _BELOW:
        below = getattr(node, key, None)
        for child in below if isinstance(below, list) else [below]:
            if isinstance(child, promql.Expr):
                yield from _selectors(child)
