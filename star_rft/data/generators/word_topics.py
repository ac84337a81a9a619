"""The sentences of the built-in word problems, one `Topic` a kind of story.

Placeholders: `{name}` and `{other}` are people, `{She}`, `{she}`, `{her}`, `{His}`, `{his}` their pronouns, `{things}`
what is counted, `{a}` and `{b}` the numbers of a step, `{eq}` its equation. A sentence without `{a}` means the number 2
("doubles", "half"). There is a space before every number, so that a tokenizer has one token for each. A sentence must
have one meaning: the story alone must say what to compute.
"""

from __future__ import annotations

from dataclasses import dataclass

Groups = tuple[str, str]  # a sentence about `{a}` groups of `{b}`, and the line that works them out


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A last step that asks about something else than the running quantity."""

    operator: str
    sentence: str
    question: str
    line: str


@dataclass(frozen=True, slots=True)
class Topic:
    """A kind of story about one running quantity."""

    things: tuple[str, ...]
    openings: tuple[str, ...]
    group_openings: tuple[Groups, ...]
    add: tuple[str, ...]
    subtract: tuple[str, ...]
    multiply: tuple[str, ...]
    divide: tuple[str, ...]
    add_groups: tuple[Groups, ...]
    subtract_groups: tuple[Groups, ...]
    lines: tuple[str, ...]
    questions: tuple[str, ...]
    endings: tuple[Conclusion, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words("Mia Anna Sara Lucy Emma Nora Ruth Jane Rosa Amy Ines Zoe")
MEN = _words("Ben Tom Omar Leo Max Sam Ivan Paul Jack Noah Ravi Hugo")

COLLECTION = Topic(
    things=_words("apples marbles stickers books pencils shells coins stamps cards buttons beads pears nuts toys"),
    openings=("{name} has {a} {things}.", "{name} owns {a} {things}.", "{name} starts with {a} {things}."),
    group_openings=(
        ("{name} has {a} bags with {b} {things} in each.", "The bags hold {eq} {things}."),
        ("{name} owns {a} boxes of {b} {things}.", "The boxes hold {eq} {things}."),
    ),
    add=(
        "{She} buys {a} more {things}.",
        "{She} finds {a} {things} at home.",
        "{other} gives {her} {a} {things}.",
        "For {his} birthday {she} gets {a} {things}.",
    ),
    subtract=(
        "{She} gives {a} {things} to {other}.",
        "{She} loses {a} of them.",
        "{She} sells {a} {things}.",
        "{other} borrows {a} {things}.",
    ),
    multiply=("A lucky trade leaves {her} with {a} times as many.", "By summer {she} doubles the number."),
    divide=(
        "{She} shares them equally among {a} people and keeps one share.",
        "{She} gives away half of them.",
    ),
    add_groups=(
        ("{She} buys {a} packs of {b} {things}.", "The packs hold {eq} {things}."),
        ("Then {a} friends bring {her} {b} {things} each.", "The friends bring {eq} {things}."),
    ),
    subtract_groups=(
        ("{She} gives each of {a} cousins {b} {things}.", "The cousins get {eq} {things}."),
        ("{She} uses up {a} packs of {b} {things}.", "The packs held {eq} {things}."),
    ),
    lines=("{She} has {eq} {things}.", "Then {she} has {eq} {things}.", "That makes {eq} {things}."),
    questions=("How many {things} does {name} have now?", "How many {things} does {she} have in the end?"),
    endings=(
        Conclusion(
            "+",
            "{other} has {a} {things}.",
            "How many {things} do they have together?",
            "Together they have {eq} {things}.",
        ),
        Conclusion(
            "*",
            "{other} has {a} times as many {things} as {name}.",
            "How many {things} does {other} have?",
            "{other} has {eq} {things}.",
        ),
        Conclusion("/", "{She} lays them in rows of {a}.", "How many rows does {she} lay?", "{She} lays {eq} rows."),
    ),
)

MONEY = Topic(
    things=_words("dollars euros pounds"),
    openings=(
        "{name} has {a} {things}.",
        "{name} saved {a} {things}.",
        "There are {a} {things} in {name}'s purse.",
    ),
    group_openings=(
        ("{name} works for {a} hours at {b} {things} an hour.", "The work pays {eq} {things}."),
        ("{name} sells {a} cakes for {b} {things} each.", "The cakes bring {eq} {things}."),
    ),
    add=(
        "{She} earns {a} {things} with a small job.",
        "{other} pays {her} {a} {things} back.",
        "{His} aunt sends {her} {a} {things}.",
    ),
    subtract=(
        "{She} spends {a} {things} on lunch.",
        "{She} pays {a} {things} for a ticket.",
        "{She} lends {other} {a} {things}.",
        "A new shirt costs {her} {a} {things}.",
    ),
    multiply=("A prize makes {his} money {a} times as much.", "{His} father doubles {his} money."),
    divide=(
        "{She} splits the money equally with friends so that each of the {a} gets the same.",
        "{She} spends half of the money.",
    ),
    add_groups=(
        ("{She} mows {a} lawns for {b} {things} each.", "The lawns pay {eq} {things}."),
        ("For {a} days {she} earns {b} {things} a day.", "The days bring {eq} {things}."),
    ),
    subtract_groups=(
        ("{She} buys {a} pens for {b} {things} each.", "The pens cost {eq} {things}."),
        ("{She} takes {a} bus rides that cost {b} {things} each.", "The rides cost {eq} {things}."),
    ),
    lines=("{She} has {eq} {things}.", "Then {she} has {eq} {things}.", "Now {she} has {eq} {things}."),
    questions=("How many {things} does {name} have now?", "How much money in {things} does {she} have?"),
    endings=(
        Conclusion(
            "+",
            "{other} has {a} {things} more than {name}.",
            "How many {things} does {other} have?",
            "{other} has {eq} {things}.",
        ),
        Conclusion(
            "-",
            "{She} wants to keep {a} {things}.",
            "How many {things} can {she} still spend?",
            "{She} can spend {eq} {things}.",
        ),
        Conclusion("/", "A toy costs {a} {things}.", "How many toys can {she} buy?", "{She} can buy {eq} toys."),
    ),
)

SHOP = Topic(
    things=_words("cakes rolls pies tarts muffins donuts cookies"),
    openings=("{name}'s bakery has {a} {things}.", "In the morning {name} bakes {a} {things}."),
    group_openings=(
        ("{name} fills {a} trays with {b} {things} each.", "The trays hold {eq} {things}."),
        ("{name}'s bakery has {a} shelves with {b} {things} each.", "The shelves hold {eq} {things}."),
    ),
    add=(
        "{She} bakes {a} more {things}.",
        "A driver brings {a} {things}.",
        "{other} makes {a} {things} as well.",
    ),
    subtract=(
        "Customers buy {a} {things}.",
        "{She} burns {a} {things} and throws them out.",
        "A school picks up {a} {things}.",
    ),
    multiply=(
        "For a feast {she} needs {a} times as many and bakes them.",
        "At noon {she} doubles the stock.",
    ),
    divide=("{She} keeps one of {a} equal parts and sells the rest.", "Half of the {things} are sold."),
    add_groups=(
        ("The oven gives {a} more trays of {b} {things}.", "The trays hold {eq} {things}."),
        ("Then {a} helpers bake {b} {things} each.", "The helpers bake {eq} {things}."),
    ),
    subtract_groups=(
        ("A cafe orders {a} boxes of {b} {things}.", "The boxes hold {eq} {things}."),
        ("Then {a} families buy {b} {things} each.", "The families buy {eq} {things}."),
    ),
    lines=("There are {eq} {things}.", "Then there are {eq} {things}.", "The bakery has {eq} {things}."),
    questions=("How many {things} are there now?", "How many {things} are left at closing time?"),
    endings=(
        Conclusion(
            "*",
            "All are sold at {a} dollars each.",
            "How many dollars does {she} get?",
            "{She} gets {eq} dollars.",
        ),
        Conclusion(
            "/",
            "{She} packs them into boxes of {a}.",
            "How many boxes are packed?",
            "{She} packs {eq} boxes.",
        ),
    ),
)

PRACTICE = Topic(
    things=_words("minutes"),
    openings=("{name} plans to read for {a} {things}.", "{name} practices piano for {a} {things}."),
    group_openings=(
        ("{name} runs {a} laps of {b} {things} each.", "The laps take {eq} {things}."),
        ("{name} has {a} lessons of {b} {things} each.", "The lessons take {eq} {things}."),
    ),
    add=(
        "{She} adds {a} {things}.",
        "A phone call takes {a} {things} more.",
        "The way home takes {a} {things}.",
    ),
    subtract=(
        "{She} skips a part and saves {a} {things}.",
        "A short cut saves {a} {things}.",
        "{other} helps, which saves {a} {things}.",
    ),
    multiply=("Bad weather makes it all take {a} times as long.", "{His} coach doubles the time."),
    divide=(
        "With help it all takes only one of {a} equal parts of the time.",
        "A new plan takes half the time.",
    ),
    add_groups=(
        ("{She} takes {a} breaks of {b} {things}.", "The breaks take {eq} {things}."),
        ("Then come {a} songs of {b} {things} each.", "The songs take {eq} {things}."),
    ),
    subtract_groups=(
        ("{She} drops {a} tasks of {b} {things} each.", "The tasks took {eq} {things}."),
        ("Without {a} stops of {b} {things} it goes faster.", "The stops took {eq} {things}."),
    ),
    lines=("It takes {eq} {things}.", "Then it takes {eq} {things}.", "Now that is {eq} {things}."),
    questions=("How many {things} does it take now?", "How long does it take {name} in {things}?"),
    endings=(
        Conclusion(
            "*",
            "{She} does this on {a} days.",
            "How many {things} is that in all?",
            "In all that is {eq} {things}.",
        ),
        Conclusion(
            "+",
            "{other} needs {a} {things} longer.",
            "How many {things} does {other} need?",
            "{other} needs {eq} {things}.",
        ),
    ),
)

TRANSPORT = Topic(
    things=_words("people children students tourists"),
    openings=(
        "A bus carries {a} {things}.",
        "There are {a} {things} on a train.",
        "A ship leaves with {a} {things}.",
    ),
    group_openings=(
        ("A train has {a} cars with {b} {things} in each.", "The cars hold {eq} {things}."),
        ("A ship has {a} decks with {b} {things} on each.", "The decks hold {eq} {things}."),
    ),
    add=(
        "At the next stop {a} {things} get on.",
        "Then {a} more {things} join.",
        "{name} brings {a} {things}.",
    ),
    subtract=(
        "At the next stop {a} {things} get off.",
        "In town {a} {things} leave.",
        "Tired, {a} {things} go home.",
    ),
    multiply=("At the station the number grows to {a} times as many.", "At noon the number doubles."),
    divide=("Only one in {a} of them stays.", "Half of them get out."),
    add_groups=(
        ("Then {a} groups of {b} {things} come in.", "The groups bring {eq} {things}."),
        ("At a hotel {a} families of {b} {things} join.", "The families bring {eq} {things}."),
    ),
    subtract_groups=(
        ("At the beach {a} teams of {b} {things} get off.", "The teams take {eq} {things}."),
        ("Then {a} taxis take {b} {things} each.", "The taxis take {eq} {things}."),
    ),
    lines=("There are {eq} {things}.", "Then there are {eq} {things}.", "That leaves {eq} {things}."),
    questions=("How many {things} are there now?", "How many {things} arrive?"),
    endings=(
        Conclusion("*", "Each of them pays {a} dollars.", "How many dollars is that?", "They pay {eq} dollars."),
        Conclusion("/", "They sit down at tables for {a}.", "How many tables do they need?", "They need {eq} tables."),
    ),
)

FARM = Topic(
    things=_words("hens sheep goats ducks cows pigs geese"),
    openings=(
        "A farm has {a} {things}.",
        "{name} keeps {a} {things}.",
        "On {name}'s farm live {a} {things}.",
    ),
    group_openings=(
        ("A farm has {a} barns with {b} {things} in each.", "The barns hold {eq} {things}."),
        ("{name} has {a} fields with {b} {things} on each.", "The fields hold {eq} {things}."),
    ),
    add=("In spring {a} {things} are born.", "{name} buys {a} {things}.", "A neighbor brings {a} {things}."),
    subtract=(
        "Then {a} {things} run away.",
        "{name} sells {a} {things}.",
        "In winter {a} {things} are moved.",
    ),
    multiply=("After a year there are {a} times as many.", "In good years the number doubles."),
    divide=("The farm keeps only one of {a} equal herds.", "Half of the {things} are sold."),
    add_groups=(
        ("Then {a} trucks bring {b} {things} each.", "The trucks bring {eq} {things}."),
        ("{name} wins {a} pens of {b} {things}.", "The pens hold {eq} {things}."),
    ),
    subtract_groups=(
        ("Then {a} buyers take {b} {things} each.", "The buyers take {eq} {things}."),
        ("{name} gives {a} farmers {b} {things} each.", "The farmers get {eq} {things}."),
    ),
    lines=("There are {eq} {things}.", "The farm has {eq} {things}.", "Then there are {eq} {things}."),
    questions=("How many {things} are there now?", "How many {things} does the farm have?"),
    endings=(
        Conclusion(
            "+",
            "The next farm has {a} {things} more.",
            "How many {things} live there?",
            "The next farm has {eq} {things}.",
        ),
        Conclusion(
            "*",
            "Each of them eats {a} kilos of food a day.",
            "How many kilos do they eat a day?",
            "They eat {eq} kilos.",
        ),
    ),
)

WATER = Topic(
    things=_words("liters gallons cups"),
    openings=("A tank holds {a} {things} of water.", "{name} pours {a} {things} of water into a pool."),
    group_openings=(
        ("{name} fills a tub with {a} buckets of {b} {things}.", "The buckets hold {eq} {things}."),
        ("A pump runs for {a} hours at {b} {things} an hour.", "The pump gives {eq} {things}."),
    ),
    add=("Rain adds {a} {things}.", "{name} pours in {a} more {things}.", "A hose brings {a} {things}."),
    subtract=(
        "A leak costs {a} {things}.",
        "{other} takes out {a} {things}.",
        "The horses drink {a} {things}.",
    ),
    multiply=("A storm brings it to {a} times as much.", "The flood doubles the water."),
    divide=("The sun leaves only one of {a} equal parts.", "Half of the water is let out."),
    add_groups=(
        ("{name} adds {a} jugs of {b} {things}.", "The jugs hold {eq} {things}."),
        ("For {a} nights it rains {b} {things} a night.", "The rain brings {eq} {things}."),
    ),
    subtract_groups=(
        ("The garden takes {a} cans of {b} {things}.", "The cans hold {eq} {things}."),
        ("Then {a} workers drink {b} {things} each.", "The workers drink {eq} {things}."),
    ),
    lines=("There are {eq} {things}.", "Then there are {eq} {things}.", "It holds {eq} {things}."),
    questions=("How many {things} are in it now?", "How many {things} of water remain?"),
    endings=(
        Conclusion(
            "/",
            "It is filled into bottles of {a} {things}.",
            "How many bottles are filled?",
            "They fill {eq} bottles.",
        ),
        Conclusion(
            "+",
            "There is a second one with {a} {things}.",
            "How many {things} do both hold?",
            "Both hold {eq} {things}.",
        ),
    ),
)

TOPICS = (COLLECTION, MONEY, SHOP, PRACTICE, TRANSPORT, FARM, WATER)
