"""prometheus_client's parser against the metrics endpoint of a running op-dbus.

Takes the path of the metrics socket from OPDBUS_METRICS; prints `ok WHAT` for each check and stops at
the first that fails. The parser forgives much, so the rules of the text format are checked besides.
"""

import http.client
import os
import re
import socket

from prometheus_client.parser import text_string_to_metric_families

TYPES = {"counter", "gauge", "histogram"}
SAMPLE = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)*\})? \S+$')


class UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(os.environ["OPDBUS_METRICS"])


def get(path: str, method: str = "GET") -> tuple[int, str, str]:
    connection = UnixConnection("localhost")
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.getheader("content-type", ""), text


def the_endpoint() -> str:
    status, content_type, text = get("/metrics")
    assert status == 200, status
    assert content_type.startswith("text/plain; version=0.0.4"), content_type
    print("ok /metrics answers 200 with the content type of the text format")
    status, _, _ = get("/elsewhere")
    assert status == 404, status
    status, _, _ = get("/metrics", "POST")
    assert status == 405, status
    print("ok another path is 404, another method 405")
    return text


def the_lines(text: str) -> None:
    assert text.endswith("\n"), "the last line does not end"
    described: dict[str, set[str]] = {}
    series: set[str] = set()
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            assert word in {"HELP", "TYPE"}, line
            assert word not in described.setdefault(name, set()), f"twice: {line}"
            described[name].add(word)
            assert word == "HELP" or rest in TYPES, line
        else:
            assert SAMPLE.match(line), f"no sample: {line}"
            name = line.rpartition(" ")[0]
            assert name not in series, f"twice: {name}"
            series.add(name)
    for name, words in described.items():
        assert words == {"HELP", "TYPE"}, f"{name} has only {words}"
    assert len(series) > 20, f"only {len(series)} series"
    print(f"ok {len(series)} series, none twice, each family with HELP and TYPE")


def the_families(text: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    kinds = {line.split(" ")[2]: line.split(" ")[3] for line in text.splitlines() if line.startswith("# TYPE")}
    for name, kind in kinds.items():
        assert name.startswith("opdbus_") or name.startswith("process_"), name
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        family = families[name.removesuffix("_total") if kind == "counter" else name]
        assert family.type == kind and family.documentation.strip(), f"{name}: {family}"
        for sample in family.samples:
            if kind != "gauge":
                assert sample.value >= 0, sample
            assert set(sample.labels) <= {
                "agent", "operation", "transport", "interface", "outcome", "stage", "state", "reason", "quantity", "event",
                "rule", "way", "le",
            }, sample  # fmt: skip
    histograms = [families[name] for name, kind in kinds.items() if kind == "histogram"]
    assert histograms, "there is no histogram"
    for family in histograms:
        the_buckets(family)
    for name in ["opdbus_calls", "opdbus_call_duration_seconds", "opdbus_calls_in_flight"]:
        assert name in families, f"{name} is missing"
    print(f"ok the parser reads {len(families)} families; counters end in _total")


def the_buckets(family) -> None:
    """Buckets of one series never fall, and the last one, +Inf, is the count."""
    buckets: dict[tuple, list[tuple[float, float]]] = {}
    counts: dict[tuple, float] = {}
    for sample in family.samples:
        labels = tuple(sorted(item for item in sample.labels.items() if item[0] != "le"))
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    for labels, values in buckets.items():
        assert values == sorted(values), f"{family.name} {labels}: {values}"
        assert values[-1] == (float("inf"), counts[labels]), f"{family.name} {labels}: {values[-1]}"


text = the_endpoint()
the_lines(text)
the_families(text)
