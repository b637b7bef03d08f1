-- name: other_language
-- group: data
-- protects from: texts in another language than the configured one
-- severity: warn
-- threshold: at most 0.05
-- figure: share of texts in another script, or of 12 words and more without one of the language's commonest words
-- needs: texts, configured
-- setting: en = \b(the|and|you|that|this|with|for|are|your|it|of|to|is|a)\b
-- setting: de = \b(der|die|das|und|ist|nicht|ein|eine|mit|ich|sie|zu|den|für)\b
-- setting: fr = \b(le|la|les|et|est|une|des|dans|que|pour|vous|pas|un)\b
-- setting: es = \b(el|los|las|que|es|una|por|para|con|y|se|del|un)\b
-- setting: it = \b(il|che|di|una|per|non|sono|con|gli|è|un|della)\b
--
-- A heuristic, cheap enough for every text: it does not see a text that is partly in another language, and takes code
-- without prose for another language. Where another language than these is configured, nothing is measured. CASE, unlike
-- OR, asks in this order: blanks are counted only where no common word was found.
SELECT (SELECT count(*) FROM offending) / count(*) AS figure FROM texts, configured
WHERE lang IN ('en', 'de', 'fr', 'es', 'it');
SELECT dataset, iteration, id, part, enters_training, left(text, 300) AS text FROM texts, configured
WHERE lang IN ('en', 'de', 'fr', 'es', 'it') AND CASE WHEN strlen(text) > 1.6 * length(text) THEN true
    WHEN CASE lang
        WHEN 'en' THEN regexp_matches(text, '(?i)' || $en) WHEN 'de' THEN regexp_matches(text, '(?i)' || $de)
        WHEN 'fr' THEN regexp_matches(text, '(?i)' || $fr) WHEN 'es' THEN regexp_matches(text, '(?i)' || $es)
        ELSE regexp_matches(text, '(?i)' || $it) END THEN false
    ELSE length(text) - length(replace(text, ' ', '')) >= 11 END
