"""Functions of a text, or of a list of words."""

from __future__ import annotations

from collections.abc import Mapping

from star_rft.data.generators.python_tasks.family import LARGE, Family
from star_rft.data.generators.python_tasks.inputs import Kind

LETTERS = tuple("aeiorstnl")
WORDS = ("red", "box", "new", "top", "sun", "my", "go", "it")
SEPARATORS = ("-", ", ", "/", " and ", "+", " | ", "_", "; ")
TEXT: Mapping[str, Kind] = {"text": "text"}
WORD_LIST: Mapping[str, Kind] = {"words": "words"}
ON_TEXTS = (
    Family(
        "count_letter",
        1,
        TEXT,
        {"letter": LETTERS},
        (
            ("count_letter", 'returns how many times the letter "{letter}" occurs in `text`'),
            ("letter_count", 'counts the letter "{letter}" in the string `text` and returns the count'),
        ),
        'return text.count("{letter}")',
    ),
    Family(
        "remove_letter",
        1,
        TEXT,
        {"letter": LETTERS},
        (("remove_letter", 'returns the string `text` without any letter "{letter}"'),),
        'return text.replace("{letter}", "")',
    ),
    Family(
        "replace_letter",
        1,
        TEXT,
        {"old": LETTERS[:5], "new": "xyz*#"},
        (("replace_letter", 'returns `text` with every letter "{old}" replaced by "{new}"'),),
        'return text.replace("{old}", "{new}")',
    ),
    Family(
        "prefix",
        1,
        TEXT,
        {"word": WORDS},
        (("add_start", 'returns the string "{word}" followed by `text`'),),
        'return "{word}" + text',
    ),
    Family(
        "suffix",
        1,
        TEXT,
        {"word": WORDS},
        (("add_end", 'returns `text` followed by the string "{word}"'),),
        'return text + "{word}"',
    ),
    Family(
        "repeat",
        1,
        TEXT,
        {"k": range(2, 14)},
        (("repeat_text", "returns the string `text` repeated {k} times"),),
        "return text * {k}",
    ),
    Family(
        "starts_with",
        1,
        TEXT,
        {"letter": LETTERS},
        (("starts_with_letter", 'returns True if `text` starts with the letter "{letter}", and False otherwise'),),
        'return text.startswith("{letter}")',
    ),
    Family(
        "ends_with",
        1,
        TEXT,
        {"letter": LETTERS},
        (("ends_with_letter", 'returns True if `text` ends with the letter "{letter}", and False otherwise'),),
        'return text.endswith("{letter}")',
    ),
    Family(
        "join",
        1,
        WORD_LIST,
        {"separator": SEPARATORS},
        (("join_words", 'returns the strings of the list `words` joined with "{separator}" between them'),),
        'return "{separator}".join(words)',
    ),
    Family(
        "is_longer",
        1,
        TEXT,
        {"k": LARGE},
        (("is_longer", "returns True if `text` has more than {k} characters, and False otherwise"),),
        "return len(text) > {k}",
    ),
    Family(
        "count_long",
        2,
        WORD_LIST,
        {"k": range(1, 9)},
        (("count_long_words", "returns how many strings in the list `words` have more than {k} characters"),),
        "return sum(1 for word in words if len(word) > {k})",
    ),
    Family(
        "words_with_start",
        2,
        WORD_LIST,
        {"letter": LETTERS},
        (("words_with_start", 'returns a list of the strings in `words` that start with the letter "{letter}"'),),
        'return [word for word in words if word.startswith("{letter}")]',
    ),
    Family(
        "words_without",
        2,
        WORD_LIST,
        {"letter": LETTERS},
        (("words_without", 'returns a list of the strings in `words` that do not hold the letter "{letter}"'),),
        'return [word for word in words if "{letter}" not in word]',
    ),
    Family(
        "shorten",
        2,
        TEXT,
        {"k": LARGE},
        (
            (
                "shorten",
                'returns the first {k} characters of `text` and "..." if `text` is longer, and else `text`',
            ),
        ),
        'return text[:{k}] + "..." if len(text) > {k} else text',
    ),
    Family(
        "pad",
        2,
        TEXT,
        {"k": LARGE},
        (("pad_start", 'returns `text` with as many "*" put before it as are needed for a length of at least {k}'),),
        'return "*" * ({k} - len(text)) + text',
    ),
    Family(
        "upper_letter",
        2,
        TEXT,
        {"letter": LETTERS},
        (("raise_letter", 'returns `text` with every "{letter}" made upper case and all else as it is'),),
        'return text.replace("{letter}", "{letter}".upper())',
    ),
    Family(
        "upper_every",
        3,
        TEXT,
        {"k": range(2, 7)},
        (
            (
                "raise_every",
                "returns `text` with the characters at the indices 0, {k}, 2*{k}, 3*{k} and so on in upper case",
            ),
        ),
        'return "".join(c.upper() if i % {k} == 0 else c for i, c in enumerate(text))',
    ),
    Family(
        "caesar",
        3,
        TEXT,
        {"k": range(2, 25)},
        (
            (
                "shift_letters",
                "replaces every lower-case letter in `text` by the one {k} places later in the alphabet, going on with "
                '"a" after "z", and returns the result with all other characters as they are',
            ),
        ),
        'return "".join(chr((ord(c) - 97 + {k}) % 26 + 97) if "a" <= c <= "z" else c for c in text)',
    ),
)
