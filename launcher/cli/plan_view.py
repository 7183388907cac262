"""Printing a plan: what will be done, where, with which files, and what was changed and why."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import yaml

from backends.offer import Offer
from launcher import environment
from launcher.cli import bills_view, order_view
from launcher.commands import CONFIG
from launcher.derive import to_yaml
from launcher.launch import planned_jobs
from launcher.plan_text import arguments, command_text, hardware, printable
from launcher.planning import Prepared
from launcher.quotes.market import STALE
from launcher.quotes.words import hourly
from launcher.run import build, limits
from launcher.run.adding import hardware_of
from launcher.run.pull import human_bytes
from launcher.run.spec import JobSpec
from launcher.store import Store
from launcher.upload import upload

if TYPE_CHECKING:
    from launcher.quotes.quote import Quote

_MINUTE = timedelta(minutes=1)


def show(prepared: Prepared, store: Store, *, as_json: bool) -> None:
    """The whole plan: what `--dry-run` prints."""
    if as_json:
        click.echo(json.dumps(document(prepared, store), indent=2))
        return
    _heading(prepared)
    order_view.show(prepared)
    _upload(prepared, store)
    _quote(prepared, store)
    for job in planned_jobs(prepared):
        click.echo(f"\njob {job.kind}{_apart(prepared, job)}")
        for attach in job.attach:
            click.echo(f"  sees an earlier job's files at {attach.at}/")
        for step in job.plan.steps:
            click.echo(f"  in {step.cwd}/: {command_text(step.argv)}")
        for name, value in sorted(job.env.items()):
            click.echo(f"  with {name}={value}")
    _files(prepared)
    _changes(prepared)
    _environment(prepared)
    told = [
        name if os.environ.get(name) else f"{name} (not set in this terminal)"
        for name in prepared.run.secrets
    ]
    told += prepared.run.kept_secrets
    click.echo(f"\nsecrets needed: {', '.join(told) if told else 'none'}")
    click.echo(f"results go to:  {prepared.output}")
    click.echo(f"on every other offer: ftlaunch estimate {prepared.request.source}")
    click.echo("\ndry run: nothing was started")


def show_brief(prepared: Prepared, store: Store, *, quiet: bool) -> None:
    """What a launch says before it begins."""
    for problem in prepared.problems:
        click.echo(f"warning: {problem.where}: {problem.message}", err=True)
    for text in prepared.not_checked:
        click.echo(f"not checked: {text}", err=True)
    if quiet:
        return
    _heading(prepared)
    order_view.show(prepared)
    _upload(prepared, store)
    _quote(prepared, store)
    count = len(prepared.bundle.files) + len(prepared.bundle.caches) + 1
    size = human_bytes(prepared.bundle.size_bytes)
    click.echo(f"  {count} files and folders travel ({size}); --dry-run lists them")
    _changes(prepared)


def _heading(prepared: Prepared) -> None:
    offer = prepared.offer
    rented = hardware(offer)
    if offer.region:
        rented += f" in {offer.region}"
    if offer.spot:
        rented += ", spot"
    if offer.disk_gib is not None:
        asked = 0 if prepared.run.need is None else prepared.run.need.disk_gib or 0
        least = f" ({asked} asked for, it rents no less)" if 0 < asked < offer.disk_gib else ""
        rented += f", {offer.disk_gib} GiB of disk{least}"
    each = f", {offer.of(1).price} each" if offer.nodes > 1 else ""
    price = f"{hourly(offer)} an hour{each} ({offer.source}{_age(offer)})"
    if offer.price.amount == 0:
        # Elsewhere nothing is free: who names no price says why.
        price = "no charge" if offer.here else offer.source
    click.echo(f"run {prepared.name}: {prepared.recipe.origin}")
    click.echo(f"  on {prepared.backend_spec}: {rented}, {price}")
    if offer.instead:
        click.echo(f"  or {offer.instead}")
    if offer.keeps:
        click.echo(f"  checkpoints and results are kept in {offer.keeps}")
    if prepared.doubt:
        click.echo(f"  prices are dated; {prepared.doubt}")
    if build.prepares_apart(prepared.run, offer) and offer.plain is not None:
        click.echo(
            "  data and base model are got ready first, by a job without a GPU at "
            f"{offer.plain.price} an hour"
        )
    bills_view.alone(prepared)
    if (limit := _limit(prepared)) is not None:
        whole = timedelta(seconds=round(limit.total_seconds()) or 1)
        cost = prepared.run.max_cost
        spent = cost is not None and limit != prepared.run.max_duration
        why = f": ${cost} are spent then, at this price" if spent else ""
        click.echo(f"  ends by itself after {whole}{why}")


def _age(offer: Offer) -> str:
    """The day of a price that is not of today; an old one is called so."""
    read = offer.read_at
    if read is None:
        return ", of an unknown day, old"
    days = (datetime.now(UTC) - read).days
    return "" if days < 1 else f", of {read:%Y-%m-%d}" + (", old" if days > STALE.days else "")


def _limit(prepared: Prepared) -> timedelta | None:
    return limits.whole(prepared.run.max_duration, prepared.run.max_cost, prepared.offer)


def _apart(prepared: Prepared, job: JobSpec) -> str:
    """What a job runs on, where that is not what the run is on."""
    offer = hardware_of(job, prepared.offer)
    return "" if offer is prepared.offer else f" (without a GPU: {offer.price} an hour)"


def _upload(prepared: Prepared, store: Store) -> None:
    """How long the machine will wait for its files, and what that costs."""
    found = upload(prepared, store)
    if found is None:
        return
    how = "by this machine's uplink, as last measured"
    if found.measured_at is None:
        how = "if 10 Mbit/s leave this machine: a guess, the first launch measures it"
    took = "under a minute" if found.took < _MINUTE else f"about {found.took / _MINUTE:.0f} min"
    size = human_bytes(found.size_bytes)
    waits = "nothing is rented meanwhile" if prepared.offer.ends else f"{found.cost} of waiting"
    click.echo(
        f"  upload: at most {size}, {took}, {waits} ({how}); what is there is not sent again"
    )
    if found.heavy and found.share is not None:
        click.echo(
            f"warning: the upload is {found.share:.0%} of the job, and the machine is paid for "
            "meanwhile; with --on-finish pause later jobs do not send it again",
            err=True,
        )


def _quote(prepared: Prepared, store: Store) -> None:
    """Time, dollars and memory of the whole job, where they can be estimated."""
    from launcher.quotes import learning
    from launcher.quotes.planned import quoted
    from launcher.quotes.words import drawn, money, time_words

    sent = upload(prepared, store)
    size = 0 if sent is None else sent.size_bytes
    found = quoted(prepared, upload_bytes=size, learned=learning.of(store.measurements()))
    if isinstance(found, str):
        click.echo(f"  not estimated: {found}")
    if found is None or isinstance(found, str) or found.memory is None:
        return
    held = found.memory
    memory = f"{held.nvml.middle:.0f} of {held.usable:.0f} GiB on a GPU"
    if found.hours is not None and found.cost is not None:
        whole = "" if prepared.offer.here else f", {money(found.cost)} in all"
        click.echo(f"  about {time_words(found.hours)}{whole}; {memory} (an estimate)")
    else:
        click.echo(f"  {memory} (an estimate; how long it takes is not known)")
    if learned := drawn(found.pace, found.held):
        click.echo(f"  {learned}")
    _within_limits(prepared, found)
    if found.fits == "no":
        click.echo(
            f"warning: it will hardly fit: it takes about {held.nvml.middle:.0f} GiB on each GPU, "
            f"and a {prepared.offer.gpu} has {held.usable:.0f}; see: "
            f"ftlaunch estimate {prepared.request.source}",
            err=True,
        )


def _within_limits(prepared: Prepared, found: Quote) -> None:
    """Say that a limit will end the run before it is done, or may."""
    limit = _limit(prepared)
    if limit is None or found.hours is None:
        return
    from launcher.quotes.words import time_words

    hours = limit / timedelta(hours=1)
    if hours < found.hours.middle:
        ends = "will hardly be done" if hours < found.hours.low else "may not be done"
        click.echo(
            f"warning: it {ends} when its limit of "
            f"{timedelta(seconds=round(limit.total_seconds()) or 1)} "
            f"ends it: about {time_words(found.hours)}",
            err=True,
        )


def _files(prepared: Prepared) -> None:
    bundle = prepared.bundle
    config = to_yaml(prepared.run.config).encode()
    total = sum(file.size_bytes for file in bundle.files) + len(config)
    click.echo(f"\nfiles that travel ({human_bytes(total)}):")
    digest = hashlib.sha256(config).hexdigest()
    place = prepared.run.workdir / CONFIG
    click.echo(f"  {digest[:12]}  {len(config):>10}  {place}  (your config, changed as below)")
    for file in bundle.files:
        click.echo(f"  {file.sha256[:12]}  {file.size_bytes:>10}  {printable(str(file.at))}")
    for cache in bundle.caches:
        size = human_bytes(cache.tree.size_bytes)
        click.echo(f"  {cache.key[:12]}  {size:>10}  {cache.at}/  (shared, sent once)")
    if prepared.model is not None:
        place = prepared.run.config["base_model"]
        click.echo(f"  base model {place} from {prepared.model}")
    for ref in bundle.hub_refs:
        click.echo(f"  {ref.key}: {ref.kind} {ref.id}, over the network, by the job itself")


def _changes(prepared: Prepared) -> None:
    if not prepared.changes:
        return
    click.echo("\nset for this run (your file is not changed):")
    for change in prepared.changes:
        value = json.dumps(change.after, ensure_ascii=False, default=str)
        click.echo(f"  {change.key}: {value}  ({change.why})")


def _environment(prepared: Prepared) -> None:
    spec = prepared.environment
    if prepared.offer.here:
        made = "made already" if environment.healthy(environment.prefix_of(spec)) else "made first"
        how = f"{made}: {environment.prefix_of(spec)}"
    elif prepared.run.image and prepared.offer.backend in environment.TAKE_IMAGES:
        click.echo(f"\nenvironment: the image {prepared.run.image}, as it is")
        return
    elif prepared.offer.backend in environment.TAKE_IMAGES:
        how = "an image that has exactly these, made there once and used again"
    else:
        how = "the machine's own axolotl if its versions are these, else installed there"
    click.echo(f"\nenvironment: {spec.lock.name} ({how})")
    if prepared.run.image:
        click.echo(f"  {prepared.offer.backend} takes no image: {prepared.run.image} is not used")
    for note in spec.notes:
        click.echo(f"  {note}")


def document(prepared: Prepared, store: Store) -> dict[str, Any]:
    """The plan as data, for `--json`."""
    offer = prepared.offer
    sent, limit = upload(prepared, store), _limit(prepared)
    return {
        "run": prepared.name,
        "recipe": prepared.recipe.origin,
        "backend": prepared.backend_spec,
        "offer": {
            "gpu": offer.gpu,
            "count": offer.count,
            "nodes": offer.nodes,
            "price_per_hour": str(offer.price.amount),
            "currency": offer.price.currency,
            "source": offer.source,
            "region": offer.region,
            "spot": offer.spot,
            "instead": offer.instead,
            "keeps": offer.keeps,
            "read_at": None if offer.read_at is None else offer.read_at.isoformat(),
            "doubt": prepared.doubt,
        },
        "upload": None
        if sent is None
        else {
            "bytes": sent.size_bytes,
            "seconds": sent.took.total_seconds(),
            "cost": str(sent.cost.amount),
            "measured_at": None if sent.measured_at is None else sent.measured_at.isoformat(),
            "share": sent.share,
        },
        "order": order_view.document(prepared),
        "left_out": list(prepared.run.left_out),
        "max_duration_s": None if limit is None else limit.total_seconds(),
        "jobs": [_job(job) for job in planned_jobs(prepared)],
        "files": [
            {"path": str(file.at), "size": file.size_bytes, "sha256": file.sha256}
            for file in prepared.bundle.files
        ],
        "caches": [
            {"path": str(cache.at), "key": cache.key, "size": cache.tree.size_bytes}
            for cache in prepared.bundle.caches
        ],
        "config": json.loads(json.dumps(prepared.run.config, default=str)),
        "changes": [
            {"key": c.key, "before": _plain(c.before), "after": _plain(c.after), "why": c.why}
            for c in prepared.changes
        ],
        "environment": {
            "lock": prepared.environment.lock.name,
            "variables": dict(planned_jobs(prepared)[0].env),
        },
        "secrets": [*prepared.run.secrets, *prepared.run.kept_secrets],
        "warnings": [f"{p.where}: {p.message}" for p in prepared.problems],
        "output": str(prepared.output),
    }


def _plain(value: Any) -> Any:
    return yaml.safe_load(yaml.safe_dump(value)) if value is not None else None


def _job(job: JobSpec) -> dict[str, Any]:
    return {
        "kind": job.kind,
        "attach": [str(attach.at) for attach in job.attach],
        "steps": [
            {"name": step.name, "cwd": step.cwd, "argv": arguments(step.argv)}
            for step in job.plan.steps
        ],
    }
