"""The command lines `python -m verifiers NAME FILE.jsonl` and `python -m verifiers audit NAME FILE --against OTHER`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from verifiers import audit, file_scores, registry
from verifiers.plugins import VerifierError

EXAMPLE = """example:
  echo '{"id": 1, "completion": "2+3=5. The answer is 5.", "reference": "5"}' > answers.jsonl
  python -m verifiers math answers.jsonl --workers 2 --set fallback=none > verdicts.jsonl
  python -m verifiers audit math answers.jsonl --against math_verify
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verifiers",
        description="Check completions: a line of FILE is {id, completion, reference}, a line of the output "
        "is {id, status, score, answer, reason, seconds}, in the same order.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="a verifier, see --list, or pkg.module:function")
    parser.add_argument("file", nargs="?", help="a JSONL file, or - for standard input")
    parser.add_argument("--workers", type=int, help="processes (default: one a core; 0: this process)")
    parser.add_argument("--timeout", type=float, help="seconds an item (default: the verifier's)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option; repeatable")
    parser.add_argument("--list", action="store_true", help="show every verifier with its options and an example")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0; 1 if no worker can load the verifier; 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["audit"]:
        return _exit_status(lambda: audit.main(given[1:]))
    parser = _parser()
    args = parser.parse_args(given)
    if args.list:
        print(file_scores.describe_all(registry.names()))
        return 0
    if args.name is None or args.file is None:
        parser.error("give a verifier's name and a file, or --list")

    def score() -> None:
        options = file_scores.parse_options(registry.get(args.name), args.set)
        file_scores.score_file(
            args.name, args.file, out=sys.stdout, workers=args.workers, timeout=args.timeout, **options
        )

    return _exit_status(score)


def _exit_status(work: Callable[[], None]) -> int:
    """Call `work` and return the exit status; mistakes of the user are printed in one line, without a traceback."""
    try:
        work()
    except (
        VerifierError,
        file_scores.BadLine,
        FileNotFoundError,
        IsADirectoryError,
        UnicodeDecodeError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except registry.WorkerLoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # As after `| head`. Python would raise again when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
