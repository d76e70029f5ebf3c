"""The JSON Schema of matrix.json, made from the record's own models and kept beside them for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reports.record import Matrix

FILE = Path(__file__).with_name("matrix.schema.json")


def generate() -> dict[str, Any]:
    """The schema of what is written: every field present, none unknown (JSON Schema 2020-12)."""
    schema = Matrix.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:cotenant:matrix:1", **schema}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(generate(), indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the file anew after a change of the record."""
    FILE.write_text(text(), encoding="utf-8")


def validate(document: Any) -> None:
    """Raise jsonschema.ValidationError where the document is not a matrix.json as the committed schema has it."""
    # Only those who check a document need the validator: writing one does not.
    from jsonschema import Draft202012Validator

    Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8"))).validate(document)
