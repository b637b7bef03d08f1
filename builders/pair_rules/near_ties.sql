-- As max_min, without near ties: the best and the worst of n answers must differ by more than sampling alone makes the
-- extremes of n equally good ones differ (Tukey's range test at `pairs.level`, with Kramer's standard error).
WITH ranked AS (
    SELECT *, count(*) OVER (PARTITION BY prompt_id) AS n,
        row_number() OVER (PARTITION BY prompt_id ORDER BY may_be_chosen DESC, score DESC, score_variance, sample) AS top,
        row_number() OVER (PARTITION BY prompt_id ORDER BY score, score_variance, sample) AS bottom
    FROM eligible
)
SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id
FROM ranked chosen JOIN ranked rejected ON chosen.prompt_id = rejected.prompt_id
JOIN score_range ON score_range.n = chosen.n, sampling_error
WHERE chosen.top = 1 AND rejected.bottom = 1 AND chosen.may_be_chosen AND chosen.score > rejected.score
  AND chosen.score - rejected.score > quantile * sqrt(variance / 2 * (1 / chosen.n_scored + 1 / rejected.n_scored))
