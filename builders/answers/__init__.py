"""Answers to chats, and answers of models that think: what `candidates` and `pairs` do beyond plain prompts."""
