"""The dashboard for Grafana and the alerts for Prometheus ask only for what a running server exposes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orcinus.core.unserved import Reason
from orcinus.serve.metrics import REJECTIONS
from tests.architecture.source import ROOT
from tests.serve.in_process import serving_in_process

promql = pytest.importorskip("promql_parser")

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prometheus-alerts.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PROMETHEUS_OWN = {"instance", "job"}  # labels that Prometheus adds to every sample
SUFFIX = re.compile(r"_(bucket|sum|count|total)$")
VALUES = {"reason": {*REJECTIONS, *Reason}}  # that a label may have, besides those of the scrape

UNITS = ["s", "short", "percentunit", "reqps", "ops"]
SOURCE = {"type": "object", "properties": {"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}}}
PANEL = {  # Grafana's classic model, as far as panels here use it
    "type": "object",
    "required": ["id", "type", "title", "datasource", "gridPos", "fieldConfig", "targets"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "type": {"enum": ["timeseries", "stat"]},
        "title": {"type": "string", "minLength": 1},
        "datasource": SOURCE,
        "gridPos": {
            "type": "object",
            "required": ["h", "w", "x", "y"],
            "properties": {"w": {"maximum": 24, "minimum": 1}, "h": {"minimum": 1}, "x": {"minimum": 0}, "y": {"minimum": 0}},
        },
        "fieldConfig": {
            "type": "object",
            "required": ["defaults", "overrides"],
            "properties": {"defaults": {"required": ["unit"], "properties": {"unit": {"enum": UNITS}}}},
        },
        "targets": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["refId", "expr", "datasource", "legendFormat"],
                "properties": {"refId": {"pattern": "^[A-Z]$"}, "datasource": SOURCE},
            },
        },
    },
}


class Scrape:
    """Every sample of a server that has answered and refused requests, as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.labels: dict[str, list[dict[str, str]]] = {}
        self.kinds: dict[str, str] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.labels.setdefault(sample.name, []).append(sample.labels)
                self.kinds[sample.name] = family.type

    def label_names(self, metric: str) -> set[str]:
        return set.intersection(*(set(labels) for labels in self.labels[metric]))

    def values(self, metric: str, label: str) -> set[str]:
        return {labels[label] for labels in self.labels[metric]} | VALUES.get(label, set())

    def bounds(self, metric: str) -> set[float]:
        return {float(labels["le"]) for labels in self.labels[metric]}


@pytest.fixture(scope="module")
def scrape() -> Scrape:
    with serving_in_process("--simulate", "opt-13b", "--speed", "20", "--replicas", "2") as server:
        for _ in range(4):
            server.http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 4})
        server.http.post("/v1/completions", json={"prompt": 1.5})
        plain = server.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    return Scrape(plain.text)


def nodes(expression: str) -> list[Any]:
    """All nodes of an expression, with Grafana's variables filled in."""
    filled = expression.replace("$__rate_interval", "5m").replace("$model", ".*").replace("$engine", ".*")
    assert "$" not in filled, "an unknown variable"
    found: list[Any] = []
    promql.walk(promql.parse(filled), pre_visit=lambda node: found.append(node))
    return found


def selectors(found: list[Any]) -> list[Any]:
    """Selectors of an expression."""
    return [
        getattr(node, "vector_selector", node)
        for node in found
        if isinstance(node, promql.VectorSelector | promql.MatrixSelector)
    ]


EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]] + [rule["expr"] for rule in RULES]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_exist(expression: str, scrape: Scrape) -> None:
    found = nodes(expression)
    assert selectors(found)
    for selector in selectors(found):
        assert selector.name in scrape.labels, "no such metric"
        for matcher in selector.matchers.matchers:
            assert matcher.name in scrape.label_names(selector.name), f"{selector.name} has no label {matcher.name}"
            words = matcher.value.split("|")
            if all(re.fullmatch(r"[\w ]+", word) for word in words):
                assert set(words) <= scrape.values(selector.name, matcher.name), "no such value"
    for node in found:
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            inside = selectors(nodes(str(node.expr)))
            for selector in inside:
                assert set(node.modifier.labels) <= scrape.label_names(selector.name) | PROMETHEUS_OWN


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_counters_are_rated_gauges_are_not_and_quantiles_are_of_buckets(expression: str, scrape: Scrape) -> None:
    found = nodes(expression)
    rated = [node.vector_selector.name for node in found if isinstance(node, promql.MatrixSelector)]
    read = [node.name for node in found if isinstance(node, promql.VectorSelector) and node.name not in rated]
    assert {scrape.kinds[name] for name in rated} <= {"counter", "histogram"}
    assert {scrape.kinds[name] for name in read} <= {"gauge"}
    for node in found:
        if isinstance(node, promql.Call):
            assert node.func.name in ("rate", "increase", "histogram_quantile")
        if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
            quantile, summed = node.args
            assert 0 < quantile.val < 1
            assert "le" in summed.modifier.labels
            assert all(selector.name.endswith("_bucket") for selector in selectors(nodes(str(summed.expr))))


def bases(panel: dict[str, Any]) -> Iterator[str]:
    for target in panel["targets"]:
        for selector in selectors(nodes(target["expr"])):
            yield SUFFIX.sub("", selector.name)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_the_unit_of_its_metrics(panel: dict[str, Any]) -> None:
    found, unit = list(bases(panel)), panel["fieldConfig"]["defaults"]["unit"]
    divided = all("/" in target["expr"] for target in panel["targets"])
    assert (unit == "s") == all(name.endswith("_seconds") for name in found)
    if all(name.endswith(("_ratio", "_perc")) for name in found):
        assert unit == "percentunit"
    if unit == "percentunit":
        assert divided or all(name.endswith("_perc") for name in found)
        assert panel["fieldConfig"]["defaults"]["max"] == 1


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    for panel in PANELS:
        jsonschema.validate(panel, PANEL)
    assert DASHBOARD["schemaVersion"] >= 36, "the first whose data sources are objects"
    assert DASHBOARD.get("id") is None, "an id belongs to one Grafana"
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "model", "engine"]
    for one, other in itertools.combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], "panels overlap"
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_labels_that_its_expression_leaves(rule: dict[str, Any], scrape: Scrape) -> None:
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert re.fullmatch(r"Orcinus\w+", rule["alert"])
    found = nodes(rule["expr"])
    compared = found[0]
    assert isinstance(compared, promql.BinaryExpr)
    assert isinstance(compared.rhs, promql.NumberLiteral)
    summed = [node for node in found if isinstance(node, promql.AggregateExpr)]
    left = set(summed[0].modifier.labels) if summed else scrape.label_names(selectors(found)[0].name) | PROMETHEUS_OWN
    for text in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= left
    if isinstance(compared.lhs, promql.Call) and compared.lhs.func.name == "histogram_quantile":
        assert compared.rhs.val in scrape.bounds(selectors(found)[0].name), "a limit between two bounds is a guess"
