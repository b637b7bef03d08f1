"""How well a judge's scores agree with people's rankings and ratings."""
