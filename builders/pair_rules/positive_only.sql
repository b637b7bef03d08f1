-- Only prompts with a response whose mean score reaches $positive_score give a pair: that response against the worst.
-- Ties as in max_min.
WITH ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY prompt_id ORDER BY may_be_chosen DESC, score DESC, score_variance, sample) AS top,
        row_number() OVER (PARTITION BY prompt_id ORDER BY score, score_variance, sample) AS bottom
    FROM eligible
)
SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id
FROM ranked chosen JOIN ranked rejected ON chosen.prompt_id = rejected.prompt_id
WHERE chosen.top = 1 AND rejected.bottom = 1 AND chosen.may_be_chosen
  AND chosen.score >= $positive_score AND chosen.score > rejected.score
