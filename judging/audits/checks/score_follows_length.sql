-- name: score_follows_length
-- group: judge
-- protects from: rewarding length: the longer answer gets the higher score whatever it says
-- severity: warn
-- threshold: at most 0.4
-- figure: size of the rank correlation (Spearman) of reward and length in characters, worst iteration
-- needs: scores, candidates
--
-- Ranks are means of ties. Everything comes from how often each score and length occur together: a small table instead
-- of two sorts of all rows. The mean of n ranks is (n + 1) / 2.
WITH cells AS MATERIALIZED (
    SELECT iteration, score, n_chars, count(*) AS n FROM scores JOIN candidates USING (iteration, candidate_id)
    WHERE score IS NOT NULL GROUP BY ALL
), by_score AS (
    SELECT iteration, score, sum(n) OVER (PARTITION BY iteration ORDER BY score) - (n - 1) / 2.0 AS place
    FROM (SELECT iteration, score, sum(n) AS n FROM cells GROUP BY ALL)
), by_length AS (
    SELECT iteration, n_chars, upto - (n - 1) / 2.0 - (total + 1) / 2.0 AS place, (total + 1) / 2.0 AS middle,
        (upto - n) / total < 0.1 AS shortest, upto / total > 0.9 AS longest
    FROM (SELECT iteration, n_chars, n, sum(n) OVER (PARTITION BY iteration ORDER BY n_chars) AS upto,
              sum(n) OVER (PARTITION BY iteration) AS total
          FROM (SELECT iteration, n_chars, sum(n) AS n FROM cells GROUP BY ALL))
)
SELECT iteration, abs(rho) AS figure,
    format('{:+.2f}; shortest tenth {:.2f}, longest {:.2f}', rho, of_shortest, of_longest) AS detail
FROM (
    SELECT iteration, sum(n * (s.place - middle) * l.place)
            / sqrt(sum(n * (s.place - middle) ** 2) * sum(n * l.place ** 2)) AS rho,
        sum(n * score) FILTER (shortest) / sum(n) FILTER (shortest) AS of_shortest,
        sum(n * score) FILTER (longest) / sum(n) FILTER (longest) AS of_longest
    FROM cells JOIN by_score s USING (iteration, score) JOIN by_length l USING (iteration, n_chars)
    GROUP BY iteration HAVING count(DISTINCT score) > 1 AND count(DISTINCT n_chars) > 1);
-- Not rows but the ten deciles of length: how the mean reward moves with it.
SELECT 'scores' AS dataset, iteration, decile, min(n_chars) AS from_chars, max(n_chars) AS to_chars,
    avg(score) AS mean_score, count(*) AS n
FROM (SELECT iteration, score, n_chars, ntile(10) OVER (PARTITION BY iteration ORDER BY n_chars) AS decile
      FROM scores JOIN candidates USING (iteration, candidate_id) WHERE score IS NOT NULL)
GROUP BY iteration, decile ORDER BY iteration, decile
