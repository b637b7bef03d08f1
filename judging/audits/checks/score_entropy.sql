-- name: score_entropy
-- group: judge
-- protects from: a judge that uses so few scores that most answers look alike
-- severity: warn
-- threshold: at least 0.8
-- figure: entropy of the scores in bits (six equally common scores: 2.58), worst iteration
-- needs: judgements
SELECT iteration, entropy(score) AS figure FROM judgements WHERE score IS NOT NULL GROUP BY iteration;
SELECT 'judgements' AS dataset, iteration, score, count(*) AS n FROM judgements WHERE score IS NOT NULL
GROUP BY ALL ORDER BY ALL
