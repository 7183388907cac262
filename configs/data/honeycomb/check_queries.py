"""Say how many answers are queries that could be run, and what is wrong with the others.

    python check_queries.py ANSWERS.jsonl

A row has `prompt`, which lists the columns there are, `answer`, and perhaps `expected`: what
`ftlaunch inference --prompts heldout.jsonl -o ANSWERS.jsonl` writes. A query is valid when it is
one JSON object with known keys, operations and columns; it is right when it means what was
expected. Exit code 0; 1 when an answer is not valid; 2 when the file cannot be read.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OPERATIONS = ("AVG", "MAX", "P95", "SUM")
COMPARISONS = ("=", "!=", ">", ">=", "<", "<=", "exists", "does-not-exist")
ORDERS = ("ascending", "descending")
MOST_ROWS = 1000


def problems(answer: str, columns: set[str]) -> list[str]:
    """What is wrong with one answer; nothing, when it is a query over these columns."""
    try:
        query = json.loads(answer, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return ["it is not JSON"]
    if not isinstance(query, dict):
        return ["it is not an object"]
    found = [f"there is no key {key}" for key in query if key not in CHECKS]
    if not query.get("calculations") and not query.get("breakdowns"):
        found.append("it asks for nothing: neither breakdowns nor calculations")
    for key, check in CHECKS.items():
        if key in query:
            found += check(query[key], columns)
    return found


def _breakdowns(value: Any, columns: set[str]) -> Iterator[str]:
    for name in _each(value):
        yield from _column(name, columns)


def _calculations(value: Any, columns: set[str]) -> Iterator[str]:
    for part in _each(value):
        yield from _operation(part, columns)


def _orders(value: Any, columns: set[str]) -> Iterator[str]:
    for part in _each(value):
        yield from _operation(part, columns)
        if not isinstance(part, dict) or part.get("order") not in ORDERS:
            yield "an order is neither ascending nor descending"


def _filters(value: Any, columns: set[str]) -> Iterator[str]:
    for part in _each(value):
        if not isinstance(part, dict):
            yield "a filter is not an object"
            continue
        yield from _column(part.get("column"), columns)
        if part.get("op") not in COMPARISONS:
            yield f"there is no comparison {part.get('op')}"


def _limit(value: Any, _columns: set[str]) -> Iterator[str]:
    if type(value) is not int or not 1 <= value <= MOST_ROWS:
        yield f"limit is not a number from 1 to {MOST_ROWS}"


def _time_range(value: Any, _columns: set[str]) -> Iterator[str]:
    if type(value) is not int or value < 1:
        yield "time_range is not a number of seconds"


def _operation(part: Any, columns: set[str]) -> Iterator[str]:
    operation = part.get("op") if isinstance(part, dict) else None
    if operation == "COUNT":
        if "column" in part:
            yield "COUNT takes no column"
    elif operation not in OPERATIONS:
        yield f"there is no operation {operation}"
    else:
        yield from _column(part.get("column"), columns)


def _column(name: Any, columns: set[str]) -> Iterator[str]:
    if not isinstance(name, str) or name not in columns:
        yield f"there is no column {name}"


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _no_number(name: str) -> Any:
    raise ValueError(name)


CHECKS: dict[str, Callable[[Any, set[str]], Iterator[str]]] = {
    "breakdowns": _breakdowns,
    "calculations": _calculations,
    "filters": _filters,
    "orders": _orders,
    "limit": _limit,
    "time_range": _time_range,
}


def columns_of(prompt: str) -> set[str]:
    """The columns that a request lists. Raises ValueError."""
    found = re.search(r"Columns: (\[.*\])", prompt)
    if found is None:
        raise ValueError("the prompt lists no columns")
    return set(ast.literal_eval(found[1]))


def _right(row: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(row["answer"]) == json.loads(row["expected"]))
    except (KeyError, ValueError, RecursionError):
        return False


def main(path: Path) -> int:
    """Print a line for each answer that is not valid, and the counts."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        looked = [(row, problems(row.get("answer", ""), columns_of(row["prompt"]))) for row in rows]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SyntaxError) as wrong:
        print(f"{path} does not hold answers: {wrong}", file=sys.stderr)
        return 2
    for number, (_, found) in enumerate(looked, 1):
        if found:
            print(f"answer {number}: {'; '.join(found)}")
    valid = sum(not found for _, found in looked)
    print(f"{valid} of {len(looked)} answers are valid queries, {sum(map(_right, rows))} are right")
    return 0 if valid == len(looked) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python check_queries.py ANSWERS.jsonl")
    sys.exit(main(Path(sys.argv[1])))
