-- name: chosen_longer
-- group: data
-- protects from: pairs that teach length: the chosen answer is the longer one more often than not
-- severity: warn
-- threshold: at most 0.65
-- figure: share of pairs whose chosen answer has more characters, worst iteration
-- needs: pairs
SELECT iteration, avg((length(chosen[-1].content) > length(rejected[-1].content))::INT) AS figure,
    format('{:.0f} against {:.0f} characters', avg(length(chosen[-1].content)), avg(length(rejected[-1].content))) AS detail
FROM pairs GROUP BY iteration;
SELECT 'pairs' AS dataset, iteration, pair_id AS id, length(chosen[-1].content) AS chosen_chars,
    length(rejected[-1].content) AS rejected_chars
FROM pairs WHERE chosen_chars > rejected_chars ORDER BY chosen_chars - rejected_chars DESC, id
