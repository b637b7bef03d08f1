-- name: scores_match_judgements
-- group: contract
-- protects from: rewards that are not the mean of their judgements (an unscored one counted as 0, a rounded mean)
-- severity: fail
-- needs: judgements, scores, expected_scores
SELECT 'scores' AS dataset, iteration, candidate_id AS id, s.score, a.score AS recomputed_score, s.n_scored,
    a.n_scored AS recomputed_n_scored
FROM scores s FULL JOIN expected_scores a USING (iteration, candidate_id, judge, template, judge_mode)
WHERE s.n_judgements IS DISTINCT FROM a.n_judgements OR s.n_scored IS DISTINCT FROM a.n_scored
    OR (s.score IS NULL) <> (a.score IS NULL) OR abs(s.score - a.score) > 1e-9
    OR abs(s.score_variance - a.score_variance) > 1e-9
