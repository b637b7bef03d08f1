-- Consistency after CREAM (arXiv 2410.12735): as max_min, for prompts whose answers the first two judges rank alike:
-- Kendall's tau (ties count 0) of their scores is at least $min_consistency.
-- needs judges: 2
WITH both_scores AS (
    SELECT prompt_id, candidate_id, first.score AS now, second.score AS before
    FROM eligible JOIN judge_scores first USING (prompt_id, candidate_id) JOIN judge_scores second USING (prompt_id, candidate_id)
    WHERE first.setup = 0 AND second.setup = 1 AND first.score IS NOT NULL AND second.score IS NOT NULL
), agreement AS (
    SELECT prompt_id, avg(sign(a.now - b.now) * sign(a.before - b.before)) AS tau
    FROM both_scores a JOIN both_scores b USING (prompt_id)
    WHERE a.candidate_id < b.candidate_id GROUP BY prompt_id
), ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY prompt_id ORDER BY may_be_chosen DESC, score DESC, score_variance, sample) AS top,
        row_number() OVER (PARTITION BY prompt_id ORDER BY score, score_variance, sample) AS bottom
    FROM eligible
)
SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id
FROM ranked chosen JOIN ranked rejected ON chosen.prompt_id = rejected.prompt_id
JOIN agreement ON agreement.prompt_id = chosen.prompt_id
WHERE chosen.top = 1 AND rejected.bottom = 1 AND chosen.may_be_chosen AND chosen.score > rejected.score
  AND tau >= $min_consistency
