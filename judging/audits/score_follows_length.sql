-- name: score_follows_length
-- group: judge
-- protects from: rewarding length: the longer answer gets the higher score whatever it says
-- severity: warn
-- threshold: at most 0.4
-- figure: size of the rank correlation (Spearman) of reward and length in characters, worst iteration
-- needs: scores, candidates
--
-- Ranks are means of ties, from counts of each value: two small tables instead of two sorts of all rows.
WITH rewarded AS (
    SELECT iteration, score, n_chars FROM scores JOIN candidates USING (iteration, candidate_id) WHERE score IS NOT NULL
), by_score AS (
    SELECT iteration, score, sum(n) OVER (PARTITION BY iteration ORDER BY score) - (n - 1) / 2.0 AS place
    FROM (SELECT iteration, score, count(*) AS n FROM rewarded GROUP BY ALL)
), by_length AS (
    SELECT iteration, n_chars, upto - (n - 1) / 2.0 AS place, (upto - n) / total < 0.1 AS shortest, upto / total > 0.9 AS longest
    FROM (SELECT iteration, n_chars, n, sum(n) OVER (PARTITION BY iteration ORDER BY n_chars) AS upto,
              sum(n) OVER (PARTITION BY iteration) AS total
          FROM (SELECT iteration, n_chars, count(*) AS n FROM rewarded GROUP BY ALL))
)
SELECT iteration, CASE WHEN isfinite(rho) THEN abs(rho) END AS figure,
    format('{:+.2f}; shortest tenth {:.2f}, longest {:.2f}', rho, of_shortest, of_longest) AS detail
FROM (
    SELECT iteration, corr(s.place, l.place) AS rho, avg(score) FILTER (shortest) AS of_shortest,
        avg(score) FILTER (longest) AS of_longest
    FROM rewarded JOIN by_score s USING (iteration, score) JOIN by_length l USING (iteration, n_chars)
    GROUP BY iteration HAVING count(DISTINCT score) > 1 AND count(DISTINCT n_chars) > 1);
-- Not rows but the ten deciles of length: how the mean reward moves with it.
SELECT 'scores' AS dataset, iteration, decile, min(n_chars) AS from_chars, max(n_chars) AS to_chars,
    avg(score) AS mean_score, count(*) AS n
FROM (SELECT iteration, score, n_chars, ntile(10) OVER (PARTITION BY iteration ORDER BY n_chars) AS decile
      FROM scores JOIN candidates USING (iteration, candidate_id) WHERE score IS NOT NULL)
GROUP BY iteration, decile ORDER BY iteration, decile
