"""`vllm:NAME_OR_PATH`: vLLM in a process of its own, which `worker` runs and `process` starts and stops."""
