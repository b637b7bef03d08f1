-- As max_min, but chosen must beat rejected by more than $min_margin standard errors of the judge: what two equally good
-- answers typically differ by, because few judgements were sampled of each.
WITH ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY prompt_id ORDER BY may_be_chosen DESC, score DESC, score_variance, sample) AS top,
        row_number() OVER (PARTITION BY prompt_id ORDER BY score, score_variance, sample) AS bottom
    FROM eligible
)
SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id
FROM ranked chosen JOIN ranked rejected ON chosen.prompt_id = rejected.prompt_id, sampling_error
WHERE chosen.top = 1 AND rejected.bottom = 1 AND chosen.may_be_chosen AND chosen.score > rejected.score
  AND chosen.score - rejected.score > $min_margin * sqrt(variance * (1 / chosen.n_scored + 1 / rejected.n_scored))
