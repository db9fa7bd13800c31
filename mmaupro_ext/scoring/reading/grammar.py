"""The words and phrases by which a sentence says that an option is, or is not, the answer.

Patterns are for skeletons (see `statements`): small letters, one space between words, no line
breaks inside a sentence, and one sign in the place of each option. Patterns made by `_left` end
where a sign begins, patterns made by `_right` begin where it ends; both are tried on contexts of
bounded length.
"""

from __future__ import annotations

import re

# Signs of the skeleton: an option's text, a bare letter, a letter set off by brackets or by its
# text, and a word such as "yes" that is an option but is common elsewhere.
TEXT, LETTER, SET_OFF, COMMON = "\ue000", "\ue001", "\ue002", "\ue003"
X = "[\ue000-\ue003]"


def _left(pattern: str) -> re.Pattern[str]:
    return re.compile(f"(?:{pattern})$")


def _right(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"[\"')\]]*(?:{pattern})")


# --- words ---------------------------------------------------------------------------------------

_ANSWER = (
    "answers?|choice|option|letter|response|selection|guess|prediction|solution|verdict|pick|"
    "conclusion|result|ans|(?:best|closest)(?: (?:match|fit|candidate|one))?|"
    "(?:correct|right|the) one|antwort|lösung|respuesta|opción|solución|resposta|opção|risposta|"
    "opzione|réponse|antwoord|keuze|odpowied[zź]|cevap|svar(?:et)?|ответ|вариант|"
    "corrett?[oa]|correcto|jawaban(?:nya)?|câu trả lời|đáp án|vastaus"
)
_ANSWER_CJK = (
    "答案|正解|解答|答え|选项|選項|选择|選擇|应选|選|选|正确|"
    "정답|답|उत्तर|विकल्प|ค\u0e4d\u0e32ตอบ|الإجابة|الجواب"
)
_BE = (
    "is|are|was|(?:would|should|must|will|has to|can only|seems? to|appears? to) be|remains|"
    "becomes|ist|lautet|wäre|es|est|é|è|är|это|sería|serait|sarebbe|sia|seja|sea|adalah|là"
)
_ADVERB = (
    "most likely|very likely|likely|probably|possibly|perhaps|maybe|presumably|clearly|definitely|"
    "certainly|obviously|simply|therefore|thus|indeed|actually|again|surely|really|in fact|"
    "overall|just|now|still|more like|closest to|best described as"
)
# Words and marks that may stand between a formula and its option.
_FILL = (
    rf"(?:[ \"'(\[{{<:=>~|\-–—→,、]|\b(?:{_ADVERB}|the|an?|options?|choices?|letter|number|answer|"
    "either|both|only|between|to be|it's|it is|that|that's|as|opción|opção|opzione|buchstabe|lettre|"
    r"letra|lettera|вариант|la|le|el|die|der|das|o)\b|选项|選項){0,12}"
)
_CHOOSE = (
    "(?:choose|pick|select|say|go(?:ing)? (?:with|for|to (?:say|choose|pick|select|go with))|"
    "opt for|vote for|settle (?:on|for)|lean(?:ing)?(?: (?:towards?|to))?|think|believe|guess|"
    "suppose|bet on|"
    "answer|conclude|prefer|choosing|picking|selecting|chose|went with|stick(?:ing)? with|"
    "wähle|nehme|elijo|choisis|scelgo)(?: that)?"
)
_THINKING_AGAIN = (
    "wait|sorry|apologies|actually|oops|whoops|hmm+|correction|scratch that|or rather|rather|nope|"
    "on (?:second thoughts?|reflection)|i mean(?:t)?|make that|"
    "(?:thinking|listening|looking|hearing) (?:again|about it|closely)"
)
_CONCLUDING = (
    "overall|specifically|namely|more precisely|to be precise|in particular|on the whole|"
    "all in all|in the end|finally|in conclusion|to conclude|after all"
)
# What may stand before an option that is the whole of its sentence.
_LEAD = (
    rf"(?:{_THINKING_AGAIN}|{_CONCLUDING}|{_ADVERB}|no doubt|without (?:a )?doubt|not at all|so|"
    "thus|hence|therefore|then|sure|okay|ok|yes|yeah|of course|final|conclusion|no|instead|"
    "my (?:mistake|bad)|um+|uh+|well|ah|oh|if i (?:had|have) to \\w+|if forced(?: to \\w+)?|"
    "(?:(?:my|best|final|correct) ){0,2}(?:guess|answer|choice|option)|but|and|"
    "(?:must|should|has to) be|(?:it )?(?:looks|sounds|seems|feels|appears) (?:like|to be)|"
    rf"assistant|model|i(?:'d|'ll| would| will)? {_CHOOSE})"
)
_NOT = (
    r"(?:\bnot\b(?! (?:sure|certain|only|entirely))|n't\b(?! (?:be )?(?:sure|certain))|"
    r"\bcannot\b(?! be (?:sure|certain))|\bno\b(?! (?:doubt|wait|problem|question))|"
    r"\bwithout\b(?! (?:a )?doubt)|\bnon-|\b(?:never|hardly|scarcely|barely|far from|"
    "neither|nor|rather than|instead of|as opposed to|other than|apart from|except|excluding|"
    "rul(?:e|es|ed|ing) out|"
    r"rul\w+ \w+ out|eliminat\w+|exclud\w+|discard\w*|reject\w*|unlike|compared (?:to|with)|"
    r"wrong|incorrect|worst|false|impossible|unlikely|least \w+|lacks?|lacking|nicht|keine?\w*|"
    r"no es|pas|não|non|не|niet|değil)\b|不是|並非|并非|ではなく|아니라)"
)
_REASON = (
    r"\b(?:because|since|as|due|given|based|which|where|over|not|rather|instead|unlike|though|"
    r"although|whereas|while)\b"
)
_RIGHT_WORD = (
    "correct|right|best|answer|choice|likely|appropriate|accurate|suitable|fitting|one|richtig|"
    "correcta?|bonne|la (?:respuesta|réponse|risposta|bonne)|a resposta|die (?:\\w+ )?antwort"
)

# --- the shape of a sentence ---------------------------------------------------------------------

SENTENCE_END = re.compile(r"(?:\.{2,}|[.!?。！？]+(?=[\s\"')\]]|$)|[。！？])[\"')\]]*|\n\s*")
NO_SENTENCE_END = re.compile(r"\b(?:e\.g|i\.e|vs|dr|mr|mrs|ms|approx)\.$")
CLAUSE_END = re.compile(
    r"[;,:，、；]|\b(?:but|however|yet|so|therefore|thus|hence|sondern|sino|mais)\b|而是"
)
TURN = re.compile(r";|\b(?:but|however|yet|so|therefore|thus|hence)\b")
LINK = re.compile(
    r"(?:[.!?。]?[\"')\]]* ?(?=(?:and|or)\b)| ?[\"')\]]* ?)"
    r"(?:,|/|&|\+|\||、|和|或|与|\b(?:and|or|und|oder|ou|et|y|o|e|vs\.?|versus|as well as|plus)\b)?"
    r"(?: ?\b(?:and|or|maybe|perhaps|possibly|also|both|option|choice|even|the|an?)\b)*"
    r" ?[\"'(\[]*",
    re.IGNORECASE,
)
# "B and A is wrong": the second option begins a clause of its own.
NEW_CLAUSE = re.compile(
    r"[\"')\]]*\s*(?:is|was|isn't|wasn't|seems|can't|cannot|would|could|might|may)\b"
)
_MARKS = r"[\s.,;:!?\"')\]}>›|~/\\#@$%&\x00。！）、…–—-]*"
_TRAIL = (
    "(?:,? ?(?:i (?:think|guess|believe|suppose|would say|reckon)|i'd say|probably|perhaps|maybe|"
    r"in my opinion|for sure|definitely|please|though|then|instead|here|"
    r"final(?: answer)?)\b| ?(?:है|です|だ|입니다))?"
)
ALONE = _left(rf"^[ \"'(\[{{<‹>=|/\\#@$&∴–—-]*(?:{_LEAD}\b[ ,:;.!–—-]*){{0,6}}{_FILL}")
UNSAID = _left(r"^\W*(?:(?:the|an?|options?|choices?)\b\W*)*")
ENDS = re.compile(rf"{_MARKS}{_TRAIL}{_MARKS}$")
CLOSES = re.compile(r"(?: [^\W\d_]+){0,3}[\"')\]]* ?(?:$|[.,;:!?()–—]|- )")
REASONS = _right(rf" ?[,(]? ?{_REASON}")
BECAUSE = _right(r" ?,? ?(?:because|since|due)\b")
AFTER = _right(rf" ?(?:[,;.(]|{_REASON})")
OPENS = _right(rf" ?(?:[:;(#]|//|[–—-]+ |=|, |{_REASON})")

# --- statements ----------------------------------------------------------------------------------

FORMULA = _left(
    rf"(?:(?:\b|_)(?:{_ANSWER})\b[\"')\]]*(?:[ ,]+(?!(?:{_BE})\b)[^\W\d_\ue000-\ue003][\w']*){{0,8}}?"
    rf"[ ,]*(?:\b(?:{_BE})\b|[:=]|[-–—]+>?|→) ?|"
    rf"(?:{_ANSWER_CJK})[^.。;!?\ue000-\ue003]{{0,14}}?|(?:^|[,，。; ])(?:应该|應該)?是|"
    rf"\banswer's |\bc'est|\bes ist|\bhet is|\bodpowied[zź] to\b|\brichtig (?:ist|wäre)){_FILL}"
)
DIRECT = _left(
    r"\b(?:answer|ans|antwort|réponse|respuesta|resposta|risposta|antwoord|cevap|svar|"
    rf"odpowied[zź]|ответ|вариант|jawaban(?:nya)?|đáp án)\b[\]\"':* )]*{_FILL}"
)
CHOOSES = _left(
    rf"(?:\bi(?:'d|'ll|'m| would| will| have to| am| must)? (?:have to |\w+ )?|^|[,;:] ?|"
    rf"\b(?:so|and|but|ich|yo|je|io) ){_CHOOSE}(?: it(?:'s| is))? {_FILL}"
)
SO = _left(
    r"(?:^|[ ,;:(–—-])(?:so|thus|hence|therefore|ergo|which means|meaning|i\.e\.,?|overall)\b"
    rf"[,:]? ?(?:it's |it (?:is|must be) )?{_FILL}"
)
CORRECTS = _left(
    rf"(?:^|[,;:.!(–—-]|{X}|\b(?:but|and|or)\b) ?(?:(?:{_THINKING_AGAIN}|{_CONCLUDING}|"
    rf"no(?= ?[,;:.!–—-]| wait))\b[ ,:;.!–—-]*){{1,4}}(?:it's |it is )?{_FILL}"
)
BUT = _left(rf"\bbut {_FILL}")
NOT_BUT = _left(
    rf"{_NOT}[^.;!?]{{0,60}}?(?:\bbut (?:rather )?(?:it's |it is )?|\bsondern |\bsino (?:que )?|"
    rf"\bmais |, ?es |而是|[,，] ?是){_FILL}"
)
CHANGES_TO = _left(
    rf"\b(?:chang|switch|revis|correct)\w*\b(?:[^.;!?]{{0,40}}\bfrom)? {_FILL}{X} to {_FILL}"
)
EQUALS = _left(rf"(?:\d ?=|\b(?:makes?|equals?|totals?|total of|adds up to)) ?{_FILL}")
CONTRARY = _left(
    rf"^ ?(?:rather than|instead of|though|although|while|even if)\b[^,]{{0,80}}, ?{_FILL}"
)
GIVES = _left(rf"(?:[:;]|[-=]>|→|⇒) ?{_FILL}")
GOES_THROUGH = re.compile(r"\b(?:options?|choices?|each|consider\w*|candidates?|possibilities)\b")
AFTER_COMMA = _left(rf", ?(?:(?:but|so|and|then) )?{_FILL}")
POINTS = _left(
    r"\b(?:points? to|pointing to|indicat(?:es?|ing)|suggest(?:s|ing)?|corresponds? to|"
    r"consistent with|match(?:es|ing)?|shows?|fits|supports?|favou?rs?|maps? to|in line with|leaves|leaving) "
    + _FILL
)
VERDICT = _right(
    r" ?(?:\([^)]{0,60}\) ?)?(?:is|was|seems|would be|appears to be|must be|should be|looks|"
    rf"sounds|remains|ist|es|est) (?:(?:{_ADVERB}|also|then) )*(?:the |my )?"
    rf"(?:(?:only|best|single|final) )?(?:(?:most|more) \w+|{_RIGHT_WORD})\b|"
    r" (?:fits|matches|describes|captures) (?:\w+ ){0,3}best\b| makes (?:the )?most sense\b|"
    r" (?:fits|works|applies)(?: here)? ?$| (?:is|fits|seems|matches) (?:\w+ )?better\b| is obvious\b|"
    rf" beats {X}|"
    r" best (?:describes|fits|matches|explains|captures|represents)\b| is it\b| it is(?: ?[.,!;]|$)|"
    r" ?[:–—-]+ ?(?:[^.;!?]{0,40}[,–—-] ?)?(?:yes|correct|true|this (?:matches|fits|is (?:correct|"
    rf"right|it)))\b| ?[>≻] ?{X}| ?(?:选项|選項)? ?是?(?:正确|正確|对的|最)| ?が正解| ?(?:选项|選項)$"
)
IS_X = _left(rf"(?<!options )(?<!choices )\b(?:is|are|was|were|be) {_FILL}")
IS = re.compile(r" is ?$")
SURELY = re.compile(
    r" (?:indeed|of course|absolutely|way|it (?:is|does|can|was|did|has)(?:n't| not)?) ?(?:[,.;!]|$)"
)
OTHERS_WRONG = re.compile(rf"{X} (?:is|are) (?:both |all )?(?:wrong|incorrect|not)\b")
BOTH = re.compile(
    r" (?:of (?:them|these|those|the \w+)\b|(?:are|is|were|was) (?:true|correct|right|present|heard|valid)\b|"
    r"(?:speak|talk|laugh|sing)s?\b)"
)
NOUN_BEFORE = _left(
    r"\b(?:speaker|plan|vitamin|person|group|section|part|track|voice|singer|team|type|class|grade|"
    "hepatitis|note|key|chord|string|side|channel|theme|verse|block|model|step|question|figure|"
    "key of|in) "
)

# --- claims --------------------------------------------------------------------------------------

COPULA = _left(
    r"(?:^|[,;:.(–—-]|\b(?:but|so|and|that|think|then|actually|because|say|sure|confident|certain|"
    r"convinced|positive) ) ?(?:it's|it (?:is|was|(?:must|would|should|has to|seems to|appears to) "
    r"be|(?:looks|sounds|seems|feels) like)|that's|that (?:is|would be)|this (?:is|must be)) "
    + _FILL
)
TRUTH = _left(rf"\b(?:(?:(?:the|this|that) (?:\w+ )?|it )is|it would be) {_FILL}")
CONTRASTS = _left(rf"\bbut\b[^.;!?]{{0,60}}\b(?:is|are|was|were|sounds?|seems?) {_FILL}")
TIMES = re.compile(
    r"\b(?:first|then|later|ends?|starts?|begins?|beginning|eventually|before|after|next|followed)\b"
)
HEDGED_LEFT = _left(rf"\b(?:might|may|could|can) (?:also |well |possibly )?be {_FILL}")
HEDGED_RIGHT = _right(
    r" ?(?:(?:is|seems|looks|sounds|appears|remains) (?:\w+ )?(?:possible|plausible|conceivable|"
    r"an option|a (?:possibility|candidate))|(?:might|could|may) (?:also )?be)\b"
)
MAYBE = re.compile(r"\b(?:maybe|perhaps|possibly)\b")
CONCEDES = re.compile(r"\b(?:although|though|whereas|even if|despite)\b")

# --- what rejects --------------------------------------------------------------------------------

NEGATES = re.compile(_NOT)
SUPPOSES = re.compile(
    r"\b(?:if(?! (?:i (?:had|have) to|forced))|whether|unless|(?<!i )suppos(?:e|ing)|assum(?:e|ing)|"
    r"initial|first (?:thought|guess|impression|instinct|choice)|(?:you|one|we|some|many|people) "
    r"(?:\w+ )?(?:might|could|may|would) (?:\w+ )?(?:think|expect|assume|suspect|believe|say)|"
    r"(?:may|might|could) (?:at first )?(?:seem|appear|sound)|thought|consider(?:ed|ing)?|suspected|"
    r"tempted|tempting|doubt\w*|(?:was|were) (?:going|about) to|would have \w+|almost|nearly|"
    r"torn between|confus\w+|mistak\w+)\b"
)
AT_FIRST = re.compile(r"\b(?:at first(?: glance)?|initially|originally)\b")
ALL_BUT = _left(r"\b(?:anything|everything|anyone|all|any \w+) (?:but|except) (?:the |an? )?")
BOUNDS = _left(r"\b(?:over|under|above|below) ")
OVER = _left(
    rf"(?:\b(?:at most|at least|minus|up to)|{X}[^.;,!?]{{0,20}} over|\bthan|\bless|\bleast) {_FILL}"
)
RULING_OUT = re.compile(
    r"\b(?:rul(?:e|es|ed|ing)|exclud\w+|eliminat\w+|discard\w*)\b[^.;!?\ue000-\ue003]*$"
)
WRONG_ANSWER = re.compile(
    r"\b(?:(?:wrong|incorrect|worst|false|bad|unlikely|least \w+|possible|second|next|other|another|"
    r"alternative|previous) (?:answer|option|choice|guess|one|candidate)s?|runner-?up|"
    r"alternatives?|(?:close|distant|good) second)\b[^.;,!?]*$"
)
# "If it is a kettle, choose A."
CONDITION = re.compile(r" ?if\b(?! (?:i|forced|pressed|you ask)\b)")
# "A would need a rising pitch", "option A says that it is rising".
SPEAKS_OF = re.compile(
    rf"{X} (?:(?:would|should) (?!be (?:the )?(?:correct|right|best))|(?:says|states|claims|reads|"
    r"means|implies|describes|refers)\b)"
)
RULED_OUT = _right(
    r" ?(?:\([^)]{0,60}\) ?)?(?:option |choice )?"
    r"(?:(?:is|are|was|were|can|could|would|may|does|do|did|seems?|looks?|sounds?|must|has|have) ?"
    r"(?:all |both )?(?:be )?(?:also |clearly |definitely |probably |simply )?"
    r"(?:not\b|n't|incorrect|wrong|(?:been )?(?:ruled|excluded|eliminated)|unlikely|impossible|"
    r"out\b|less\b|the least|absent|false\b|inconsistent|incompatible|tempting)|"
    r"(?:can't|isn't|aren't|doesn't|don't|wouldn't|won't|wasn't|cannot|never)\b)|ではな|不是|不对|"
    r" (?:dozen|hundred|thousand|million)\b|"
    r"[^.;!?]{0,30}\bbut (?:it )?(?:isn't|is not|is wrong|it's not|i(?:'m| am) not convinced)\b|"
    r" ?[:–—-]+ ?(?:[^.;!?]{0,40}[,–—-] ?)?(?:no|wrong|incorrect|nope) ?(?:[,.;!)]|$)"
)
COUNTERFACTUAL = _right(
    r" ?(?:would|should) (?!be (?:the |my )?(?:most |best )?(?:correct|right|best|answer|likely|"
    "choice|appropriate|logical|guess))"
)
ONLY_IF = re.compile(r"[^.;,!?]{0,60}?\b(?:at first|initially|if\b(?! (?:i\b|forced))|only if)\b")
WOULD = re.compile(r"\bwould\b")
# "It gets louder, then softer."
THEN = _right(r" ?,? ?(?:and )?(?:then|later|afterwards?|after that|followed by)\b")
# "Calm her": the option's text is a verb here.
OBJECT = re.compile(r" (?:her|him|them|me|us|you)\b")

# --- whole replies -------------------------------------------------------------------------------

REFUSES = re.compile(
    r"\b(?:can(?:no|')t|cannot|can\s+not|unable|could\s*n[o']t|impossible|difficult|hard)\b"
    r"[^.!?\n]{0,120}?\b(?:tell|determine|say|hear|listen|identify|process|know|answer|help|access|"
    r"decide|certain|play|provide|judge|confirm)|"
    r"\b(?:do\s*n[o']t|don't)\s+(?:know|have\s+(?:access|enough))\b|"
    r"\bnot\s+(?:enough|sufficient|possible|able|sure|clear|listed|given|among)\b|"
    r"\binsufficient\b|\bunclear\b|\bno\s+audio\b|\bsorry\b|\bapologi[sz]e\b|\bas\s+an\s+ai\b|"
    r"\bplease\s+(?:provide|share|upload)\b|\bwould\s+not\s+say\b",
    re.IGNORECASE,
)
HEARS = re.compile(r"\b(?:hear|listen|identify)$", re.IGNORECASE)
THINKS_ALOUD = re.compile(
    r"\s*(?:let me|let's|first(?:ly)?,|first of all|step 1|to (?:answer|determine|find|solve)|"
    r"we need|i (?:need|will|must)\b|okay,|alright|thinking|looking at|consider)"
)
POLITE = re.compile(
    r"\s*(?:sure|certainly|of course|i'm (?:happy|glad)|thank|hello|hi|great question|okay)\b[^.:]*$"
)
RETRACTS = re.compile(
    r"[\s\"']*(?:(?:but|and|actually|however|so|no)\b[ ,]*){0,2}(?:wait|hold on|hmm+|oops|"
    r"scratch that|on second thoughts?|no, (?:wait|that)|let me (?:re[\w-]+|check|listen|think|look|"
    r"verify|double|hear|try)|or (?:is|was|could) it)\b"
)
# Idioms with words that are options in some questions.
IDIOM = re.compile(
    r"\b(?:(?:you(?:'re|\s+are)|that's|all)\s+right|right\s+(?:now|after|before|away|at|on)|"
    r"(?:happy|glad)\s+to|no\s+(?:problem|doubt|worries|question)|sounds?\s+good|other\s+than|"
    r"on\s+the\s+other|all\s+(?:in\s+all|of\s+a))\b",
    re.IGNORECASE,
)
