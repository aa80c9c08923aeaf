"""Runs several commands of OpenSSF's `model_signing` in one process, by the Python of its environment: importing it takes most of the time.

Standard input is a JSON list of lists of arguments; prints the list of exit codes.
"""

import importlib
import json
import sys


def exit_code(arguments: list[str]) -> int:
    """Of one command line; what it says goes to stderr."""
    try:
        importlib.import_module("model_signing._cli").main(args=arguments, standalone_mode=False)
    except SystemExit as error:
        return int(error.code or 0)
    except Exception as error:  # noqa: BLE001 - a failed verification is what some tests ask for
        print(f"{arguments}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    commands, out = json.load(sys.stdin), sys.stdout
    sys.stdout = sys.stderr
    codes = [exit_code(arguments) for arguments in commands]
    print(json.dumps(codes), file=out)
