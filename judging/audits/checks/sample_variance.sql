-- name: sample_variance
-- group: judge
-- protects from: rewards that are mostly the noise of sampling the judge
-- severity: warn
-- threshold: at most 1.5
-- figure: mean sample variance (divisor m - 1) between the judgements of one response, squared points; worst iteration
-- setting: far = 2
-- needs: scores
SELECT iteration, avg(score_variance * n_scored / (n_scored - 1)) AS figure FROM scores WHERE n_scored > 1
GROUP BY iteration;
SELECT 'scores' AS dataset, iteration, candidate_id AS id, score, score_variance, n_scored FROM scores
WHERE n_scored > 1 AND score_variance * n_scored / (n_scored - 1) > $far ORDER BY score_variance DESC, id
