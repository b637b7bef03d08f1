"""foreign_hub Cards, publishing to the Hugging Face Hub, pulling back."""
