"""Longer searches than the tests make, with tools that the tests do without.

```text
pip install atheris schemathesis            into an environment of its own
python -m tests.fuzz parser [--runs 1000000] [--new FOLDER]
python -m tests.fuzz listener [--examples 500]
```

`parser` is guided by coverage (atheris): it begins with `tests/fuzz/corpus` and keeps what reaches new code in
a folder of its own. `listener` posts what a description of the listener allows and what it forbids
(schemathesis) to a running one. A body that breaks something goes into the corpus, which the tests replay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CORPUS = Path(__file__).parent / "corpus"


def parser(runs: int, new: Path) -> None:
    """Guided by coverage: bodies into the parser, the judge of codes, and what strips secrets."""
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["kasoko_cli", "json"]):
        from tests.fuzz import target

    def both(body: bytes) -> None:
        target.one_body(body)
        target.a_secret_in(body)

    new.mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=4096", "-timeout=10", str(new), str(CORPUS)], both)
    atheris.Fuzz()


def description(paths: dict[str, str]) -> dict[str, Any]:
    """The listener as OpenAPI has it, with these paths, each by what it is."""
    from kasoko_cli.daraja.listener import HEALTH_PATH

    answers = {str(code): {"description": "refused"} for code in (400, 404, 405, 408, 413, 429, 431, 503)}
    value = {"oneOf": [{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]}
    item = {"type": "object", "properties": {"Key": {"type": "string"}, "Value": value}}
    items = {"type": "array", "items": item}
    envelope = {
        "type": "object",
        "properties": {
            "ResultType": value,
            "ResultCode": value,
            "ResultDesc": value,
            "OriginatorConversationID": value,
            "ConversationID": value,
            "TransactionID": value,
            "ResultParameters": {
                "oneOf": [
                    {"type": "null"},
                    {"type": "object", "properties": {"ResultParameter": {"oneOf": [items, item]}}},
                    items,
                ]
            },
            "ReferenceData": {"type": "object", "properties": {"ReferenceItem": {"oneOf": [items, item]}}},
        },
    }
    body = {"oneOf": [{"type": "object", "properties": {"Result": envelope}}, {"type": "object"}]}
    post = {
        "requestBody": {
            "content": {"application/json": {"schema": body}, "text/plain": {"schema": {"type": "string"}}}
        },
        "responses": {"200": {"description": "stored"}, **answers},
    }
    health = {"responses": {"200": {"description": "alive"}, "405": answers["405"]}}
    return {
        "openapi": "3.0.3",
        "info": {"title": "the listener of kasoko", "version": "1"},
        "paths": {
            **{path: {"post": {**post, "operationId": what}} for what, path in paths.items()},
            HEALTH_PATH: {"get": health},
        },
    }


def listener(examples: int) -> int:
    """By a description: requests to a running listener on a database of its own; says how it ended."""
    from kasoko_cli.daraja.callback_urls import Links
    from kasoko_cli.store.engine.database import upgrade
    from tests.benchmarks.listener import LINKS, listening

    def path(url: str) -> str:
        return urlsplit(url).path

    assert isinstance(LINKS, Links)
    known = "ks-" + "0" * 32
    paths = {
        "result": path(LINKS.of_payment(known).result),
        "timeout": path(LINKS.of_payment(known).timeout),
        "status": path(LINKS.of_status("q-1").result),
        "balance": path(LINKS.of_balance("q-1").result),
        "hint": "/api/payments/b2c-callback/",
        "miss": path(LINKS.of_payment(known).result)[:-1],
    }
    with tempfile.TemporaryDirectory() as folder:
        file, url = Path(folder) / "openapi.json", f"sqlite:///{Path(folder) / 'kasoko.db'}"
        file.write_text(json.dumps(description(paths)))
        upgrade(url)
        with listening(url, "httptools") as (port, _):
            command = [
                *(sys.executable, "-m", "schemathesis.cli", "run", str(file)),
                *("--url", f"http://127.0.0.1:{port}", "--max-examples", str(examples), "--phases", "fuzzing"),
                *("--checks", "not_a_server_error,status_code_conformance", "--seed", "20261124"),
            ]
            return subprocess.run(command, cwd=folder, check=False).returncode


def main() -> None:
    """Read the options, search."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Longer searches than the tests make.")
    what = options.add_subparsers(dest="what", required=True)
    by_coverage = what.add_parser("parser", help="bodies, guided by coverage (atheris)")
    by_coverage.add_argument("--runs", type=int, default=1_000_000)
    by_coverage.add_argument("--new", type=Path, default=Path(tempfile.gettempdir()) / "kasoko-fuzz")
    by_description = what.add_parser("listener", help="requests, by a description (schemathesis)")
    by_description.add_argument("--examples", type=int, default=500)
    chosen = options.parse_args()
    if chosen.what == "parser":
        parser(chosen.runs, chosen.new)
    else:
        sys.exit(listener(chosen.examples))


if __name__ == "__main__":
    main()
