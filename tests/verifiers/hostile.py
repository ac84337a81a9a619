r"""Completions made to hang, kill or take over a verifier. `canary` is a file that only an attack would create."""

from __future__ import annotations

# look-alikes are among the attacks


def hostile_completions(canary: str) -> dict[str, str]:
    """Return them by name, over a hundred; none of them states 5 (the reference to judge them against)."""
    boxed = {name: f"\\boxed{{{text}}}" for name, text in {**_heavy(), **_nested(), **_code(canary)}.items()}
    return {**boxed, **_long()}


def _heavy() -> dict[str, str]:
    """Short formulas that cost more than a lifetime, if they are evaluated."""
    tower = "9"
    for _ in range(50):
        tower = f"9^{{{tower}}}"
    texts = [
        "9^{9^{9^{9}}}", "10^{10^{10^{10}}}", "2^{2^{2^{2^{2^{2}}}}}", tower, "x^{x^{x^{x^{x}}}}",
        "(9^9)^{(9^9)^{9^9}}",
        "9**9**9**9", "2^{10^{9}}", "7^{99999999}", "7^{-99999999}", "3.7^{12345678}", "(1+10^{-9})^{10^{9}}",
        "100000!", "999999999!", "((99!)!)!", "((3!)!)!", "5!!!!!!!!!!!!", "(10^{9})!", "\\frac{99999!}{99998!}",
        "\\binom{10^9}{5\\cdot 10^8}", "\\binom{99999999}{49999999}", "\\sum_{k=1}^{10^{12}} k^{k}",
        "\\sum_{n=1}^{\\infty}\\sum_{m=1}^{\\infty}\\frac{1}{n^m m^n}", "\\prod_{k=1}^{10^{10}} (1+\\frac{1}{k})",
        "\\prod_{p}\\frac{1}{1-p^{-s}}", "\\int_0^\\infty e^{-x^{x^x}} dx", "\\int\\int\\int\\int e^{xyzw}dx dy dz dw",
        "\\int_0^1 \\frac{\\sin(x^{x})}{\\ln(\\cos(x^x))} dx", "\\oint_C \\frac{e^{z^z}}{z^{100}} dz",
        "\\lim_{n\\to\\infty}(1+\\frac{1}{n})^{n^{n^n}}",
        "\\lim_{x\\to 0}\\frac{\\sin(\\tan x)-\\tan(\\sin x)}{x^{77}}",
        "\\frac{d^{99}}{dx^{99}} x^{x^x}", "\\sqrt[99999]{2^{99999}+1}", "\\sqrt{2^{2^{30}}}", "\\log_{2}(2^{2^{40}})",
        "\\gcd(2^{99999}-1, 2^{88888}-1)", "2^{99999} \\bmod 97", "\\sin(10^{10^{10}})", "\\sin^{999999}(x)",
        "e^{e^{e^{e^{e^{e}}}}}", "\\pi^{\\pi^{\\pi^{\\pi^{\\pi}}}}", "(x+y+z+w)^{9999}", "(a+b+c)^{200}-(c+b+a)^{200}",
        "\\lfloor 10^{20000}/(10^{100}+3) \\rfloor", "\\frac{1}{1-\\frac{1}{1-\\frac{1}{1-1}}}", "0^{0^{0^{0}}}",
        "\\frac{0}{0}",
        "1e999999999", "1e-999999999", "1.5\\times 10^{999999999}", "\\zeta(\\frac{1}{2}+99999i)", "F_{F_{F_{50}}}",
    ]  # fmt: skip
    return {f"heavy {i}: {text[:30]}": text for i, text in enumerate(texts)}


def _nested() -> dict[str, str]:
    depth = 400
    return {
        "nested parentheses": "(" * depth + "6" + ")" * depth,
        "nested roots": "\\sqrt{" * depth + "6" + "}" * depth,
        "nested fractions": "\\frac{1}{1+" * depth + "6" + "}" * depth,
        "nested fractions on both sides": "\\frac{\\frac{" * 100 + "6" + "}{2}}{3}" * 100,
        "nested absolute values": "|" * 500 + "6" + "|" * 500,
        "nested sets": "\\{" * depth + "6" + "\\}" * depth,
        "nested functions": "\\sin(" * depth + "x" + ")" * depth,
        "nested text": "\\text{" * depth + "6" + "}" * depth,
        "nested lefts": "\\left(" * depth + "6" + "\\right)" * depth,
        "unclosed parentheses": "(" * 1500,
        "many minus signs": "-" * 1500 + "6",
        "many factorials": "6" + "!" * 1500,
        "many terms": "+".join(f"x_{{{i}}}" for i in range(200)),
        "many powers": ",".join(f"x^{{{i}}}" for i in range(150)),
        "many tuples": ",".join(f"({i},{i + 1})" for i in range(150)),
        "a long product": "*".join(["(x+1)"] * 300),
        "a long chain of equals": "=".join(str(i) for i in range(300)),
        "a long inequality": "<".join(["x"] * 400),
        "a long union": "\\cup".join(["(0,1)"] * 200),
        "a large matrix": "\\begin{pmatrix}" + "\\\\".join(["1&2&3&4&5&6&7&8"] * 60) + "\\end{pmatrix}",
        "many plus-minus": "\\pm".join(["1"] * 60),
        "many ors": " \\text{ or } ".join(["x>1"] * 120),
        "a long digit string": "7" * 1900,
        "a long decimal": "0." + "7" * 1900,
        "long exponents": "7" * 300 + "^{" + "7" * 300 + "}",
        "a long mixed number": "7" * 300 + " " + "7" * 300 + "/" + "7" * 300,
    }


def _code(canary: str) -> dict[str, str]:
    """Text that must never be run: it would create the canary."""
    touch = f"open('{canary}','w').close()"
    texts = [
        f"__import__('os').system('touch {canary}')", f"__import__('pathlib').Path('{canary}').touch()", touch,
        f"eval(\"{touch}\")", f"exec(\"{touch}\")", f"lambda: {touch}", f"[{touch} for _ in range(1)]",
        f"().__class__.__base__.__subclasses__()[0]('touch {canary}')", f"S(\"{touch}\")", f"sympify(\"{touch}\")",
        f"Integer(6).__class__.__init__.__globals__['__builtins__']['open']('{canary}','w')", f"x.subs(x, {touch})",
        f"\\text{{{touch}}}", f"\\mathrm{{exec}}({touch})", f"\\operatorname{{exec}}({touch})", f"\\input{{{canary}}}",
        f"\\write18{{touch {canary}}}", f"$(touch {canary})", f"`touch {canary}`", f"; touch {canary} #",
        f"{{{{{touch}}}}}",
        f"%s%n{touch}", "__import__('time').sleep(60)", "exit()", "quit()", "raise SystemExit", "os._exit(0)",
        "__builtins__.__dict__", "f'{6!r:>999999999}'", "\x00\x01\x02\x03", "\x1b[2J", "'; DROP TABLE answers; --",
    ]  # fmt: skip
    return {f"code {i}: {text[:30]!r}": text for i, text in enumerate(texts)}


def _long() -> dict[str, str]:
    megabyte = 1_000_000
    repeated = {
        "digits": "1", "spaces": " ", "newlines": "\n", "dollars": "$", "backslashes": "\\", "braces": "{}",
        "stars": "*",
        "open braces": "{", "commas": "1,", "groups": "1 234 ", "fractions": "\\frac", "boxes": "\\boxed{",
        "closed boxes": "\\boxed{6}", "hashes": "#### 6\n", "bare hashes": "#", "tags": "<answer>6</answer>",
        "answers": "the answer is ", "answers to": "answer to ", "questions": "####\nQ: ",
        "thoughts": "<think></think>",
        "ends": "<|im_end|>", "retractions": "#### 6\nWait, 7. ", "hedges": "maybe 6 ", "annotations": "<<1+1=2>>",
        "minus signs": "-", "dots": "1.", "slashes": "1/", "percents": "6% ", "currencies": "\\$6 ", "letters": "a",
        "words": "six hundred ", "colons": "A:", "emoji": "\U0001f600", "combining marks": "e\u0301",
        "dotted capital": "\u0130",
        "superscripts": "\u00b2", "vulgar fractions": "1\u00bd ", "wide digits": "\uff15", "right to left": "\u202e6",
        "ligatures": "\ufdfa", "displays": "$$6$$", "opened displays": "\\[", "lone surrogates": "\ud800",
    }  # fmt: skip
    texts = {f"a megabyte of {name}": text * (megabyte // len(text)) for name, text in repeated.items()}
    return {
        **texts,
        "10k boxes in one another": "\\boxed{" * 10_000 + "7" + "}" * 10_000,
        "10k braces in a box": "\\boxed{" + "{" * 10_000 + "6" + "}" * 10_000 + "}",
        "noise before an answer": "".join(chr(33 + i * 7919 % 90) for i in range(megabyte)) + "\n#### 6",
        "8k digits as the answer": "The answer is " + "3" * 8000,
        "8k digits after hashes": "#### " + "3" * 8000,
        "an endless word": "The answer is " + "six" * 300_000,
        "words before one number": "x = " + "a b " * 250_000 + "6.",
    }
