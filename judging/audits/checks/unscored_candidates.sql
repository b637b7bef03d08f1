-- name: unscored_candidates
-- group: judge
-- protects from: prompts that lose their pair because the judge said nothing readable
-- severity: warn
-- threshold: at most 0.05
-- figure: share of candidates without a reward, worst iteration
-- needs: scores
SELECT iteration, avg((score IS NULL)::INT) AS figure FROM scores GROUP BY iteration;
SELECT 'scores' AS dataset, iteration, candidate_id AS id, n_judgements FROM scores WHERE score IS NULL ORDER BY ALL
