#!/usr/bin/env bash
# duckdb 2.0.1, NDJSON of a lake: a field has dates as the US writes them, one event for each day of January 2026, from
# "01-01-2026" to "01-31-2026". read_json takes the field for a DATE and tries its formats value by value: up to the
# 12th it reads day-month, so these events lie in January to December, and from the 13th on month-day. One column, two
# formats, no error, no warning. The same lines the other way round are read right: what a value means depends on the
# lines before it. So do codes that are no dates: "12-11-10" is in 2012 or in 2010. With 1.5.2 a column has one format;
# 1.5.3 has two as well: pull request 22559 of duckdb, made for times in several forms, tries the formats by value.
# Polars 2.1.0 and pyarrow 26.0.1 leave the texts. docs/lake.md of ingestd names the types where DuckDB reads a lake.
# Needs Python 3.10. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"
cat > dates.py <<'PY'
import json
import sys

import duckdb


def read(texts, options=""):
    with open("events.ndjson", "w") as file:
        file.writelines(json.dumps({"on": text}) + "\n" for text in texts)
    rows = duckdb.sql(f"SELECT \"on\" FROM read_json('events.ndjson'{options})").fetchall()
    return [str(row[0]) for row in rows]


def in_january(texts, options=""):
    return sum(day.startswith("2026-01-") for day in read(texts, options))


days = [f"01-{day:02}-2026" for day in range(1, 32)]
print("duckdb", duckdb.__version__)
out = {
    "in January, of 31": in_january(days),
    "the last day first": in_january(days[::-1]),
    "with dateformat": in_january(days, ", dateformat='%m-%d-%Y'"),
    "three days": read(["01-02-2026", "01-12-2026", "01-13-2026"]),
    "codes": read(["12-11-10", "12-11-31"]),
    "codes, the other way round": read(["12-11-31", "12-11-10"]),
    "as text": read(["12-11-10", "12-11-31"], ", columns={'on': 'VARCHAR'}"),
}
for name, got in out.items():
    print(f"  {name}: {got}")
two_formats = sys.argv[1] == "two"
expected = {
    "in January, of 31": 20 if two_formats else 31,
    "the last day first": 31,
    "with dateformat": 31,
    "three days": [*(["2026-02-01", "2026-12-01"] if two_formats else ["2026-01-02", "2026-01-12"]), "2026-01-13"],
    "codes": ["2012-11-10" if two_formats else "2010-11-12", "2031-11-12"],
    "codes, the other way round": ["2031-11-12", "2010-11-12"],
    "as text": ["12-11-10", "12-11-31"],
}
sys.exit(out != expected)
PY
for one in "1.5.2 one" "1.5.3 two" "2.0.1 two"; do
  read -r version formats <<< "$one"
  python3 -m venv "$version"
  timeout 300 "$version/bin/pip" install --quiet --disable-pip-version-check "duckdb==$version"
  timeout 100 "$version/bin/python" dates.py "$formats" || { echo "with $version it is another now"; exit 1; }
done
