"""A JSON schema in the keywords that grammars enforce, or the place of what they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orcinus.errors import RequestError
from orcinus.text.json_schema.closed_schema import composes, declares_all
from orcinus.text.json_schema.one_of import exclusive
from orcinus.text.json_schema.pointers import DEFINITIONS, LISTS, NAMED, ONE, ROOT, at, below, is_place, refused, steps
from orcinus.text.json_schema.property_names import with_named_members
from orcinus.text.json_schema.string_patterns import with_plain_pattern, with_usual_format
from orcinus.text.json_schema.unenforced import allows, forbids, unforced
from orcinus.text.json_schema.unique_items import with_arrangements

MOST_REFERENCES = 16  # followed from one to the next
LONGEST_CHAIN = 100  # references without a schema of their own between them
MOST_ARRANGEMENTS = 10_000
GREATEST = 10**15  # of the bounds of a number that llguidance can write as an expression
BOUNDS = {"minimum": -1, "exclusiveMinimum": -1, "maximum": 1, "exclusiveMaximum": 1}


def enforceable_schema(schema: Any) -> Any:
    """The schema with keywords that llguidance enforces, and no others.

    JSON Schema allows undeclared members. A model that writes them has misunderstood the schema, and a small one may never
    stop: `additionalProperties: false` is set wherever an object declares its members and says nothing of others. If objects
    are composed of several parts, as by `allOf`, none is closed: a closed part would forbid the members of the others.
    Everything else that the new schema allows, the old one allows. Keywords that allow and forbid nothing are left out.
    OpenAPI's `nullable` allows null. Raises `RequestError` about the first keyword that cannot be enforced, with its place,
    and `RecursionError`.
    """
    return _Rewriting(schema).result()


def enforceable_object(schema: Any, what: str = "answer") -> dict[str, Any]:
    """`enforceable_schema`, as an object. Raises `RequestError` also for a schema that allows no `what`."""
    found = enforceable_schema(schema)
    if found is False:
        raise RequestError(f"the schema allows no {what}", "json")
    return {} if found is True else dict(found)


class _Rewriting:
    """Rewrites one schema: from its root, and then along its references."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._close = not composes(root)
        self._references: dict[str, None] = {}  # places to visit, in the order in which they were met
        self._visited: set[str] = set()
        self._arrangements = 0  # of all arrays with `uniqueItems`
        self._copied: set[str] = set()  # containers on the way to a definition
        self._always: list[tuple[Any, str]] = []  # objects that must have a member, and its name

    def result(self) -> Any:
        found = self.schema(self.root, ROOT)
        while waiting := [place for place in self._references if place not in self._visited]:
            for place in waiting:
                target = at(self.root, place)
                if place not in self._visited and isinstance(target, Mapping):
                    self._put(found, place, self.schema(target, place))
                self._visited.add(place)
        for part, name in self._always:
            _require(part, name, found)
        return found

    def _put(self, root: Any, place: str, value: Any) -> None:
        """Put a value at a place below the root; the schema that was given stays as it is."""
        *way, last = steps(place)
        container, here = root, ROOT
        for name in way:
            key: Any = int(name) if isinstance(container, list) else name
            here = below(here, name)
            if here not in self._copied and here not in self._visited:
                container[key] = container[key].copy()
                self._copied.add(here)
            container = container[key]
        container[int(last) if isinstance(container, list) else last] = value

    def schema(self, schema: Any, place: str) -> Any:
        """One schema and its parts. Raises `RequestError`."""
        self._visited.add(place)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise refused(place, "a schema must be an object or a boolean")
        if "not" in schema and not forbids(schema["not"]):
            return False
        found = unforced(schema, place)
        for name in list(found):
            found[name] = self._keyword(name, found[name], below(place, name))
        if "propertyNames" in found:
            found = with_named_members(found, place, self.resolved)
        if found.get("uniqueItems") is True:
            found = with_arrangements(found, place, self.resolved)
            self._arrangements += len(found["enum"])
            if self._arrangements > MOST_ARRANGEMENTS:
                raise refused(place, "'uniqueItems' cannot be enforced so often: remove it, or check the answer yourself")
        if isinstance(found.get("pattern"), str):
            found = with_plain_pattern(found)
        found = with_usual_format(found)
        if isinstance(found.get("oneOf"), list):
            found = self._exclusive(found, place)
        _narrow_bounds(found)
        if self._close and declares_all(found):
            found["additionalProperties"] = False
        _check_names(found, place)
        return {"anyOf": [found, {"type": "null"}]} if found.pop("nullable", None) is True else found

    def _keyword(self, name: str, value: Any, place: str) -> Any:
        if name == "$ref" and is_place(value):
            self._refuse_circle(value, place.removesuffix("/$ref"))
            self._references.setdefault(value)
        elif name in NAMED and isinstance(value, Mapping):
            return {key: self.schema(one, below(place, key)) for key, one in value.items()}
        elif name in (*LISTS, "items") and isinstance(value, list):
            return [self.schema(one, below(place, index)) for index, one in enumerate(value)]
        elif name in ONE:
            return self.schema(value, place)
        elif name in DEFINITIONS and isinstance(value, Mapping):
            return dict(value)
        return value

    def _refuse_circle(self, reference: str, place: str) -> None:
        """Raise `RequestError` for a reference to nothing but itself: no answer would end."""
        seen, schema = set[str](), at(self.root, reference)
        while isinstance(schema, Mapping):
            found = schema.get("$ref")
            if isinstance(found, str) and is_place(found):
                if found in seen or len(seen) == LONGEST_CHAIN:
                    raise refused(place, "'$ref' leads back to itself, or through more than 100 references")
                seen.add(found)
                schema = at(self.root, found)
            else:
                lists = (schema.get(name) for name in ("anyOf", "oneOf", "allOf"))
                schema = next((one[0] for one in lists if isinstance(one, list) and len(one) == 1), None)

    def resolved(self, schema: Any) -> Any:
        """A schema whose reference is followed, and the one that `allOf` has alone."""
        for _ in range(MOST_REFERENCES):
            if not isinstance(schema, Mapping):
                break
            if is_place(schema.get("$ref")):
                schema = at(self.root, schema["$ref"])
            elif isinstance(alone := schema.get("allOf"), list) and len(alone) == 1:
                schema = alone[0]
            else:
                break
        return schema

    def _exclusive(self, schema: dict[str, Any], place: str) -> dict[str, Any]:
        """`oneOf` as `anyOf`, if no answer has two of its parts."""
        tags = exclusive(schema, self.resolved, close=self._close)
        if tags is None:
            reason = "an answer may have several of its parts; give them a member with constants that differ, or use anyOf"
            raise refused(place, f"'oneOf' cannot be enforced: {reason}")
        for part, tag in zip(schema["oneOf"], tags, strict=True):
            if tag is not None:
                self._always.append((part, tag))
        return schema if "anyOf" in schema else {"anyOf" if name == "oneOf" else name: one for name, one in schema.items()}


def _require(schema: Any, name: str, root: Any) -> None:
    """Add a required member to a schema, or to the one that it refers to."""
    for _ in range(MOST_REFERENCES):
        if not isinstance(schema, dict) or not is_place(schema.get("$ref")):
            break
        schema = at(root, schema["$ref"])
    if isinstance(schema, dict) and name not in (required := schema.get("required", [])):
        schema["required"] = [*required, name]


def _narrow_bounds(schema: dict[str, Any]) -> None:
    """Narrow the bounds of a number to those that can be enforced."""
    for name, sign in BOUNDS.items():
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and bound * sign > GREATEST:
            schema[name] = GREATEST * sign


def _check_names(schema: Mapping[str, Any], place: str) -> None:
    """Raise `RequestError` if an object needs several members of any name: grammars may write one name twice."""
    least, required = schema.get("minProperties"), schema.get("required")
    known = max(1, len(required)) if isinstance(required, list) else 1
    anyhow = schema.get("additionalProperties") is not False or schema.get("patternProperties")
    if isinstance(least, int) and least > known and anyhow and allows(schema, "object"):
        raise refused(place, "'minProperties' cannot be enforced here: at most 1 can, or declare all members by name")
