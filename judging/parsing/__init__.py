"""From a judge's completion to a score: in linear time, from the completion only."""
