"""The JSON Schemas of the files in a run's folder, made from the record's own models and kept for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reports.record import Cell, Matrix
from reports.schema.files import Device, Evidence, RunFile

HERE = Path(__file__).parent
FILE = HERE / "matrix.schema.json"
# What a reader may rely on of each kind: `cell` is a line of cells.jsonl, `evidence` a file of logs/cells, `device` one of
# logs/*-device.json.
KINDS: dict[str, type[BaseModel]] = {"matrix": Matrix, "cell": Cell, "run": RunFile, "evidence": Evidence, "device": Device}


def generate(kind: str = "matrix") -> dict[str, Any]:
    """The schema of what is written (JSON Schema 2020-12): of a matrix and its cells every field present, none unknown."""
    schema = KINDS[kind].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:cotenant:{kind}:1", **schema}


def text(kind: str = "matrix") -> str:
    """The schema as its file holds it."""
    return json.dumps(generate(kind), indent=2, ensure_ascii=False) + "\n"


def file(kind: str) -> Path:
    """Where the committed schema is."""
    return HERE / f"{kind}.schema.json"


def write() -> None:
    """Write the files anew after a change of the models."""
    for kind in KINDS:
        file(kind).write_text(text(kind), encoding="utf-8")


def validate(document: Any, kind: str = "matrix") -> None:
    """Raise jsonschema.ValidationError where the document is not one of this kind as the committed schema has it."""
    # Only those who check a document need the validator: writing one does not.
    from jsonschema import Draft202012Validator

    Draft202012Validator(json.loads(file(kind).read_text(encoding="utf-8"))).validate(document)
