-- name: pairs_chosen_beats_rejected
-- group: contract
-- protects from: training towards the worse answer, or on margins that the scores do not say
-- severity: fail
-- needs: pairs, pair_sides
-- uses: scores
WITH wrong AS MATERIALIZED (
    SELECT iteration, pair_id FROM pairs
    WHERE NOT coalesce(chosen_score > rejected_score, false) OR abs(margin - (chosen_score - rejected_score)) > 1e-9
    UNION SELECT iteration, pair_id FROM pair_sides WHERE abs(told_score - score) > 1e-9
), rewards AS (
    SELECT iteration, pair_id, any_value(score) FILTER (side = 'chosen') AS score_of_chosen,
        any_value(score) FILTER (side = 'rejected') AS score_of_rejected
    FROM pair_sides SEMI JOIN wrong USING (iteration, pair_id) GROUP BY ALL
)
SELECT 'pairs' AS dataset, iteration, pair_id AS id, chosen_score, rejected_score, margin, score_of_chosen, score_of_rejected
FROM pairs SEMI JOIN wrong USING (iteration, pair_id) LEFT JOIN rewards USING (iteration, pair_id)
