"""Steering behind vLLM's OpenAI-compatible server: the `steering` field in, the receipt out, and what can be looked up."""
