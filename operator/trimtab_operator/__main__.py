"""`python -m trimtab_operator run` runs the operator; `crds` prints the custom resource definitions; `generate` writes what is generated."""

import argparse
import asyncio
import logging
import os
import sys
import time

from trimtab_operator import generate
from trimtab_operator.errors import OperatorError


def _log() -> None:
    """One line a fact, keys and values, to standard error."""
    logging.basicConfig(
        level=os.environ.get("TRIMTAB_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.Formatter.converter = time.gmtime
    # Kopf logs bodies of objects when it is asked to be verbose; how its watches end is said by handlers.py, in one line.
    logging.getLogger("kopf").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


def _run() -> int:
    # Printing CRDs needs neither Kopf nor an API server: the imports of `run` cost a second.
    from trimtab_operator.cluster.connection import connect  # noqa: PLC0415
    from trimtab_operator.runtime import Operator  # noqa: PLC0415
    from trimtab_operator.settings import Settings  # noqa: PLC0415

    async def operate() -> int:
        return await Operator(connect(), Settings.from_environment()).run()

    _log()
    try:
        return asyncio.run(operate())
    except OperatorError as error:
        logging.getLogger(__name__).critical("cannot_start error=%r", str(error))
        return 1


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="trimtab_operator", description=__doc__)
    parser.add_argument("command", choices=("run", "crds", "generate"))
    parsed, rest = parser.parse_known_args(arguments)
    match parsed.command:
        case "run":
            return _run()
        case "crds":
            generate.print_crds()
            return 0
        case _:
            return generate.main(rest)


if __name__ == "__main__":
    sys.exit(main())
