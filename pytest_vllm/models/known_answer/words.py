"""The 179 words of the vocabulary: sequences that everybody can continue.

After ` Monday` comes ` Tuesday`: a person sees at once whether an answer is right. 179 is a prime
on purpose: `tables` walks the words with any stride and meets each of them once.
The order is part of the checkpoint format (token ids count through it).
"""

from __future__ import annotations

__all__ = ["LISTS", "LOOPS", "UNICODE", "WORDS", "spaced"]


def spaced(line: str) -> tuple[str, ...]:
    """Split a line into words, each with the space before it, as in running text."""
    return tuple(f" {word}" for word in line.split())


# After its last word a loop starts again; nothing but max_tokens ends it.
LOOPS = (
    spaced("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    spaced("January February March April May June July August September October November December"),
    spaced("spring summer autumn winter"),
    spaced("north east south west"),
    spaced(
        "Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces"
    ),
    spaced("rat ox tiger rabbit dragon snake horse goat monkey rooster dog pig"),
    spaced("do re mi fa sol la ti"),
)

# A list ends with a full stop and then the end token: a natural stop after a known length.
LISTS = (
    spaced(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
        " sixteen seventeen eighteen nineteen twenty"
    ),
    spaced("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"),
    spaced("red orange yellow green blue indigo violet"),
    spaced(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho"
        " sigma tau upsilon phi chi psi omega"
    ),
    spaced("first second third fourth fifth sixth seventh eighth ninth tenth"),
    spaced(
        "hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium"
        " magnesium aluminium silicon phosphorus sulfur chlorine argon"
    ),
    spaced(
        "Cambrian Ordovician Silurian Devonian Carboniferous Permian Triassic Jurassic Cretaceous"
    ),
    spaced("cirrus stratus cumulus nimbus"),
    spaced("kilo mega giga tera peta exa"),
    spaced("thumb index middle ring little"),
    spaced("Africa Antarctica Asia Australia Europe"),
    spaced("solid liquid gas plasma"),
)

UNICODE = " unicode"  # its answer is the characters of `vocabulary.PIECES`

WORDS = (*(word for line in (*LOOPS, *LISTS) for word in line), UNICODE)
