"""Schemas as pydantic, dataclasses and typed dictionaries write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional, Union
from uuid import UUID

from pydantic import AnyUrl, BaseModel, ConfigDict, Discriminator, Field, HttpUrl, RootModel, Tag, TypeAdapter, computed_field
from typing_extensions import TypedDict  # pydantic's

from tests.text.json_schema.cases import Case


class Color(StrEnum):
    """A color."""

    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    street: str
    zip: Annotated[str, Field(pattern=r"^\d{5}$")]


class Person(BaseModel):
    """A person, as many examples have one."""

    name: str = Field(description="First name", examples=["Ann"], min_length=1, max_length=40)
    age: int = Field(ge=0, le=130)
    address: Address
    email: Optional[str] = None  # noqa: UP045
    color: Color = Color.RED
    tags: list[str] = Field(default_factory=list, max_length=3)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


class Owner(BaseModel):
    pet: Union[Cat, Dog] = Field(discriminator="kind")  # noqa: UP007


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Expression(RootModel[Union[int, "Sum"]]):
    pass


class Sum(BaseModel):
    left: Expression
    right: Expression


class Numbers(BaseModel):
    positive: Annotated[int, Field(gt=0)]
    share: Annotated[float, Field(ge=0, lt=1)]
    even: Annotated[int, Field(multiple_of=2)]
    price: Decimal


class Moments(BaseModel):
    at: datetime
    on: date
    daily: time
    lasts: timedelta


class Formats(BaseModel):
    id: UUID
    site: HttpUrl
    link: AnyUrl
    host: IPv4Address
    file: Path
    raw: bytes


class Tuples(BaseModel):
    point: tuple[float, float]
    row: tuple[str, int, bool]
    many: tuple[int, ...]
    nothing: tuple[()]


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", title="A strict one")
    anything: Any
    object: dict[str, Any]
    maybe: Literal["a", 1, True, None]
    only: Literal["v1"] = "v1"


class Maps(BaseModel):
    counts: dict[str, int]
    by_color: dict[Color, int]
    by_word: dict[Literal["x", "y"], float]
    by_code: dict[Annotated[str, Field(pattern="^[A-Z]{2}$")], str]
    by_name: dict[Annotated[str, Field(min_length=1, max_length=3)], bool]


class ById(BaseModel):
    names: dict[UUID, str]


class Unique(BaseModel):
    colors: set[Color]
    flags: frozenset[bool] = Field(max_length=1)


class Tags(BaseModel):
    tags: set[str]


class Aliases(BaseModel):
    first: str = Field(alias="firstName")
    old: int = Field(default=0, deprecated=True, json_schema_extra={"readOnly": True})

    @computed_field
    def total(self) -> int:
        return self.old


class Base(BaseModel):
    id: int


class Derived(Base):
    note: str | None = Field(default=None, title="A note", json_schema_extra={"x-order": 2})


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "list"


Called = Annotated[Union[Annotated[str, Tag("text")], Annotated[list[str], Tag("list")]], Discriminator(_kind)]  # noqa: UP007


@dataclass
class Item:
    sku: str
    count: int = 1


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


def _of(kind: Any, **options: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema(**options)


ADDRESS = {"street": "Main St 1", "zip": "12345"}
ANN = {"name": "Ann", "age": 9, "address": ADDRESS}
NUMBERS = {"positive": 1, "share": 0.25, "even": 4, "price": "1.50"}
UUID_TEXT = "123e4567-e89b-12d3-a456-426614174000"
FORMATS = {
    "id": UUID_TEXT,
    "site": "https://example.com/a",
    "link": "ftp://example.com",
    "host": "127.0.0.1",
    "file": "/tmp/a b",
    "raw": "abc",
}
MAPS = {"counts": {"a": 1}, "by_color": {"red": 1}, "by_word": {"x": 1.5}, "by_code": {"DE": "x"}, "by_name": {"abc": True}}
CASES: dict[str, Callable[[], Case]] = {
    "a model of a model": lambda: Case(
        Person.model_json_schema(),
        (ANN, {**ANN, "email": None, "color": "green", "tags": ["a", "b"]}),
        ({**ANN, "age": 131}, {**ANN, "color": "blue"}, {**ANN, "extra": 1}, {"name": "Ann"}, {**ANN, "tags": ["a"] * 4}),
    ),
    "a discriminated union": lambda: Case(
        Owner.model_json_schema(),
        ({"pet": {"kind": "cat", "lives": 9}}, {"pet": {"kind": "dog", "good": False}}, {"pet": {"kind": "dog"}}),
        ({"pet": {"kind": "cow"}}, {"pet": {"kind": "dog", "lives": 9}}, {"pet": {"lives": 9}}),
    ),
    "a list of a discriminated union": lambda: Case(
        _of(list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]]),  # noqa: UP007
        ([], [{"kind": "dog"}, {"kind": "cat", "lives": 1}]),
        ([{"kind": "cat"}],),
    ),
    "a union": lambda: Case(_of(Union[Cat, Dog, None]), ({"lives": 9}, {"kind": "dog"}, None), ({"kind": "dog", "lives": 9},)),  # noqa: UP007
    "a union with a function as its discriminator": lambda: Case(_of(Called), ("a", ["a"]), (1, [1])),
    "a tree": lambda: Case(
        Tree.model_json_schema(),
        ({"value": 1, "children": [{"value": 2, "children": []}, {"value": 3}]},),
        ({"value": 1, "children": [{"children": []}]},),
    ),
    "a recursive root model": lambda: Case(
        Expression.model_json_schema(), (1, {"left": 1, "right": {"left": 2, "right": 3}}), ({"left": 1},)
    ),
    "numbers": lambda: Case(
        Numbers.model_json_schema(),
        (NUMBERS, {**NUMBERS, "price": 2.5}, {**NUMBERS, "price": "-.5"}),
        ({**NUMBERS, "positive": 0}, {**NUMBERS, "share": 1}, {**NUMBERS, "even": 3}, {**NUMBERS, "price": None}),
    ),
    "decimals as they are written": lambda: Case(Numbers.model_json_schema(mode="serialization"), (NUMBERS,), ()),
    "moments": lambda: Case(
        Moments.model_json_schema(),
        ({"at": "2026-11-30T12:00:00Z", "on": "2026-11-30", "daily": "12:00:00Z", "lasts": "P1DT2H"},),
        ({"at": "today", "on": "2026-11-30", "daily": "12:00:00Z", "lasts": "P1D"},),
    ),
    "formats": lambda: Case(Formats.model_json_schema(), (FORMATS,), ({**FORMATS, "id": "1"}, {**FORMATS, "host": "1.2.3"})),
    "tuples": lambda: Case(
        Tuples.model_json_schema(),
        ({"point": [1.5, 2], "row": ["a", 1, True], "many": [1, 2, 3], "nothing": []},),
        ({"point": [1.5], "row": ["a", 1, True], "many": [], "nothing": []},),
    ),
    "a model with members of any name": lambda: Case(
        Loose.model_json_schema(), ({"name": "a"}, {"name": "a", "more": [1]}), ({"more": 1},)
    ),
    "a strict model": lambda: Case(
        Strict.model_json_schema(),
        (
            {"anything": [1, None], "object": {"a": {}}, "maybe": True, "only": "v1"},
            {"anything": 1, "object": {}, "maybe": None},
        ),
        ({"anything": 1, "object": [], "maybe": "a"}, {"anything": 1, "object": {}, "maybe": 2}),
    ),
    "maps": lambda: Case(
        Maps.model_json_schema(),
        (MAPS, {**MAPS, "by_color": {"red": 1, "green": 2}, "by_code": {}}),
        (
            {**MAPS, "by_color": {"blue": 1}},
            {**MAPS, "by_word": {"z": 1}},
            {**MAPS, "by_code": {"d": ""}},
            {**MAPS, "by_name": {"": 1}},
        ),
    ),
    "a map of ids": lambda: Case(ById.model_json_schema(), ({"names": {UUID_TEXT: "a"}},), ({"names": {"a": "b"}},)),
    "sets of few values": lambda: Case(
        Unique.model_json_schema(),
        ({"colors": [], "flags": [True]}, {"colors": ["green", "red"], "flags": []}),
        ({"colors": ["red", "red"], "flags": []}, {"colors": [], "flags": [True, False]}),
    ),
    "a set of texts": lambda: Case(Tags.model_json_schema(), refused="#/properties/tags: 'uniqueItems' cannot be enforced: "),
    "aliases": lambda: Case(Aliases.model_json_schema(), ({"firstName": "a", "old": 1},), ({"first": "a"},)),
    "computed members": lambda: Case(
        Aliases.model_json_schema(mode="serialization"), ({"firstName": "a", "old": 1, "total": 1},), ({"firstName": "a"},)
    ),
    "a derived model": lambda: Case(
        Derived.model_json_schema(), ({"id": 1, "note": None}, {"id": 1, "note": "x"}), ({"note": "x"},)
    ),
    "a list of models": lambda: Case(_of(list[Address]), ([], [ADDRESS, ADDRESS]), ([{"street": "a"}], ADDRESS)),
    "a dataclass": lambda: Case(_of(Item), ({"sku": "a"}, {"sku": "a", "count": 2}), ({"count": 2},)),
    "a typed dictionary": lambda: Case(_of(Movie), ({"title": "a"}, {"title": "a", "year": 1999}), ({"year": 1999},)),
    "a union of plain types": lambda: Case(_of(Union[int, str, list[int], None]), (1, "a", [1], None), (1.5, ["a"])),  # noqa: UP007
    "literals": lambda: Case(_of(Literal["a", "b", 3]), ("a", 3), ("c", 4)),
    "an enumeration of numbers": lambda: Case(_of(Level), (1, 2), (3, "1")),
}
