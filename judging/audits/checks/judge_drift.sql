-- name: judge_drift
-- group: judge
-- protects from: a judge whose scale moves from iteration to iteration: the same response is worth more by and by
-- severity: warn
-- threshold: at most 0.75
-- figure: change of the mean score of the same held-out responses from one model to the next, in points; largest
-- needs: judge_eval
--
-- From M1 on: that M1 judges differently from M0 is what EFT is for.
SELECT iteration, abs(avg(score - score_before)) AS figure,
    format('{:+.2f} on {} responses', avg(score - score_before), count(*)) AS detail
FROM offending GROUP BY iteration;
WITH means AS (
    SELECT iteration, response_id, avg(score) AS score FROM judge_eval WHERE iteration > 0 GROUP BY ALL HAVING count(score) > 0
)
SELECT 'judge_eval' AS dataset, b.iteration, b.response_id AS id, a.score AS score_before, b.score
FROM means a JOIN means b ON b.response_id = a.response_id AND b.iteration = a.iteration + 1
ORDER BY abs(b.score - a.score) DESC, id
