"""SFT and DPO on TRL, each in a process of its own: `make_baseline`, `make_sft`, `make_dpo` are the steps."""
