"""`hf:NAME_OR_PATH`: transformers in this process, on the CPU or one GPU."""
