"""`make golden`: records what the operators make of the golden cases; refuses where an operator's version did not rise."""

import sys

import click
from golden.cases import all_cases

from curation.operator import REGISTRY


@click.command()
@click.argument("kinds", nargs=-1)
def main(kinds: tuple[str, ...]) -> None:
    """Records the cases of the operators KINDS, by default of all; exit status 1 if one was refused."""
    refused = 0
    wanted = set(kinds) or {case.kind for case in all_cases()}
    if strange := wanted - set(REGISTRY):
        raise click.UsageError(f"no operator {min(strange)}: its line in curation/operators/__init__.py is missing")
    for case in all_cases():
        if case.kind not in wanted:
            continue
        try:
            if case.record():
                click.echo(f"recorded {case.name} of version {case.operator.version}")
        except ValueError as error:
            refused += 1
            click.echo(str(error), err=True)
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main(prog_name="make golden")
