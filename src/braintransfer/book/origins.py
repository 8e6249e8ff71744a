"""Where a run's numbers come from: its manifests as tables, and one number walked back as an example."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from braintransfer import cost, tables
from braintransfer.errors import BadInput
from braintransfer.reference import MANIFESTS, slim
from braintransfer.study import HEADLINE, SOURCES, TARGETS

#: Characters of a hash that a page shows.
SHORT = 8

Manifests = list[tuple[str, dict[str, Any]]]


def manifests_of(run: Path) -> Manifests:
    """Folder (from the run's on) and slim manifest (`reference.slim`) of every stage and training of a run, kept or the reader's own.

    BadInput when the manifests of a kept run cannot be read.
    """
    kept = run / MANIFESTS
    if not kept.is_file():
        return [(folder, slim(manifest)) for folder, manifest in cost.manifests(run)]
    try:
        lines = [json.loads(line) for line in gzip.decompress(kept.read_bytes()).decode("utf-8").splitlines()]
        return [(str(line["folder"]), line) for line in lines]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{kept}: not readable ({error}); keep the run again: braintransfer keep") from None


def table(found: Iterable[tuple[str, Mapping[str, Any]]], *groups: str) -> pd.DataFrame:
    """One row a manifest below one of the folders `groups`, hashes cut to SHORT characters; every value is text.

    A stage stands above its trainings.
    """
    rows = []
    for folder, manifest in sorted(found, key=lambda pair: pair[0].split("/")):
        if folder.partition("/")[0] not in groups:
            continue
        inputs = {str(name): str(value) for name, value in manifest.get("inputs", {}).items()}
        outputs = manifest.get("outputs", {})
        weights = {
            str(name): str(value) for name, value in outputs.items() if str(name).endswith("encoder.safetensors")
        }
        content = [f"{SHORT_NAMES.get(n, n)} {v[:SHORT]}" for n, v in weights.items()] + [
            str(outputs.get("digest", ""))[:SHORT]
        ]
        seconds = manifest.get("seconds")
        rows.append(
            {
                "folder": folder,
                "made from": _inputs(inputs),
                "key": str(manifest.get("key", ""))[:SHORT],
                "code": str(manifest.get("code", ""))[:SHORT],
                "content": ", ".join(c for c in content if c),
                "device": f"{manifest.get('device', '')} {manifest.get('precision', '')}".strip(),
                "seconds": f"{seconds:.0f}" if isinstance(seconds, int | float) else "",
            }
        )
    return pd.DataFrame(rows)


SHORT_NAMES = {"encoder.safetensors": "encoder"}


def _inputs(inputs: Mapping[str, str], most: int = 6) -> str:
    """Inputs with the beginning of their hashes; a long list (the comparison reads every cell) as its number."""
    if len(inputs) > most:
        return f"{len(inputs)} inputs, each by its key"
    return ", ".join(f"{name} {value[:SHORT]}" for name, value in inputs.items())


def versions(found: Iterable[tuple[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Package -> version of all manifests; several versions are all named, with how many manifests each has."""
    seen: dict[str, dict[str, int]] = {}
    for _, manifest in found:
        for name, version in manifest.get("versions", {}).items():
            counts = seen.setdefault(str(name), {})
            counts[str(version)] = counts.get(str(version), 0) + 1
    rows = [
        {"package": name, "version": ", ".join(v if len(c) == 1 else f"{v} ({n} manifests)" for v, n in c.items())}
        for name, c in sorted(seen.items())
    ]
    return pd.DataFrame(rows)


def claims_hashes(found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The beginnings of the hashes of the claims' rules in all manifests: one, unless the rules changed."""
    return sorted({str(m["claims"])[:SHORT] for _, m in found if m.get("claims")})


def example(results: pd.DataFrame | None) -> dict[str, Any] | None:
    """One cell of the study to walk back: its target, source, metric, mean in words, number of rows and stage folder."""
    if results is None:
        return None
    main = results[(results["arm"] == "main") & (results["class"] == "")]
    for target in TARGETS:
        for source in ("mri-segmentation", *SOURCES):
            rows = main[(main["target"] == target) & (main["source"] == source) & (main["metric"] == HEADLINE[target])]
            if len(rows):
                mean = tables.summarise(main, [HEADLINE[target]], targets=[target]).set_index("source").loc[source]
                return {
                    "target": target, "source": source, "metric": HEADLINE[target], "rows": len(rows),
                    "said": tables.with_interval(mean["mean"], mean["lower"], mean["upper"]),
                    "folder": f"targets/main/{target}/{source}",
                }  # fmt: skip
    return None
