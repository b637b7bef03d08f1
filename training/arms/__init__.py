"""Other updates than the paper's DPO, each chosen by one setting (docs/arms.md).

`losses` maps `dpo.loss` to TRL, `kto` takes pairs apart into good and bad answers, `training_pairs` adds those of earlier
iterations, and `make_positive` is the step that fine-tunes on good answers alone (`update: sft`).
"""
