"""Croissant metadata (MLCommons, version 1.1) of a published dataset: its files by hash, its fields by type, what joins what.

The Hub derives its own Croissant description from its viewer's conversion; this one lists the published files
themselves with their SHA-256, and exists immediately, with `--dry-run` too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from selfreward.data_cards.tree.layout import config_name
from selfreward.data_cards.tree.parquet import DatasetFiles
from selfreward.notes import JsonObject
from selfreward.tables import BY_KIND, DatasetName

if TYPE_CHECKING:
    import pyarrow as pa

# copied from the specification, version 1.1
_CONTEXT: JsonObject = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
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
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
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
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "url": url,
        "license": _licence_url(licence),
        "version": f"1.0.0+{tag}",  # the specification requires three numbers; the run version is the build
        "datePublished": published,
        "citeAs": "Yuan et al., Self-Rewarding Language Models, arXiv:2401.10020",
        "distribution": [_repository(url), *files, *sets],
        "recordSet": [
            _splits([data for data, _ in datasets]),
            *(_record_set(data, schema, {other.name for other, _ in datasets}) for data, schema in datasets),
        ],
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


def _splits(datasets: Sequence[DatasetFiles]) -> JsonObject:
    """The names of all splits, which the datasets' fields `split` refer to."""
    names = dict.fromkeys(split for data in datasets for split in data.splits)
    field = {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits of the datasets.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [field],
        "data": [{"splits/name": name} for name in names],
    }


def _record_set(data: DatasetFiles, schema: pa.Schema, published: Set[str]) -> JsonObject:
    config, name = config_name(data.name), DatasetName.parse(data.name)
    fields = [_field(config, f"files-{config}", field.name, field.type, field.name) for field in schema]
    dataset = BY_KIND.get(name.kind)
    for link in dataset.links if dataset else ():
        parent = BY_KIND[link.parent]
        of = str(DatasetName(link.parent, name.iteration if parent.per_iteration else None))
        field = next(field for field in fields if field["name"] == link.column)
        # mlcroissant joins what is referred to, and fails on a list of ids.
        if of in published and "isArray" not in field:
            field["references"] = {"field": {"@id": f"{config_name(of)}/{parent.key[0]}"}}
    keys = [{"@id": f"{config}/{column}"} for column in dataset.key] if dataset else []
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"{data.name}: {data.n_rows:,} rows",
        **({"key": keys[0] if len(keys) == 1 else keys} if keys else {}),
        "field": [*fields, _split_field(config, data)],
    }


def _split_field(config: str, data: DatasetFiles) -> JsonObject:
    """The split of a row, which the name of its file begins with."""
    source = {
        "fileSet": {"@id": f"files-{config}"},
        "extract": {"fileProperty": "filename"},
        # mlcroissant applies this to the name of the file, then to the split that it found.
        "transform": {"regex": f"^({'|'.join(data.splits)})(?:-.*)?$"},
    }
    return {
        "@type": "cr:Field",
        "@id": f"{config}/published_split",  # `eft` has a column `split`
        "name": "published_split",
        "dataType": "sc:Text",
        "references": {"field": {"@id": "splits/name"}},
        "source": source,
    }


def _field(parent: str, files: str, name: str, kind: pa.DataType, column: str) -> JsonObject:
    import pyarrow as pa

    repeated = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    inner = kind.value_type if repeated else kind
    field: JsonObject = {"@type": "cr:Field", "@id": f"{parent}/{name}", "name": name}
    if repeated:
        field |= {"isArray": True, "arrayShape": "-1"}
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
