"""Argilla: rows as the records that its client would send, made with the settings of docs/formats.md (`settings`)."""

import json
from unittest import mock

import argilla as rg
from argilla.records._mapping import IngestedRecordMapper
from reader import main


def read(file, tokenizer, settings):
    rg.Argilla._default_client = mock.MagicMock()  # a server would be asked for its version, not about rows
    made = {}
    exec(settings["code"].partition("\ndataset")[0], made)
    dataset = mock.MagicMock(settings=made["settings"])
    mapped = IngestedRecordMapper(dataset=dataset, mapping={"pair_id": "id"}, user_id=None)
    records = [mapped(json.loads(line)) for line in file.read_text().splitlines()]
    return [
        {"id": record.id, "fields": record.fields.to_dict(), "metadata": record.metadata.to_dict()}
        for record in records
        if record.api_model()
    ]


if __name__ == "__main__":
    main(read)
