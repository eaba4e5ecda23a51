"""Constraints that a text can be generated under, as data, and the check of each.

All are bounded, so that a model with random weights comes to an end as well.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_vllm.client.checks_structured import Fits, is_choice, is_object, matches, validates
from pytest_vllm.client.exchange import Request

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

__all__ = [
    "CONSTRAINTS",
    "FORMATS",
    "SCHEMAS",
    "TEMPTATIONS",
    "Constraint",
    "calm",
    "json_schema",
    "spoken",
    "tempting",
]

_CHOICES = ["a quiet zebra", "my quiet zebra"]
_REGEX = "[ab]{3}-[0-9]{2}"
_TAG = {"type": "structural_tag", "format": {"type": "const_string", "value": "zq7 kx"}}
#: What detokenizers and careless servers like to tidy up.
_SPACED = r"q  z , 'x' \. !\n\n"
_GRAMMAR = 'root ::= "zq" ("7" | "8") "kx"'


def _object(required: bool = True, **properties: Any) -> dict[str, Any]:
    more = {"required": list(properties)} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


_COLOUR = {"enum": ["red", "blue"]}

#: JSON schemas, by what is special about them.
SCHEMAS: dict[str, dict[str, Any]] = {
    "enums": _object(colour=_COLOUR, size={"enum": [1, 22]}),
    "booleans and null": _object(yes={"type": "boolean"}, nothing={"type": "null"}),
    "nested": _object(outer=_object(inner=_object(colour=_COLOUR))),
    "array with bounds": _object(
        colours={"type": "array", "items": _COLOUR, "minItems": 2, "maxItems": 2}
    ),
    "const and pattern": _object(
        kind={"const": "zq"}, code={"type": "string", "pattern": "^[ab]{2}$"}
    ),
    "a union": _object(value={"anyOf": [{"type": "boolean"}, {"const": "zq"}]}),
    "references": {
        **_object(first={"$ref": "#/$defs/Step"}, second={"$ref": "#/$defs/Step"}),
        "$defs": {"Step": _object(done={"type": "boolean"})},
    },
    "an array at the top": {"type": "array", "items": _COLOUR, "minItems": 1, "maxItems": 2},
}


#: Schemas of a text or a number, the texts that a model is drawn to by a bias so that it would
#: break them, and the regular expression that the value must match.
TEMPTATIONS: dict[str, tuple[dict[str, Any], dict[str, int], str]] = {
    "maxLength": ({"type": "string", "maxLength": 3}, {'"': -60}, r'"[^"]{0,3}"'),
    "minLength": ({"type": "string", "minLength": 3, "maxLength": 5}, {'"': 100}, r'"[^"]{3,5}"'),
    "maximum": ({"type": "integer", "minimum": 10, "maximum": 13}, {"9": 100}, r"1[0-3]"),
    "minimum": ({"type": "integer", "minimum": 5, "maximum": 99}, {"1": 90, "}": 100}, r"[5-9]|.."),
    "integer": ({"type": "integer", "minimum": 0, "maximum": 9}, {".": 100}, r"[0-9]"),
}


class Constraint(NamedTuple):
    """Fields of a request, and what its text must be."""

    fields: dict[str, Any]
    fits: Fits


def json_schema(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """OpenAI's `response_format` for a schema."""
    inner = {"name": "answer", "schema": schema, **more}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


#: vLLM's `structured_outputs`.
CONSTRAINTS: dict[str, Constraint] = {
    "choice": Constraint({"choice": _CHOICES}, is_choice(_CHOICES)),
    "one choice": Constraint({"choice": ["Zq7, amber."]}, is_choice(["Zq7, amber."])),
    "choice beyond ASCII": Constraint({"choice": ["\u00e9t\u00e9 \u4f60"]}, is_choice(["été 你"])),
    "regex": Constraint({"regex": _REGEX}, matches(_REGEX)),
    "regex of one text": Constraint({"regex": _SPACED}, matches(_SPACED)),
    "grammar": Constraint({"grammar": _GRAMMAR}, matches("zq[78]kx")),
    "structural tag": Constraint({"structural_tag": json.dumps(_TAG)}, is_choice(["zq7 kx"])),
    "json": Constraint({"json": SCHEMAS["enums"]}, validates(SCHEMAS["enums"])),
    "json, nested": Constraint({"json": SCHEMAS["nested"]}, validates(SCHEMAS["nested"])),
}

#: OpenAI's `response_format`.
FORMATS: dict[str, Constraint] = {
    "json_object": Constraint({"response_format": {"type": "json_object"}}, is_object),
    **{
        f"json_schema, {name}": Constraint(json_schema(schema), validates(schema))
        for name, schema in SCHEMAS.items()
    },
    "json_schema, strict": Constraint(
        json_schema(SCHEMAS["enums"], strict=True), validates(SCHEMAS["enums"])
    ),
}


def spoken(api: Api, fields: dict[str, Any]) -> dict[str, Any]:
    """`structured_outputs` as this vLLM calls it: before 0.12 each had a field `guided_…`."""
    if api.dialect.since(0, 12):
        return {"structured_outputs": fields}
    return {f"guided_{name}": value for name, value in fields.items()}


def calm(api: Api, *, closed: bool = False) -> dict[str, Any]:
    """A `logit_bias` that keeps a random model from filling JSON with white space without end.

    Args:
        api: The way to the server.
        closed: Also draw it to `{` and `}`, so that an object without a schema comes to an end.
    """
    if not api.has("tokenize"):
        return {}
    bias = api.once("tokens of white space", lambda: _bias(api, _SPACES, -100))
    if closed:
        bias = {**bias, **api.once("tokens of braces", lambda: _bias(api, ("{", "}"), 60))}
    return {"logit_bias": bias}


def tempting(api: Api, texts: dict[str, int]) -> dict[str, Any]:
    """`calm`, and a bias for or against each of these texts that is one token."""
    bias = dict(calm(api).get("logit_bias", {}))
    for text, value in texts.items():
        bias |= api.once(("bias", text, value), partial(_bias, api, (text,), value))
    return {"logit_bias": bias}


_SPACES = (" ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\r", "\r\n", " \n")


def _bias(api: Api, texts: tuple[str, ...], bias: int) -> dict[str, int]:
    """The same bias for each text that is one token."""
    found = {}
    for text in texts:
        body = {"model": api.model, "prompt": text, "add_special_tokens": False}
        ids = api.ask(Request("POST", "/tokenize", body)).json["tokens"]
        if len(ids) == 1:
            found[str(ids[0])] = bias
    return found
