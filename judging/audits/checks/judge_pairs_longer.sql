-- name: judge_pairs_longer
-- group: data
-- protects from: pairs that teach the judge length: the chosen judgement is the longer one more often than not
-- severity: warn
-- threshold: at most 0.65
-- figure: share of pairs whose chosen judgement has more characters, worst iteration
-- needs: judge_pairs
SELECT iteration, avg((length(chosen[-1].content) > length(rejected[-1].content))::INT) AS figure,
    format('{:.0f} against {:.0f} characters', avg(length(chosen[-1].content)), avg(length(rejected[-1].content))) AS detail
FROM judge_pairs GROUP BY iteration;
SELECT 'judge_pairs' AS dataset, iteration, judge_pair_id AS id, length(chosen[-1].content) AS chosen_chars,
    length(rejected[-1].content) AS rejected_chars
FROM judge_pairs WHERE chosen_chars > rejected_chars ORDER BY chosen_chars - rejected_chars DESC, id
