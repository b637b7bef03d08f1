-- name: one_judging_setup
-- group: contract
-- protects from: rewards of two judges or templates in one comparison
-- severity: fail
-- needs: scores
SELECT 'scores' AS dataset, * FROM (
    SELECT iteration, judge, template, judge_mode, count(*) AS n_candidates FROM scores GROUP BY ALL)
QUALIFY count(*) OVER (PARTITION BY iteration) > 1
