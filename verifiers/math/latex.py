r"""Normalises the spelling of an answer: Unicode, LaTeX spacing, delimiters, `\text{}`."""

# ruff: noqa: RUF001  # this file exists to map look-alikes
from __future__ import annotations

import re
import unicodedata

# They enclose the content of \text{...} in cleaned text, so that the unit in `5\text{ m}` is not read as a variable m.
TEXT_OPEN, TEXT_CLOSE = "\x01", "\x02"

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
    "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_UNICODE = str.maketrans(
    {
        **dict.fromkeys("−–—﹣－‒", "-"),
        "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/", "⁄": "/", "∕": "/", "π": "\\pi ",
        "√": "\\sqrt ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∪": "\\cup ",
        "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset ", "±": "\\pm ", "°": "^\\circ ", "θ": "\\theta ",
        "α": "\\alpha ", "β": "\\beta ", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "",
        "’": "'", "“": '"', "”": '"', "％": "%",
    }
)  # fmt: skip
_SUPERSCRIPT_RUN = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal|sf|tt)?|mbox|hbox|mathrm|mathbf|mathit|mathsf|rm|bf)\s?\{([^{}]*)\}")
_DROPPED = re.compile(
    r"\\(?:left|right|bigg?[lrm]?|Bigg?[lrm]?|displaystyle|textstyle|limits|nolimits|hfill)(?![a-zA-Z])|\\!"
    r"|\\phantom\{[^{}]*\}"
)
_SPACES = re.compile(
    r"(?<!\\)\\(?:[,;: ]|(?:quad|qquad|space|enspace|thinspace|medspace|thickspace)(?![a-zA-Z]))|(?<!\\)~|[ \t\r\n]+"
)
_RENAMED = {
    "\\dbinom": "\\binom", "\\tbinom": "\\binom",
    "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\leqslant": "\\le", "\\geqslant": "\\ge",
    "\\leq": "\\le", "\\geq": "\\ge", "\\neq": "\\ne", "\\lt": "<", "\\gt": ">", "\\div": "/", "\\ast": "*",
    "\\varnothing": "\\emptyset", "\\imath": "i",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]",
    "\\lparen": "(", "\\rparen": ")", "\\vert": "|", "\\mid": "|", "\\lvert": "|", "\\rvert": "|",
    "\\colon": ":", "\\ldots": "...", "\\dots": "...", "\\cdots": "...", "\\to": "->", "\\rightarrow": "->",
    "\\implies": "=>", "\\degree": "^\\circ", "\\bf": "", "\\rm": "", "\\Bbb": "\\mathbb",
    "\\R": "\\mathbb{R}", "\\reals": "\\mathbb{R}", "\\land": ",", "\\wedge": ",", "\\lor": " or ", "\\vee": " or ",
}  # fmt: skip
_DOUBLED = re.compile(r"\\(?=\\[a-zA-Z(\[{}])")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_PERCENT = re.compile(r"(?<![a-zA-Z])(?:percent|per cent|pct)\b\.?", re.IGNORECASE)


_CURRENCIES = {"\\$": "dollar", "€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee"}
_CURRENCY = re.compile(
    r"\\\$|[€£¥₹]|(?<![a-zA-Z])(?:US|A|C|USD|Rs\.?)(?:\\?\$|(?<=USD)|(?<=Rs)|(?<=Rs\.))\s?(?=[\d.-])"
)
_AMOUNT = re.compile(r"[-+]?[\d.,{}! ]*\d[\d.,{} ]*")
_MARKS = (("$", ""), ("**", ""), ("`", ""), ("!=", "\\ne "), ("^{}", ""), ("{,}", ","), ("{:}", ":"))
_CHOOSE = re.compile(r"\{\s?([^{}\\]{1,20})\s?\\choose\s?([^{}\\]{1,20})\}")
_EMPTY_GROUP = re.compile(r"[\^_]?\{\}")
_OWN_MARKS = re.compile("[\x01-\x03]")
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?")


def clean(text: str) -> str:
    r"""Return an answer without delimiters, spacing commands and currency signs, in one spelling of each symbol.

    Letters keep their case. The content of `\text{}` is between `TEXT_OPEN` and `TEXT_CLOSE`, where a currency is put
    too: "$5" becomes "5" with the unit dollar.
    """
    if _PLAIN.fullmatch(text):
        return text
    if "\x01" in text or "\x02" in text or "\x03" in text:
        text = _OWN_MARKS.sub("", text)
    currency = ""
    if "$" in text or not text.isascii() or "US" in text or "Rs" in text:
        text, currency = _without_currency(text)
    if not text.isascii():
        text = _ascii(text)
    if "\\" in text:
        text = _without_commands(text)
    for mark, plain in _MARKS:
        if mark in text:
            text = text.replace(mark, plain)
    if "%" in text or "p" in text or "P" in text:
        text = _PERCENT.sub("%", text)
    text = _SPACES.sub(" ", text).strip().removeprefix("=").lstrip()
    text = text if text.endswith("...") else text.rstrip(".,;:").strip()
    return f"{text}{TEXT_OPEN} {currency}{TEXT_CLOSE}" if currency and _AMOUNT.fullmatch(text) else text


def _without_currency(text: str) -> tuple[str, str]:
    """Return (the text without currency signs, the name of the first one or "").

    An odd number of bare $ means that one of them is a currency sign and not a delimiter.
    """
    sign = _CURRENCY.search(text)
    found = ""
    if sign:
        found = next((name for symbol, name in _CURRENCIES.items() if symbol in sign[0]), "dollar")
        found = "rupee" if sign[0].startswith("Rs") else found
        text = _CURRENCY.sub("", text)
    elif text.count("$") % 2:
        found = "dollar"
    return text, found


def _ascii(text: str) -> str:
    """Return a text with Unicode digits, signs, superscripts and fractions as ASCII and LaTeX."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    for sign, fraction in _VULGAR.items():
        if sign in text:
            text = re.sub(rf"(?<=\d)\s?{sign}", f" {fraction}", text).replace(sign, fraction)
    return unicodedata.normalize("NFKC", text.translate(_UNICODE))


def _marked(command: re.Match[str]) -> str:
    r"""Return the content of \text{} between the marks, or alone where it has no letter: \mathbf{0} is 0."""
    content: str = command[1]
    if any(map(str.isalpha, content)):
        return f"{TEXT_OPEN}{content}{TEXT_CLOSE}"
    return content if content.strip(" .") else " "


def _without_commands(text: str) -> str:
    """Return a text without LaTeX commands of layout, and with one name for each command that has several."""
    if "\\\\" in text and "\\begin" not in text:
        text = _DOUBLED.sub("", text)  # escaped twice on its way through some JSON
    text = text.replace("\\$", "").replace("\\%", "%").replace("\\#", "").replace("\\&", "&")
    for delimiter in ("\\(", "\\)", "\\[", "\\]"):
        text = text.replace(delimiter, "")
    if "\\choose" in text:
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    text = _TEXT.sub(_marked, text)
    text = _EMPTY_GROUP.sub("", _DROPPED.sub("", text)) if "\\frac{}" not in text else text
    return _COMMAND.sub(lambda command: _RENAMED.get(command[0], command[0]), text)


def squeeze(text: str) -> str:
    """Return cleaned text as a key: without spaces and without the braces that change nothing."""
    text = text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")
    # Two kinds of spaces carry meaning and survive as \x03: between digits, and after a command whose name they end.
    text = re.sub(r"(?<=\d) (?=\d)", "\x03", text)
    text = re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])", "\\1\x03", text).replace(" ", "").replace("\x03", " ")
    text = re.sub(r"(\\p?mod)\{(\w+)\}", r"\1\2", text)
    text = re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)
    text = re.sub(r"\\frac(\d)(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    return re.sub(r"\\sqrt(\d)(?!\d)", r"\\sqrt{\1}", text)
