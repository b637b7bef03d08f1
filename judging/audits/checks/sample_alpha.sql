-- name: sample_alpha
-- group: judge
-- protects from: a judge that does not agree with itself when it is sampled again
-- severity: warn
-- threshold: at least 0.2
-- figure: Krippendorff's alpha (interval) between the judgements of one response, worst iteration
-- needs: scores
--
-- From each response's mean, variance and count, see judging/agreement/reliability.py; 1 is perfect, 0 is chance. NULL where all
-- scores are equal: there is nothing to disagree about.
SELECT iteration, CASE WHEN chance > 1e-9 * n * squares THEN 1 - (n - 1) * within / chance END AS figure FROM (
    SELECT iteration, sum(n_scored)::DOUBLE AS n, sum(n_scored * (score_variance + score * score)) AS squares,
        sum(n_scored)::DOUBLE * sum(n_scored * (score_variance + score * score)) - sum(n_scored * score) ** 2 AS chance,
        sum(n_scored * n_scored * score_variance / (n_scored - 1)) AS within
    FROM scores WHERE n_scored > 1 GROUP BY iteration);
SELECT 'scores' AS dataset, iteration, candidate_id AS id, score, score_variance, n_scored FROM scores
WHERE n_scored > 1 AND score_variance > 0 ORDER BY score_variance DESC, id
