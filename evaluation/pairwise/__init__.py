"""Two models side by side: head to head, blind human sheets, checkpoint selection, prompt labels."""
