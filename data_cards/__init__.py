"""Cards, publishing to the Hugging Face Hub, and pulling back."""
