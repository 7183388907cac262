"""Write the quickstart's data: requests in plain words, and the observability query each one means.

    python scripts/make_quickstart_data.py           write configs/data/quickstart/*.jsonl
    python scripts/make_quickstart_data.py --check   say whether those files are what this writes

A query is one line of JSON with the parts that are needed of: `columns` (group by), `calculations`,
`filters`, `orders` (by the operation's name), `limit`. The services, columns and wording are made
up for this project. The sets of columns that the held-out queries use appear nowhere in training,
so that a right answer there is put together, not remembered. Everything follows from SEED: each run
writes the same bytes.
"""

import argparse
import json
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

SEED = 20
TRAIN_ROWS = 480
HELD_OUT_ROWS = 32
LONGEST = 160  # characters of request and query together: at most 70 tokens, so a CPU is quick
FOLDER = Path(__file__).resolve().parent.parent / "configs" / "data" / "quickstart"

Filter = tuple[str, str, str | int]


@dataclass(frozen=True)
class Label:
    """A column of names: what people call it, what it holds, how a value is asked for."""

    column: str
    singular: str
    plural: str
    values: tuple[str, ...]
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """A column of numbers: what people call it, sensible thresholds and their unit."""

    column: str
    names: tuple[str, ...]
    thresholds: tuple[int, ...]
    unit: str


LABELS = (
    Label(
        "service",
        "service",
        "services",
        ("checkout", "search", "billing", "gateway", "mailer", "stock"),
        ("in the {} service", "for service {}"),
    ),
    Label(
        "region",
        "region",
        "regions",
        ("north", "south", "east", "west"),
        ("in region {}", "in the {} region"),
    ),
    Label(
        "endpoint",
        "endpoint",
        "endpoints",
        ("/login", "/cart", "/pay", "/items", "/health"),
        ("on {}", "for endpoint {}"),
    ),
    Label(
        "tenant",
        "tenant",
        "tenants",
        ("orchid", "pelican", "quartz", "walnut"),
        ("for tenant {}", "from tenant {}"),
    ),
    Label(
        "release",
        "release",
        "releases",
        ("spring", "summer", "autumn", "winter"),
        ("in release {}", "since the {} release"),
    ),
    Label("host", "host", "hosts", ("ant", "bee", "cat", "dog"), ("on host {}", "from host {}")),
)

MEASURES = (
    Measure("duration_ms", ("latency", "response time"), (50, 200, 500, 900), " ms"),
    Measure("queue_ms", ("queue time", "time in the queue"), (5, 20, 80), " ms"),
    Measure("payload_kb", ("payload size", "size of the payload"), (8, 64, 300), " kB"),
    Measure("rows_read", ("rows read", "number of rows read"), (100, 1000, 5000), ""),
    Measure("memory_mb", ("memory", "memory use"), (128, 512, 900), " MB"),
    Measure("retries", ("retries", "retry count"), (1, 2, 3, 5), ""),
)

OPERATIONS = {
    "avg": ("average", "mean"),
    "max": ("maximum", "peak"),
    "p50": ("median", "p50"),
    "p95": ("p95", "95th percentile"),
    "p99": ("p99", "99th percentile"),
    "sum": ("total", "sum of"),
}

STATUS_FILTERS: tuple[tuple[str, Filter], ...] = (
    ("with server errors", ("status", ">=", 500)),
    ("that failed with 503", ("status", "=", 503)),
    ("that answered 404", ("status", "=", 404)),
    ("that succeeded", ("status", "<", 400)),
)


@dataclass(frozen=True)
class Row:
    """One request, the query it means, and every column that the query names."""

    request: str
    query: str
    columns: frozenset[str]


def label_filter(rng: random.Random, label: Label) -> tuple[str, Filter]:
    """Words and filter for one value of `label`."""
    value = rng.choice(label.values)
    return rng.choice(label.asked).format(value), (label.column, "=", value)


def measure_filter(rng: random.Random, measure: Measure) -> tuple[str, Filter]:
    """Words and filter for one threshold of `measure`."""
    threshold = rng.choice(measure.thresholds)
    words, sign = rng.choice((("above", ">"), ("over", ">"), ("below", "<"), ("under", "<")))
    name = rng.choice(measure.names)
    return f"with {name} {words} {threshold}{measure.unit}", (measure.column, sign, threshold)


def pick_filters(
    rng: random.Random, grouped: Label | None, measured: Measure | None
) -> list[tuple[str, Filter]]:
    """None, one or two filters on columns that the query does not group by or calculate."""
    candidates = [label_filter(rng, label) for label in LABELS if label is not grouped]
    candidates += [measure_filter(rng, measure) for measure in MEASURES if measure is not measured]
    candidates += [rng.choice(STATUS_FILTERS)]
    first, second = rng.sample(candidates, 2)
    wanted = rng.choices((0, 1, 2), weights=(3, 5, 1))[0]
    return [first, second][:wanted]


def pick_calculation(rng: random.Random) -> tuple[str, str, Measure | None]:
    """Words, expression, and the measure it is over: None when requests are counted."""
    if rng.random() < 0.2:
        return rng.choice(("number of requests", "request count")), "count()", None
    measure = rng.choice(MEASURES)
    operation = rng.choice(tuple(OPERATIONS))
    words = f"{rng.choice(OPERATIONS[operation])} {rng.choice(measure.names)}"
    return words, f"{operation}({measure.column})", measure


@dataclass(frozen=True)
class Order:
    """How the answer is to be sorted and cut; '' and 0 where the request does not say."""

    direction: str = ""
    limit: int = 0


ENDINGS = {"highest first": "desc", "lowest first": "asc"}
LEADS = {
    "top {} {} by": "desc",
    "{} {} with the highest": "desc",
    "bottom {} {} by": "asc",
    "{} {} with the lowest": "asc",
}


def word_request(
    rng: random.Random, calculation: str, grouped: Label | None, tail: str
) -> tuple[str, Order]:
    """Put the request into words; `tail` is how its filters are said."""
    ask = rng.choice(("", "show ", "what is the "))
    if grouped is None:
        return f"{ask}{calculation}{tail}", Order()
    shape = rng.choice(("plain", "ordered", "cut"))
    if shape == "cut":
        lead = rng.choice(tuple(LEADS))
        limit = rng.choice((3, 5, 10, 20))
        words = f"{lead.format(limit, grouped.plural)} {calculation}{tail}"
        return words, Order(LEADS[lead], limit)
    request = f"{ask}{calculation} {rng.choice(('by', 'per'))} {grouped.singular}{tail}"
    if shape == "plain":
        return request, Order()
    ending = rng.choice(tuple(ENDINGS))
    return f"{request}, {ending}", Order(ENDINGS[ending])


def make_row(rng: random.Random) -> Row:
    """Make one request and its query."""
    words, expression, measure = pick_calculation(rng)
    label = rng.choice(LABELS) if rng.random() < 0.85 else None
    filters = pick_filters(rng, label, measure)
    query: dict[str, object] = {}
    if label:
        query["columns"] = [label.column]
    query["calculations"] = [expression]
    if filters:
        query["filters"] = [list(part) for _, part in filters]

    request, order = word_request(rng, words, label, "".join(f" {said}" for said, _ in filters))
    if order.direction:
        query["orders"] = [f"{expression.partition('(')[0]} {order.direction}"]
    if order.limit:
        query["limit"] = order.limit

    columns = {part[0] for _, part in filters}
    columns |= {label.column} if label else set()
    columns |= {measure.column} if measure else set()
    return Row(request, json.dumps(query, separators=(",", ":")), frozenset(columns))


def make_rows() -> tuple[list[Row], list[Row]]:
    """Training and held-out rows; training uses none of the held-out ones' sets of columns."""
    rng = random.Random(SEED)
    by_request: dict[str, Row] = {}
    while len(by_request) < 2 * TRAIN_ROWS:
        row = make_row(rng)
        if len(row.request) + len(row.query) <= LONGEST:
            by_request.setdefault(row.request, row)
    rows = list(by_request.values())

    held_out: dict[frozenset[str], Row] = {}
    for row in rows:
        if len(row.columns) >= 2 and len(held_out) < HELD_OUT_ROWS:
            held_out.setdefault(row.columns, row)
    train = [row for row in rows if row.columns not in held_out]
    return train[:TRAIN_ROWS], list(held_out.values())


def as_jsonl(rows: list[dict[str, object]]) -> str:
    """One row a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def files() -> dict[str, str]:
    """Name and text of each file that this script stands for."""
    train, held_out = make_rows()
    return {
        "train.jsonl": as_jsonl(
            [
                {
                    "messages": [
                        {"role": "user", "content": row.request},
                        {"role": "assistant", "content": row.query},
                    ]
                }
                for row in train
            ]
        ),
        "heldout.jsonl": as_jsonl(
            [{"prompt": row.request, "expected": row.query} for row in held_out]
        ),
    }


def columns_of(query: str) -> frozenset[str]:
    """Every column that a query in JSON names, read from the query itself."""
    parts = json.loads(query)
    found = set(parts.get("columns", []))
    found |= {part[0] for part in parts.get("filters", [])}
    found |= set(re.findall(r"\((\w+)\)", " ".join(parts["calculations"])))
    return frozenset(found)


def problems(folder: Path = FOLDER) -> list[str]:
    """What is wrong with the files in `folder`; nothing, if they are what this script writes."""
    found = []
    texts = {}
    for name, text in files().items():
        path = folder / name
        texts[name] = path.read_text(encoding="utf-8") if path.is_file() else ""
        if texts[name] != text:
            found.append(f"{name} is not what this script writes")
    train = [json.loads(line)["messages"] for line in texts["train.jsonl"].splitlines()]
    held_out = [json.loads(line) for line in texts["heldout.jsonl"].splitlines()]
    requests = {user["content"] for user, _ in train}
    learnt = {columns_of(answer["content"]) for _, answer in train}
    for row in held_out:
        if row["prompt"] in requests:
            found.append(f"held out, but in training: {row['prompt']}")
        if columns_of(row["expected"]) in learnt:
            found.append(f"its set of columns is in training: {row['prompt']}")
    return found


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description="the quickstart's data")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    if parser.parse_args().check:
        found = problems()
        print("\n".join(found), file=sys.stderr)
        return 1 if found else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
