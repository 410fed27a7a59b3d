"""Sentences for the synthesizers: a template grammar of a design meeting, and pseudo-words.

Nothing is quoted from anywhere, so the text carries no licence.
"""

from __future__ import annotations

import numpy as np

BACK_CHANNEL_SHARE = 0.15  # one-word utterances, needed for back-channels

_ENGLISH = {
    "back_channel": "yeah;mhm;okay;right;sure;no;exactly;good point;I see;yes;oh;hmm;really;true;of course",
    "opening": "I think;maybe;so;well;as I said;to be honest;in my opinion;"
    "from what I hear;honestly;actually",
    "subject": "the remote control;our budget;the new button;this case;the battery;the user;"
    "the first prototype;"
    "the marketing team;the menu;a small display;the yellow version;the speech module;every customer;"
    "the other group;the market survey;the casing;that drawing;the second design",
    "verb": "should be;could become;will probably stay;was never;has to be;looks;is not;seems;"
    "might end up;was",
    "quality": "cheaper than last year;rather heavy;easy to lose;too expensive;a bit old fashioned;"
    "ready by Friday;"
    "good enough for children;hard to explain;much smaller;made of rubber;part of the plan;soft and round;"
    "worth trying;impossible to sell;in every shop by spring;stronger than wood",
    "tail": "and we need to decide today;if nobody minds;because people asked for it;but that costs money;"
    "so let us vote on it;when the meeting is over;unless you have a better idea;"
    "and I can show you the numbers;"
    "which surprised me;as far as I can tell",
    "question": "what do you think about;who is going to draw;did anybody test;can we drop;how much is;"
    "do we really need;when do we see",
}
_ENGLISH_PARTS = {name: phrases.split(";") for name, phrases in _ENGLISH.items()}

# Onsets, nuclei and codas of each language's pseudo-words; the scripts are those the voices expect.
_SYLLABLES = {
    "czech": ("p b t d k m n r s v z l h š č j", "a e i o u á é í", "   n k t s m l"),
    "finnish": ("p t k m n l r s h v j", "a e i o u ä ö aa ee ii uo", "   n s t l"),
    "italian": ("p b t d c g m n l r s v f", "a e i o u", "    n l r"),
    "catalan": ("p b t d c m n l r s v f g", "a e i o u", "   n s r l t"),
    "russian": ("п б т д к г м н л р с в з ж ш", "а е и о у я ю", "   н т с м л"),
    "german": ("p b t d k g m n l r s w sch f", "a e i o u au ei", "   n t s r l"),
    "spanish": ("p b t d c m n l r s v ll", "a e i o u", "    n s r"),
}


def draw_sentence(rng: np.random.Generator, language: str) -> str:
    """A sentence of a language: grammar for English, pseudo-words for the others."""
    short = rng.random() < BACK_CHANNEL_SHARE
    if language == "english":
        return _draw_english(rng, short)
    num_words = 1 if short else int(rng.integers(3, 13))
    words = [_draw_word(rng, language) for _ in range(num_words)]
    return " ".join(words) + "."


def _draw_english(rng: np.random.Generator, short: bool) -> str:
    def pick(part: str) -> str:
        return str(rng.choice(_ENGLISH_PARTS[part]))

    if short:
        return pick("back_channel") + "."
    if rng.random() < 0.2:
        return f"{pick('question')} {pick('subject')}?"
    sentence = f"{pick('subject')} {pick('verb')} {pick('quality')}"
    if rng.random() < 0.5:
        sentence = f"{pick('opening')} {sentence}"
    if rng.random() < 0.4:
        sentence = f"{sentence}, {pick('tail')}"
    return sentence + "."


def _draw_word(rng: np.random.Generator, language: str) -> str:
    onsets, nuclei, codas = (part.split(" ") for part in _SYLLABLES[language])
    num_syllables = int(rng.integers(1, 4))
    return "".join(
        str(rng.choice(onsets)) + str(rng.choice(nuclei)) + str(rng.choice(codas))
        for _ in range(num_syllables)
    )
