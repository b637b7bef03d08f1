"""Croissant metadata (MLCommons, version 1.0) of a published dataset: its files by hash, its fields by type.

The Hub derives its own Croissant description from its viewer's conversion; this one lists the published files
themselves with their SHA-256, and exists immediately, with `--dry-run` too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfreward.data_cards.tree.layout import config_name
from selfreward.data_cards.tree.parquet import DatasetFiles
from selfreward.notes import JsonObject

if TYPE_CHECKING:
    import pyarrow as pa

# copied from the specification, version 1.0
_CONTEXT: JsonObject = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "samplingRate": "cr:samplingRate",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(
    title: str,
    description: str,
    url: str,
    licence: str,
    tag: str,
    published: str,
    datasets: Sequence[tuple[DatasetFiles, pa.Schema]],
) -> str:
    """The metadata as JSON. `tag` is the run version; `published` an ISO date that follows from the versions."""
    files = [_file(entry.path, entry.bytes, entry.sha256) for data, _ in datasets for entry in data.files]
    sets = [_file_set(data) for data, _ in datasets]
    body = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": title,
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "url": url,
        "license": _licence_url(licence),
        "version": f"1.0.0+{tag}",  # the specification requires three numbers; the run version is the build
        "datePublished": published,
        "citeAs": "Yuan et al., Self-Rewarding Language Models, arXiv:2401.10020",
        "distribution": [_repository(url), *files, *sets],
        "recordSet": [_record_set(data, schema) for data, schema in datasets],
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _licence_url(licence: str) -> str:
    return f"https://choosealicense.com/licenses/{licence}/"


def _file(path: str, n_bytes: int, sha256: str) -> JsonObject:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{n_bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256,
    }


def _repository(url: str) -> JsonObject:
    """The repository as a whole."""
    return {
        "@type": "cr:FileObject",
        "@id": "repo",
        "name": "repo",
        "description": "The Hugging Face repository.",
        "contentUrl": url,
        "encodingFormat": "git+https",
        # a git repository has no SHA-256; the specification asks for a link to its issue 80 instead
        "sha256": "https://github.com/mlcommons/croissant/issues/80",
    }


def _file_set(data: DatasetFiles) -> JsonObject:
    config = config_name(data.name)
    return {
        "@type": "cr:FileSet",
        "@id": f"files-{config}",
        "name": f"files-{config}",
        "containedIn": {"@id": "repo"},
        "encodingFormat": "application/x-parquet",
        "includes": f"data/{config}/*.parquet",
    }


def _record_set(data: DatasetFiles, schema: pa.Schema) -> JsonObject:
    config = config_name(data.name)
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"{data.name}: {data.n_rows:,} rows",
        "field": [_field(config, f"files-{config}", field.name, field.type, field.name) for field in schema],
    }


def _field(parent: str, files: str, name: str, kind: pa.DataType, column: str) -> JsonObject:
    import pyarrow as pa

    repeated = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    inner = kind.value_type if repeated else kind
    field: JsonObject = {"@type": "cr:Field", "@id": f"{parent}/{name}", "name": name}
    if repeated:
        field["repeated"] = True
    # a struct becomes sub-fields, each read from the column by a JSON path
    if pa.types.is_struct(inner):
        field["subField"] = [
            _field(f"{parent}/{name}", files, part.name, part.type, column)
            for part in (inner.field(i) for i in range(inner.num_fields))
        ]
        for part in field["subField"]:
            part["source"]["transform"] = {"jsonPath": part["name"]}
        return field
    return field | {
        "dataType": _data_type(inner),
        "source": {"fileSet": {"@id": files}, "extract": {"column": column}},
    }


def _data_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    if pa.types.is_temporal(kind):
        return "sc:Date"
    return "sc:Text"
