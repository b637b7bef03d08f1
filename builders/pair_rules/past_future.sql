-- Past-future decoupling (arXiv 2508.06026): the best answer of M_k is chosen, the worst answer of the older models of
-- `candidates.also` is rejected, so that the two do not grow alike as the model improves. Ties as in max_min.
-- needs models: 2
WITH ranked AS (
    SELECT *, model_order = 0 AS is_new,
        row_number() OVER (PARTITION BY prompt_id, model_order = 0 ORDER BY may_be_chosen DESC, score DESC, score_variance, sample) AS top,
        row_number() OVER (PARTITION BY prompt_id, model_order = 0 ORDER BY score, score_variance, sample) AS bottom
    FROM eligible
)
SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id
FROM ranked chosen JOIN ranked rejected ON chosen.prompt_id = rejected.prompt_id
WHERE chosen.is_new AND chosen.top = 1 AND NOT rejected.is_new AND rejected.bottom = 1
  AND chosen.may_be_chosen AND chosen.score > rejected.score
