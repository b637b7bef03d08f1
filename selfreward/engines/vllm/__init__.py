"""`vllm:NAME_OR_PATH`: vLLM in its own process, which `worker` implements and `process` starts and stops."""
