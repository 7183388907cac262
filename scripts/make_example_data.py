"""Write the data of the examples: `lora-1b`, `memorize-sql` and `honeycomb`.

    python scripts/make_example_data.py           write configs/data/NAME/*.jsonl
    python scripts/make_example_data.py --check   say whether those files are what this writes

Each has the shape of the rows that its tutorial trains on; the words, tables and columns are made
up for this project. Everything follows from SEED: each run writes the same bytes.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

SEED = 31
ALPACA_ROWS = 120
HONEYCOMB_ROWS = 100
HELD_OUT_ROWS = 12
FOLDER = Path(__file__).resolve().parent.parent / "configs" / "data"

Row = dict[str, Any]

WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fable", "grove", "haven", "iris", "jolly"),
    *("kettle", "lemon", "maple", "nickel", "olive", "pepper", "quill", "river", "sable", "tulip"),
)
FRIENDS = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
TOWNS = ("Arle", "Bren", "Corve", "Dunmere", "Elsk", "Farrow")


def alpaca_row(rng: random.Random, kind: int) -> Row:
    """One task as `type: alpaca` wants it; about half have an input."""
    one, two, three = rng.sample(WORDS, 3)
    left, right = rng.randint(2, 49), rng.randint(2, 49)
    friend, town = rng.choice(FRIENDS), rng.choice(TOWNS)
    tasks = (
        (
            "Put these words in order.",
            f"{two}, {one}, {three}",
            ", ".join(sorted((one, two, three))),
        ),
        ("Write the word in capital letters.", one, one.upper()),
        ("Where does the person live?", f"{friend} lives in {town}.", f"{friend} lives in {town}."),
        (f"Add {left} and {right}.", "", f"{left} and {right} make {left + right}."),
        (f"How many letters has the word {one}?", "", f"It has {len(one)} letters."),
        (f"Name the first letter of {two}.", "", f"It is {two[0]}."),
    )
    instruction, given, output = tasks[kind % len(tasks)]
    return {"instruction": instruction, "input": given, "output": output}


def alpaca_rows() -> list[Row]:
    """ALPACA_ROWS different tasks."""
    rng = random.Random(SEED)
    rows: dict[str, Row] = {}
    while len(rows) < ALPACA_ROWS:
        row = alpaca_row(rng, len(rows))
        rows.setdefault(json.dumps(row), row)
    return list(rows.values())


TABLES: dict[str, tuple[str, ...]] = {
    "boats": ("name", "length", "year"),
    "bakers": ("name", "town", "loaves"),
    "trails": ("name", "km", "region"),
    "lamps": ("model", "watts", "price"),
}


def sql_rows() -> list[Row]:
    """Four questions about each table, few enough to be learnt by heart."""
    rows = []
    for table, columns in TABLES.items():
        first, second, third = columns
        context = f"CREATE TABLE {table} ({', '.join(columns)})"
        for question, query in (
            (f"How many {table} are there?", "COUNT(*) FROM {0}"),
            (f"Which {first} has the most {second}?", "{1} FROM {0} ORDER BY {2} DESC LIMIT 1"),
            (f"List every {third}.", "DISTINCT {3} FROM {0}"),
            (f"What is the {second} of each {first}?", "{1}, {2} FROM {0}"),
        ):
            answer = f"[SQL] SELECT {query.format(table, *columns)} [/SQL]"
            rows.append({"question": question, "context": context, "answer": answer})
    random.Random(SEED).shuffle(rows)
    return rows


NAMES = {
    "service": "service",
    "endpoint": "endpoint",
    "region": "region",
    "status": "status code",
    "host": "host",
}
NUMBERS = {"duration_ms": "duration", "bytes_sent": "bytes sent", "retries": "retries"}
OPERATIONS = {"AVG": "average", "MAX": "highest", "P95": "p95", "SUM": "total"}
TIMES = {"": 7200, " in the last hour": 3600, " today": 86400, " this week": 604800}


def honeycomb_row(rng: random.Random) -> tuple[str, Row]:
    """A request with the columns there are, and the query it means."""
    wanted = rng.choice(tuple(NAMES))
    query: Row = {"breakdowns": [wanted]}
    if rng.random() < 0.3:
        said = "number of requests"
        query["calculations"] = [{"op": "COUNT"}]
    else:
        operation, number = rng.choice(tuple(OPERATIONS)), rng.choice(tuple(NUMBERS))
        said = f"{OPERATIONS[operation]} {NUMBERS[number]}"
        query["calculations"] = [{"op": operation, "column": number}]
    tail = ""
    if wanted != "status" and rng.random() < 0.4:
        least = rng.choice((400, 500))
        tail = f" where the status code is at least {least}"
        query["filters"] = [{"column": "status", "op": ">=", "value": least}]
    top = rng.choice((0, 3, 5))
    if top:
        query["orders"] = [{**query["calculations"][0], "order": "descending"}]
        query["limit"] = top
    when = rng.choice(tuple(TIMES))
    query["time_range"] = TIMES[when]
    lead = f"top {top} by {said}, for each" if top else f"{said} by"
    others = rng.sample([name for name in (*NAMES, *NUMBERS) if name not in _columns(query)], 2)
    columns = sorted({*_columns(query), *others})
    asked = f'NLQ: "{lead} {NAMES[wanted]}{tail}{when}"\n\nColumns: {columns}'
    return asked, query


def _columns(query: Row) -> set[str]:
    parts = (*query["calculations"], *query.get("filters", ()))
    return {*query["breakdowns"], *(part["column"] for part in parts if "column" in part)}


def honeycomb_rows() -> tuple[list[Row], list[Row]]:
    """Rows to train on, as sharegpt wants them, and questions that are not among them."""
    rng = random.Random(SEED)
    made: dict[str, Row] = {}
    while len(made) < HONEYCOMB_ROWS + HELD_OUT_ROWS:
        asked, query = honeycomb_row(rng)
        made.setdefault(asked, query)
    rows = list(made.items())
    train = [
        {
            "conversations": [
                {"from": "human", "value": asked},
                {"from": "gpt", "value": json.dumps(query)},
            ]
        }
        for asked, query in rows[:HONEYCOMB_ROWS]
    ]
    held_out = [
        {"prompt": asked, "expected": json.dumps(query)} for asked, query in rows[HONEYCOMB_ROWS:]
    ]
    return train, held_out


def as_jsonl(rows: list[Row]) -> str:
    """One row a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def files() -> dict[str, str]:
    """Path below configs/data and text of each file that this script stands for."""
    train, held_out = honeycomb_rows()
    return {
        "lora-1b/train.jsonl": as_jsonl(alpaca_rows()),
        "memorize-sql/train.jsonl": as_jsonl(sql_rows()),
        "honeycomb/train.jsonl": as_jsonl(train),
        "honeycomb/heldout.jsonl": as_jsonl(held_out),
    }


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description="the examples' data")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    code = 0
    for name, text in files().items():
        path = FOLDER / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"{name} is not what this script writes", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
