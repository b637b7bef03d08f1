-- name: length_growth
-- group: data
-- protects from: answers that get longer with every iteration (the paper's: 1,092, 1,552, 2,552 characters)
-- severity: warn
-- threshold: at most 1.5
-- figure: mean length of the candidates over that of the iteration before, largest
-- needs: candidates
WITH means AS (SELECT iteration, avg(n_chars) AS n_chars FROM candidates WHERE finish_reason <> 'error' GROUP BY iteration)
SELECT b.iteration, b.n_chars / nullif(a.n_chars, 0) AS figure, format('{:.0f} to {:.0f} characters', a.n_chars, b.n_chars) AS detail
FROM means a JOIN means b ON b.iteration = a.iteration + 1;
SELECT 'candidates' AS dataset, iteration, avg(n_chars) AS mean_chars, median(n_chars) AS median_chars, count(*) AS n
FROM candidates WHERE finish_reason <> 'error' GROUP BY iteration ORDER BY iteration
