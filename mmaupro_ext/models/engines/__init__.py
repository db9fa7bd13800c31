"""Models behind an engine: a chat server (`--model openai-audio`), or vLLM in this process (`vllm-audio`)."""
