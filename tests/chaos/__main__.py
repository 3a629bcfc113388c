"""`make chaos`: plays every fault on both backends and prints what came of it; exit status 1 if anything was lost."""

import argparse
import random
import sys
from collections.abc import Iterator
from contextlib import closing

from chaos.arena import Backend
from chaos.plan import CLOCK, CLOSING, DISK, Outcome, every_fault, play, play_closing, play_machine
from chaos.scenario import Scenario
from rich.console import Console
from rich.table import Table

BACKENDS: tuple[Backend, ...] = ("sqlite", "postgresql")


def main() -> int:
    """Plays what the options ask for."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the random kills")
    parser.add_argument("--kills", type=int, default=50, help="random kills a backend")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="only this one")
    parser.add_argument("--only", action="append", help="only faults with this in their name")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"seed {options.seed}", highlight=False)
    with closing(Scenario()) as scenario:
        outcomes = []
        for outcome in _play(scenario, options):
            outcomes.append(outcome)
            said = "lost: " + outcome.lost if outcome.lost else "ok"
            console.print(f"{outcome.backend:10} {outcome.fault:36} {outcome.seconds:6.1f} s  {said}", highlight=False)
    console.print(_table(outcomes, options.seed))
    return 1 if any(outcome.lost for outcome in outcomes) else 0


def _play(scenario: Scenario, options: argparse.Namespace) -> Iterator[Outcome]:
    def wanted(name: str) -> bool:
        return not options.only or any(part in name for part in options.only)

    ordinary = {name: fault for name, fault in every_fault(options.kills).items() if wanted(name)}
    for backend in options.backend or BACKENDS:
        yield from play(backend, ordinary, scenario, options.seed)
        if wanted(CLOCK) or wanted(DISK):
            yield from play_machine(backend, scenario, options.seed)
    if "postgresql" in (options.backend or BACKENDS) and wanted(CLOSING):
        yield play_closing(scenario, 20)


def _table(outcomes: list[Outcome], seed: int) -> Table:
    table = Table("fault", "backend", "outcome", "seconds", "note", title=f"Chaos, seed {seed}")
    for one in outcomes:
        outcome = "[red]LOST[/red]" if one.lost else "[green]nothing lost[/green]"
        table.add_row(one.fault, one.backend, outcome, f"{one.seconds:.1f}", one.lost or one.note)
    return table


if __name__ == "__main__":
    sys.exit(main())
