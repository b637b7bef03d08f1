"""The Hugging Face Hub: account, one commit, retries, pulling back."""
