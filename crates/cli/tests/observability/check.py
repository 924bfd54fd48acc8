"""Reads metrics from stdin with the official parser of the format that is named, and prints name and type of each."""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

parse = {"plain": plain, "openmetrics": open_metrics}[sys.argv[1]]
names = set()
for family in parse(sys.stdin.read()):
    assert family.documentation, f"{family.name} has no help"
    assert family.type not in ("unknown", "untyped"), f"{family.name} has no type"
    assert family.name not in names, f"{family.name} is there twice"
    names.add(family.name)
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert len(series) == len(set(series)), f"{family.name} has a series twice"
    if family.type == "histogram":
        totals, counts = {}, {}
        for sample in family.samples:
            key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            if sample.name.endswith("_bucket"):
                assert sample.value >= totals.get(key, 0), f"{family.name} falls from bucket to bucket"
                totals[key] = sample.value
            if sample.name.endswith("_count"):
                counts[key] = sample.value
        assert totals == counts, f"{family.name} counts otherwise than its last buckets"
    print(family.name, family.type)
