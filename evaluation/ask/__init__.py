"""What every measure needs: prompts, models' answers, journalled requests, tables of results."""
