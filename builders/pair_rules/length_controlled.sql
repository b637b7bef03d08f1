-- Length control after Meta-Rewarding (arXiv 2407.19594): among responses within $length_band points of the best the
-- shortest is chosen, among those within $length_band of the worst the longest is rejected. Equal lengths: the better
-- (worse) score first, then the lower sample number. Bands that overlap give no pair.
WITH bounds AS (
    SELECT prompt_id,
        max(score) FILTER (may_be_chosen) AS best,
        min(score) AS worst
    FROM eligible GROUP BY prompt_id
), banded AS (
    SELECT eligible.*,
        may_be_chosen AND score >= best - $length_band AND score > worst + $length_band AS near_top,
        score <= worst + $length_band AS near_bottom
    FROM eligible JOIN bounds USING (prompt_id)
), ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY prompt_id, near_top ORDER BY n_chars, score DESC, sample) AS top,
        row_number() OVER (PARTITION BY prompt_id, near_bottom ORDER BY n_chars DESC, score, sample) AS bottom
    FROM banded
)
SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id
FROM ranked chosen JOIN ranked rejected ON chosen.prompt_id = rejected.prompt_id
WHERE chosen.near_top AND chosen.top = 1 AND rejected.near_bottom AND rejected.bottom = 1
  AND chosen.score > rejected.score
