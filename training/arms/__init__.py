"""Other updates than the paper's DPO, each chosen by one setting (docs/arms.md).

`kto` takes pairs apart into good and bad answers (`dpo.loss: kto`); `make_positive` is the step that fine-tunes on good
answers alone (`update: sft`).
"""
