"""A small grammar of simple English stories, the corpus of the sample model.

The stories are made so that a model of them has to look back: a verb fits a subject
which stands far before it, "it" is the animal or the place depending on the word that
follows, "he" and "she" are the man and the woman of the sentence before, a bank is by the
river or has money, names and things come back later, and songs and sayings recur word
for word.

    python samples/stories.py --seed 1 --stories 5
"""

from __future__ import annotations

import argparse
import random
import re

HE = ["Tom", "Ben", "Jack", "Sam", "Max", "Peter", "Paul", "Leo", "Oscar", "Henry"]
SHE = ["Anna", "Mia", "Lucy", "Emma", "Sara", "Kate", "Nora", "Rose", "Alice", "Ella"]

# fmt: off
# Persons without a name, he and she, and what both of them do. What tells a king from a queen
# is the same as what tells a man from a woman, and so on down.
RANKS: dict[tuple[str, str], list[str]] = {
    ("king", "queen"): ["wore {his} golden crown", "sat on {his} throne", "ruled {his} land",
                        "called {his} soldiers"],
    ("prince", "princess"): ["rode {his} white horse", "wore {his} little crown",
                             "played in {his} castle"],
    ("man", "woman"): ["wore {his} old hat", "worked in {his} field", "sold {his} bread",
                       "cleaned {his} small house"],
    ("boy", "girl"): ["learned in {his} school", "threw {his} ball in the park",
                      "walked in the park with {his} dog"],
    ("father", "mother"): ["made soup for {his} children", "told {his} children a story",
                           "looked for {his} children"],
}
SORTS = {"king": "man", "queen": "woman", "prince": "boy", "princess": "girl", "man": "father",
         "woman": "mother", "boy": "child", "girl": "child", "father": "man", "mother": "woman"}
# What an animal does: past, base form, the place or thing, and what may be wrong with that.
Act = tuple[str, str, str, str]
ACTS: dict[str, list[Act]] = {
    "cat": [("sat on", "sit on", "mat", "wet dirty cold"), ("sat on", "sit on", "mat", "wet cold"),
            ("slept on", "sleep on", "roof", "wet steep")],
    "dog": [("ran through", "run through", "park", "dark closed crowded"),
            ("ran through", "run through", "park", "closed muddy"),
            ("waited at", "wait at", "gate", "crowded dirty")],
    "bird": [("flew over", "fly over", "lake", "wide frozen"),
             ("sang in", "sing in", "tree", "wet crowded")],
    "horse": [("jumped over", "jump over", "fence", "high wide"),
              ("galloped across", "gallop across", "field", "muddy wide")],
    "duck": [("swam in", "swim in", "pond", "frozen dirty cold")],
    "mouse": [("hid in", "hide in", "hole", "wet dark")],
    "bear": [("climbed", "climb", "hill", "steep high muddy")],
    "fox": [("crept into", "creep into", "wood", "dark cold")],
    "pig": [("rolled in", "roll in", "mud", "cold frozen")],
    "goat": [("stood on", "stand on", "rock", "steep high wet")],
    "cow": [("grazed in", "graze in", "meadow", "muddy frozen")],
    "frog": [("hopped into", "hop into", "water", "deep cold dirty")],
    "animal": [("walked along", "walk along", "road", "muddy dark crowded")],
}
CROSSINGS = {"street": "wide wide busy dark", "river": "deep wide frozen",
             "bridge": "narrow high closed"}
WALKERS = ["animal", "animal", "animal", "animal", "cat", "dog", "horse", "bear", "fox", "pig",
           "goat", "cow"]
# "because it was <mood>": the animal. What follows speaks of the animal.
MOODS = {
    "tired": ["The {beast} lay down and rested.", "The {beast} closed its eyes and slept.",
              "It lay down and rested."],
    "hungry": ["The {beast} went to look for food.", "The {beast} ate some bread.",
               "It ate some bread."],
    "afraid": ["The {beast} shook and turned back.", "The {beast} stayed close to {n1}."],
    "ill": ["The {beast} needed a doctor.", "The {beast} stayed in bed for two days."],
    "lazy": ["The {beast} did nothing all day.", "The {beast} yawned and did not move."],
}
# "because it was <fault>": the place. What follows speaks of the place.
FAULTS = {
    "wide": ["The {spot} seemed to have no end.", "The walk to the other side was long.",
             "The other side was far away."],
    "busy": ["The {spot} was full of cars.", "The cars did not stop."],
    "dark": ["The {spot} had no light.", "Nobody could see a thing there."],
    "wet": ["The {spot} had been out in the rain.", "The rain had not stopped all night."],
    "dirty": ["The {spot} had not been cleaned for a week.", "Nobody had cleaned it."],
    "cold": ["The {spot} was like ice.", "The winter had come early."],
    "closed": ["The {spot} would open again in the morning.", "Nobody had the key."],
    "crowded": ["The {spot} was full of people.", "There was no room left."],
    "muddy": ["The {spot} was brown and soft after the rain.", "Every step was slow."],
    "steep": ["The {spot} was hard to climb.", "Nobody could stand there."],
    "high": ["The {spot} was as tall as a house.", "The top was in the clouds."],
    "deep": ["The {spot} had no ground to stand on.", "Nobody could see the ground."],
    "narrow": ["The {spot} had no room for two.", "There was no room to turn."],
    "frozen": ["The {spot} was hard as stone.", "The ice did not melt until spring."],
}
NOUNS = ["ball", "kite", "book", "key", "hat", "cup", "coin", "ring", "drum", "boat", "lamp",
         "doll", "basket", "shell"]
ADJECTIVES = ["red", "blue", "green", "old", "small", "big", "golden", "yellow", "round", "broken"]
PLACES = ["house", "garden", "river", "barn", "school", "tree", "mill", "church", "well", "shop",
          "castle", "tower"]
SYLLABLES = ["la", "dum", "tra", "fa", "bim", "bam", "hey", "ho", "ding", "dong", "lee", "loo",
             "pom", "tum"]

# Fresh draws: <name> is replaced by one of these each time it occurs.
DRAWS: dict[str, list[str]] = {
    "adj": ADJECTIVES, "noun": NOUNS, "place": PLACES,
    "when": ["yesterday", "today", "last night", "in the morning", "in the evening", "on Sunday"],
    "at": ["near", "behind", "in front of", "beside"],
    "rel": ["<short>", "<short>", "<medium>", "<long>"],
    "short": ["that I saw yesterday", "that I saw yesterday", "that {n1} saw <when>",
              "that the {other} chased", "that chased the {others}", "<at> the <place>s",
              "<at> the <place>", "that {n1} had found", "that {n1} did not know"],
    "medium": ["that I saw yesterday <at> the <place>", "that {n1} met <at> the <place>s <when>",
               "that the {others} chased around the <place>", "that followed {n1} to the <place>",
               "that did not like the {others} <at> the <place>"],
    "long": ["that {n1} and {n2} saw <at> the <place>s on the way home <when>",
             "that the {other} and the {others} chased around the <place> <when>",
             "that chased the {others} and the {other} from the <place> to the <place>",
             "that {n1} wanted to show to {n2} and to the friends of {n3} <when>"],
    "was": ["was", "was", "was not"], "were": ["were", "were", "were not"],
    "kind": ["good", "kind", "rich", "poor"],
    "shore": ["green", "soft", "wet", "muddy", "steep"], "counter": ["open", "closed", "rich",
                                                                     "safe", "crowded"],
    "look": ["happy", "hungry", "tired", "old", "small", "big", "black", "white", "brown",
             "sad", "very quiet"],
}
OPENINGS = [
    "The {beast} {past} the {spot}.", "The {beast} that I saw yesterday {past} the {spot}.",
    "The {beast} <rel> {past} the {spot}.", "The {beast} <rel> {past} the {spot}.",
    "One day the {beast} <rel> {past} the {spot}.",
    "The {beast} did not {base} the {spot}. It {past} the {spot} the day before.",
    "The {beasts} {past} the {spot}. They were <look>.",
    "The {beasts} <rel> {past} the {spot}. They were <look>.",
    "The {beast} {past} the {spot}. It was <look>.", "The {beast} {past} the {spot} <when>.",
]
CAUSES = [
    "The {beast} did not {base} the {spot} because it was {why}. {then}",
    "The {beast} did not {base} the {spot} because it was {why}. {then}",
    "The {beast} <rel> did not {base} the {spot} because it was {why}. {then}",
    'The {beast} could not {base} the {spot}. "Why?" asked {n1}. "Because it is {why}," '
    "said {n2}. {then}",
]
NUMBERS = [
    "The {beast} <rel> <was> <look>.", "The {beast} <rel> <was> <look>.",
    "The {beasts} <rel> <were> <look>.", "The {beasts} <rel> <were> <look>.",
    '"The {beast} <rel> is <look>," said {n2}. "It has a <adj> <noun>."',
    '"The {beasts} <rel> are <look>," said {n2}. "They have a <adj> <noun>."',
]
LIVES = [
    "{n1} {deed1}. {he1} {more1}.", "{n1} <rel> {deed1}. {he1} {more1}.",
    "{n1} {deed1}, and {n2} {deed2}. {he1} {more1}, and {he2} {more2}.",
    "{n1} met {n2} <at> the <place>. {he1} {deed1}, and {he2} {deed2}.",
    "{n1} met {n2} <at> the <place>. {he2} {deed2}, and {he1} {deed1}.",
    "{n1} danced with {mate1}, and {n2} danced with {mate2}.",
    "{n1} and {mate1} were happy. {he1} {deed1}, and {hemate1} {matemore1}.",
    "{n1} was a <kind> {sort1}, and {mate1} was a <kind> {matesort1}.",
    '"Who {asked1}?" asked {n3}. "{n1}," said {n2}.',
    '"Where is {n1}?" asked {n2}. {he1} {deed1}.',
]
# The same word, a bank: what was said before tells which, and what follows speaks of that one.
ARRIVALS = [
    "{he1} went to the bank.", "{he1} walked to the bank <when>.", "{he1} met {n2} at the bank.",
    "{n1} and {n2} went to the bank.", "{n1} showed {n2} the way to the bank.",
]
BANKS: list[tuple[list[str], list[str]]] = [
    (
        ["{n1} had a boat on the river.", "{n1} wanted to swim in the river.",
         "{n1} lived near the river.", "{n1} looked for a fish in the river.",
         "The water of the river was warm. {n1} wanted to swim.",
         "{n1} liked the bank by the river."],
        ["The bank was <shore>.", "The bank by the river was <shore>.",
         "{he1} sat on the grass and looked at the water.",
         "{he1} put {his1} feet into the water.", "The bank was full of flowers and frogs.",
         '"Where is {n1}?" asked {n3}. "At the bank," said {n2}. "{he1} is in the water."'],
    ),
    (
        ["{n1} had a lot of money.", "{n1} wanted to save {his1} money.",
         "{n1} needed money for a {adj1} {noun1}.", "{n1} had money in {his1} hat.",
         "{n1} sold a {adj1} {noun1} for a lot of money.",
         "{n1} liked the bank with the money."],
        ["The bank was <counter>.", "The bank with the money was <counter>.",
         "{he1} stood at the desk and counted the coins.",
         "{he1} put {his1} money into a box.", "The bank was full of money and coins.",
         '"Where is {n1}?" asked {n3}. "At the bank," said {n2}. "{he1} is at the desk."'],
    ),
]
# A plot is told first, and what was told comes back after something else has happened.
PLOTS: list[tuple[list[str], list[str]]] = [
    (
        ["{n1} found a {adj1} {noun1} <at> the <place>. {n1} gave the {noun1} to {n2}.",
         "<when> {n1} found a {adj1} {noun1}. {n2} took the {noun1}, and {n1} did not mind."],
        ['"Who has the {noun1}?" asked {n3}. "{n2} has the {noun1}," said {n1}.',
         '"Who found the {noun1}?" asked {n3}. "{n1} found the {noun1}," said {n2}.',
         "So {n2} had the {adj1} {noun1} that {n1} had found."],
    ),
    (
        ["{n1} had a {adj2} {noun2} and {n2} had a {adj3} {noun3}.",
         "{n1} made a {adj2} {noun2}. {n2} made a {adj3} {noun3}."],
        ["{n1} took the {adj2} {noun2} and {n2} took the {adj3} {noun3}.",
         "{n2} played with {his2} {noun3}, and {n1} played with {his1} {noun2}.",
         '"Is this {noun2} yours, {n2}?" asked {n3}. "No," said {n2}, "I have the {noun3}. '
         'The {noun2} is for {n1}."'],
    ),
    (
        ['{n1} sang, "{song}."', '{n1} heard a song <at> the <place>, "{song}."'],
        ['{n2} sang the song of {n1} again, "{song}."', '"{song}," sang {n2} and {n3}.',
         'All of them sang, "{song}."'],
    ),
    (
        ['The mother of {n1} always said, "{saying}."', '"{saying}," said {n1} to {n2}.'],
        ['"{saying}," said {n1} again.', 'But {n2} did not forget the words, "{saying}."'],
    ),
    (
        ['"I am hungry," said {n1}. So {n2} gave {n1} some bread.',
         '"I am tired," said {n1}. So {n2} made a bed for {n1}.',
         '"I am cold," said {n1}. So {n2} gave {n1} a coat.'],
        ['"Thank you, {n2}," said {n1}.', "{n1} did not forget what {n2} had done."],
    ),
    (
        ["{n1} lost {his1} {noun4}. It was not in the {place}, and {n1} did not know where it was.",
         "{n1} looked for {his1} {noun4} in the {place}, but {he1} did not find it."],
        ["At last {n2} found the {noun4} in the {place2}, not in the {place}.",
         '"I have found your {noun4}, {n1}," said {n2}. "It was in the {place2}."'],
    ),
]
SONG = PLOTS[2]
CLOSINGS = [
    "Then {n1} and {n2} went home.", "In the end {n1}, {n2} and {n3} were friends.",
    "And {n3} was glad.", "", "",
]
NEXT_DAY = ["The next day the {beast} {past} the {spot}.", "{n3} laughed at the {beast}."]
# fmt: on


def plural(noun: str) -> str:
    """Give the plural of a noun of the grammar: "mouse" is "mice", "fox" is "foxes"."""
    return {"mouse": "mice", "fox": "foxes"}.get(noun, noun + "s")


def fill(rng: random.Random, template: str, slots: dict[str, str]) -> str:
    """Give the template with every <draw> drawn afresh and every {slot} set from the story."""
    while "<" in template:
        template = re.sub(r"<(\w+)>", lambda draw: rng.choice(DRAWS[draw[1]]), template)
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", template.format_map(slots))
    return re.sub(r'(?:^|\. )"?[a-z]', lambda start: start[0].upper(), text)


def named(rng: random.Random) -> dict[str, str]:
    """Draw three persons with names, the first two a he and a she."""
    pair = [rng.choice(HE), rng.choice(SHE)]
    rng.shuffle(pair)
    third = rng.choice([name for name in HE + SHE if name not in pair])
    slots: dict[str, str] = {}
    for i, name in enumerate([*pair, third], start=1):
        he, his = ("he", "his") if name in HE else ("she", "her")
        slots |= {f"n{i}": name, f"he{i}": he, f"his{i}": his}
    return slots


def titled(rng: random.Random) -> dict[str, str]:
    """Draw three persons of different ranks, the first two a he and a she, and what they do."""
    first = rng.randrange(2)
    slots: dict[str, str] = {}
    for i, rank in enumerate(rng.sample(list(RANKS), 3), start=1):
        sex = (first, 1 - first, rng.randrange(2))[i - 1]
        title, mate = rank[sex], rank[1 - sex]
        his, her = ("his", "her")[:: 1 - 2 * sex]
        deed, more = rng.sample(RANKS[rank], 2)
        slots |= {
            f"n{i}": f"the {title}",
            f"mate{i}": f"the {mate}", f"sort{i}": SORTS[title], f"matesort{i}": SORTS[mate],
            f"he{i}": ("he", "she")[sex], f"hemate{i}": ("she", "he")[sex], f"his{i}": his,
            f"deed{i}": deed.format(his=his), f"asked{i}": deed.format(his="the"),
            f"more{i}": more.format(his=his), f"matemore{i}": more.format(his=her),
        }  # fmt: skip
    return slots


def properties(rng: random.Random) -> dict[str, str]:
    """Draw four things, two places and what is sung and said."""
    slots: dict[str, str] = {}
    for i, noun in enumerate(rng.sample(NOUNS, 4), start=1):
        slots |= {f"noun{i}": noun, f"adj{i}": rng.choice(ADJECTIVES)}
    slots["place"], slots["place2"] = rng.sample(PLACES, 2)
    slots["song"] = " ".join(rng.choices(SYLLABLES, k=rng.randint(4, 8))).capitalize()
    slots["saying"] = fill(rng, "a <adj> <noun> in the <place> is better than a <adj> <noun>", {})
    return slots


def animal(rng: random.Random, crossing: bool) -> dict[str, str]:
    """Draw an animal, what it does, and why it would not: its own mood or a fault of the place."""
    if crossing:
        beast, spot = rng.choice(WALKERS), rng.choice(["street", "street", *CROSSINGS])
        past, base, faults = "crossed", "cross", CROSSINGS[spot]
    else:
        beast = rng.choice([*ACTS, "cat", "cat", "cat", "dog", "dog", "dog", "bird", "horse"])
        past, base, spot, faults = rng.choice(ACTS[beast])
    other, others = rng.sample([name for name in ACTS if name not in (beast, "animal")], 2)
    own = rng.random() < 0.5
    why = rng.choice(["tired", "tired", *MOODS] if own else faults.split())
    return {
        "beast": beast, "beasts": plural(beast), "past": past, "base": base, "spot": spot,
        "other": other, "others": plural(others), "why": why,
        "then": rng.choice((MOODS if own else FAULTS)[why]),
    }  # fmt: skip


KINDS = {"act": 28, "cause": 10, "crossing": 18, "number": 12, "plot": 14, "life": 22, "bank": 14}


def story(rng: random.Random) -> str:
    """Draw one story, a paragraph without line breaks."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    slots = named(rng) | properties(rng) | animal(rng, crossing=kind == "crossing")
    slots["then"] = slots["then"].format_map(slots)
    # A song comes twice as often as the others: to go on with it is the hardest to learn.
    count = rng.choice([0, 0, 1] if kind in ("life", "bank") else [1, 2, 2])
    plots = rng.sample([*PLOTS, SONG], count)
    told = [rng.choice(told) for told, _ in plots]
    recalled = [rng.choice(recalled) for _, recalled in plots]
    if kind == "life":
        # Persons without a name stay out of plots. There each is told from all others, and the
        # model would learn of king and queen what tells them apart, not what they share.
        lives = [fill(rng, life, slots | titled(rng)) for life in rng.sample(LIVES, 3)]
        parts = [*lives, *told, *recalled]
    elif kind == "bank":
        before, after = rng.choice(BANKS)
        slots |= titled(rng) if rng.random() < 0.4 and not plots else {}
        parts = [rng.choice(before), *told, rng.choice(ARRIVALS), *rng.sample(after, 2), *recalled]
    else:
        openings = {"act": OPENINGS, "cause": CAUSES, "crossing": CAUSES, "number": NUMBERS}
        parts = [rng.choice(openings[kind])] if kind in openings else []
        numbers = [rng.choice(NUMBERS)] if rng.random() < 0.25 else []
        parts += [*told, *numbers, *recalled]
    if kind in ("cause", "crossing"):
        parts.append(rng.choice(NEXT_DAY))
    elif plots:
        parts.append(rng.choice(CLOSINGS))
    return " ".join(fill(rng, part, slots) for part in parts if part)


def stories(seed: int, count: int) -> list[str]:
    """Give that many stories, always the same for the same seed."""
    rng = random.Random(seed)
    return [story(rng) for _ in range(count)]


def main() -> None:
    """Print stories, one a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stories", type=int, default=10)
    arguments = parser.parse_args()
    for text in stories(arguments.seed, arguments.stories):
        print(text)


if __name__ == "__main__":
    main()
