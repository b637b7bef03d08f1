-- name: repeated_answers
-- group: data
-- protects from: canned answers, and samples of one prompt that are all the same
-- severity: warn
-- threshold: at most 0.05
-- figure: share of candidates whose text another candidate of the iteration has, worst iteration
-- needs: candidates
SELECT iteration, coalesce(sum(n) FILTER (n > 1), 0) / sum(n) AS figure
FROM (SELECT iteration, count(*)::DOUBLE AS n FROM candidates WHERE response <> '' GROUP BY iteration, hash(response))
GROUP BY iteration;
SELECT 'candidates' AS dataset, iteration, any_value(candidate_id) AS id, count(*) AS n,
    count(DISTINCT prompt_id) AS n_prompts, response
FROM candidates WHERE response <> '' GROUP BY iteration, response HAVING count(*) > 1 ORDER BY n DESC, id
