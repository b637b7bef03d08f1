"""`openai:BASE_URL#MODEL`: any OpenAI-compatible server."""
