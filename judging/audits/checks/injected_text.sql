-- name: injected_text
-- group: judge
-- protects from: score-begging and other text meant for the judge or the chat template, in anything an answer says
-- severity: warn
-- threshold: at most 0.005
-- figure: share of answers with such text
-- needs: texts
-- setting: tags = </?response>|<\|[a-z_]+\|>|\[/?INST\]|<<SYS>>|\{\{ ?(instruction|response|output)
-- setting: begs = \bscore: ?[0-5](/5)?\b|\b(give|award|rate|grade|score) (me|this|it|my|the) (answer |response |reply )?(a |the )?(5|five|full|perfect|maximum|highest)\b
-- setting: orders = \b(ignore|disregard|forget) (all |any )?(of )?(the |your )?(previous|prior|above|earlier) (instructions|prompts?|rules)\b|\b(dear|note to the|attention) (judge|grader|evaluator)
SELECT (SELECT count(*) FROM offending) / count(*) AS figure FROM texts WHERE part IN ('response', 'chosen', 'rejected') AND dataset <> 'judge_pairs';
SELECT dataset, iteration, id, part, enters_training,
    regexp_extract(text, '(?i).{0,40}(' || $tags || '|' || $begs || '|' || $orders || ').{0,40}') AS found
FROM texts WHERE part IN ('response', 'chosen', 'rejected') AND dataset <> 'judge_pairs'
    AND regexp_matches(text, '(?i)' || $tags || '|' || $begs || '|' || $orders)
