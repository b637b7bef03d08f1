-- name: pairs_chosen_beats_rejected
-- group: contract
-- protects from: training towards the worse answer, or on margins that the scores do not say
-- severity: fail
-- needs: pairs
-- uses: scores
SELECT 'pairs' AS dataset, p.iteration, pair_id AS id, chosen_score, rejected_score, margin,
    c.score AS score_of_chosen, r.score AS score_of_rejected
FROM pairs p
LEFT JOIN scores c ON c.iteration = p.iteration AND c.candidate_id = chosen_id
LEFT JOIN scores r ON r.iteration = p.iteration AND r.candidate_id = rejected_id
WHERE NOT coalesce(chosen_score > rejected_score, false)
    OR abs(margin - (chosen_score - rejected_score)) > 1e-9
    OR abs(chosen_score - c.score) > 1e-9 OR abs(rejected_score - r.score) > 1e-9
