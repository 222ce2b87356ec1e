"""`jclip index --prune`: removes the records of files that are gone, unless the files may only be out of reach."""

from collections.abc import Sequence
from dataclasses import dataclass

from jclip_connectors.cli import terminal
from jclip_connectors.indexing import Found, IndexReport, find_missing, reasons_to_keep
from jclip_connectors.port import VectorStore

_NAMED = 10  # of the records that would be removed


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """The result of `prune_records`.

    Attributes:
        missing: the ids of the records whose file no longer exists.
        reasons: why these records were kept; empty if they were removed.
    """

    missing: Sequence[str]
    reasons: Sequence[str]


def prune_records(records: VectorStore, found: Found, done: IndexReport, *, anyway: bool) -> PruneResult:
    """Remove the records of files that no longer exist; keep all of them if there is doubt and `anyway` is false."""
    missing = find_missing(records, found, done)
    reasons = [] if anyway or not missing else reasons_to_keep(missing, found, count=records.count())
    if missing and not reasons:
        records.delete(missing)
    return PruneResult(missing=missing, reasons=reasons)


def say_pruned(result: PruneResult) -> None:
    """Say what was removed; or what would be removed, why it was not, and what removes it."""
    if not result.reasons:
        if result.missing:
            terminal.say(f"{len(result.missing)} records removed")
        return
    terminal.say(
        f"nothing was removed: the files of {len(result.missing)} records do not exist now, but may be on a drive that "
        "is not mounted",
        style="red",
    )
    for reason in result.reasons:
        terminal.say(f"  {reason}", style="red")
    terminal.say("these records would be removed:")
    for record_id in result.missing[:_NAMED]:
        terminal.say(f"  {record_id}")
    if len(result.missing) > _NAMED:
        terminal.say(f"  and {len(result.missing) - _NAMED} more")
    terminal.say("if these files are gone for good, the same command with --prune --prune-anyway removes the records")
