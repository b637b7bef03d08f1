"""`ray:NAME_OR_PATH`: Ray Data around the vLLM engine, on many machines."""
