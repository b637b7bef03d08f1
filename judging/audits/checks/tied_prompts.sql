-- name: tied_prompts
-- group: judge
-- protects from: losing prompts because all their answers have the same reward
-- severity: warn
-- threshold: at most 0.5
-- figure: share of prompts, of those with two or more rewards, that are all tied; worst iteration
-- needs: scores
SELECT iteration, avg((lowest = highest)::INT) AS figure FROM (
    SELECT iteration, prompt_id, min(score) AS lowest, max(score) AS highest FROM scores
    GROUP BY ALL HAVING count(score) > 1) GROUP BY iteration;
SELECT 'prompts' AS dataset, iteration, prompt_id AS id, min(score) AS score, count(score) AS n_scored FROM scores
GROUP BY iteration, prompt_id HAVING count(score) > 1 AND min(score) = max(score) ORDER BY ALL
